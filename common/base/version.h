#pragma once
// The version that every program names: the project's in CMakeLists.txt
// (tests/e2e hold the two together).

namespace fr {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace fr
