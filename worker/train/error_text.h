#pragma once
// What an exception says, for people.

#include <exception>
#include <string>

namespace fr {

// what(), without the stack trace that LibTorch puts behind its own errors' messages.
std::string ErrorText(const std::exception& error);

}  // namespace fr
