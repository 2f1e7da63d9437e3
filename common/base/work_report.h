#pragma once
// How a long piece of work tells whoever started it how far it is.

#include <cstdint>
#include <functional>
#include <string>

namespace fr {

// Both are called by the thread that called the work. The defaults say nothing.
struct WorkReport {
  // `done` of `total` pieces of work; the first call says what an earlier run had done.
  std::function<void(std::int64_t done, std::int64_t total)> progress = [](std::int64_t,
                                                                           std::int64_t) {};
  // One line for people: "going on where an earlier run stopped".
  std::function<void(const std::string& line)> say = [](const std::string&) {};
};

}  // namespace fr
