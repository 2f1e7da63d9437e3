#pragma once
// How many requests were answered.

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace fr {

// Thread-safe.
class RequestCounts {
 public:
  using Key = std::pair<std::string, std::string>;  // what was asked for, how it ended

  void Add(const std::string& what, const std::string& end) {
    const std::lock_guard lock(mutex_);
    ++counts_[{what, end}];
  }
  std::map<Key, std::int64_t> Get() const {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

 private:
  mutable std::mutex mutex_;
  std::map<Key, std::int64_t> counts_;
};

}  // namespace fr
