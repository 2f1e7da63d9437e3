#pragma once
// The dashboard's files, embedded at build time (dashboard.cmake).

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace fr {

// Path as the browser asks for it ("/style.css") -> the file's bytes.
const std::map<std::string, std::string_view>& DashboardFiles();

}  // namespace fr
