#pragma once
// `fr-data inspect`: what a data directory or a verification set holds.

#include <filesystem>
#include <string>

namespace fr {

// Lines for people about a training set and every .bin in its directory, or one .bin file. Throws
// Error as the readers do.
std::string DescribeData(const std::filesystem::path& path);

}  // namespace fr
