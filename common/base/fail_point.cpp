#include "common/base/fail_point.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>

namespace fr {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

class FailPoints {
 public:
  FailPoints() : wanted_(Environment("FR_FAIL_POINT")), list_(Environment("FR_FAIL_POINT_LIST")) {
    // Names hold colons themselves: only a number behind the last one is a count.
    const std::size_t colon = wanted_.rfind(':');
    if (colon == std::string::npos || colon + 1 == wanted_.size()) return;
    if (wanted_.find_first_not_of("0123456789", colon + 1) != std::string::npos) return;
    wanted_hit_ = std::atol(wanted_.c_str() + colon + 1);
    wanted_.resize(colon);
  }

  void Reach(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const long hit = ++hits_[name];
    if (hit == 1 && !list_.empty()) std::ofstream(list_, std::ios::app) << name << std::endl;
    if (name != wanted_ || hit != wanted_hit_) return;
    std::fprintf(stderr, "killed at the fail point '%s'\n", name.c_str());
    std::fflush(stderr);
    raise(SIGKILL);
  }

 private:
  std::string wanted_;
  long wanted_hit_ = 1;
  const std::string list_;
  std::mutex mutex_;
  std::map<std::string, long> hits_;
};

}  // namespace

void ReachFailPoint(const std::string& name) {
  static FailPoints points;  // of the process, as its environment is
  points.Reach(name);
}

}  // namespace fr
