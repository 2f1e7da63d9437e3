#pragma once
// Who may have how much, and who has used how much lately.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "coordinator/scheduler/scheduler.h"
#include "proto/coordinator.pb.h"
#include "proto/record.pb.h"

namespace fr {

// Not thread-safe.
class UserBook {
 public:
  UserBook(const CoordinatorSpec& spec, const std::vector<UserRecord>& records);

  const UserLimits& LimitsOf(const std::string& owner) const;

  // The user's record with `slot_seconds` more, as of `now_ms`; Set makes it so once it is in the
  // store.
  UserRecord Charged(const std::string& owner, double slot_seconds, std::int64_t now_ms) const;
  void Set(const UserRecord& record);

  double UsedBy(const std::string& owner, std::int64_t now_ms) const;  // slot-seconds, decayed

  // Users who are configured, or have used something that still counts.
  std::vector<std::string> Names(std::int64_t now_ms) const;
  UserView ViewOf(const std::string& owner, std::int64_t now_ms) const;

 private:
  std::int64_t half_life_ms_;
  UserLimits for_all_;
  std::map<std::string, UserLimits> limits_;
  std::map<std::string, UserRecord> records_;
};

}  // namespace fr
