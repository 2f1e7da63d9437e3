#pragma once
// `fr-data inspect`: what a data directory or a verification set holds.

#include <filesystem>
#include <string>

namespace fr {

// Lines for people about a directory (train.rec and every .bin beside it) or one .bin file. Throws
// Error as the readers do.
std::string DescribeData(const std::filesystem::path& path);

}  // namespace fr
