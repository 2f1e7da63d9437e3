#include "coordinator/users/user_book.h"

#include <set>

namespace fr {
namespace {

// Less than a second of one slot is forgotten.
constexpr double kNothing = 1;

}  // namespace

UserBook::UserBook(const CoordinatorSpec& spec, const std::vector<UserRecord>& records)
    : half_life_ms_(spec.scheduler().fair_share_half_life_ms()), for_all_(spec.limits()) {
  for (const UserSpec& user : spec.users()) {
    limits_[user.name()] = for_all_;
    limits_[user.name()].MergeFrom(user.limits());
  }
  for (const UserRecord& record : records) Set(record);
}

const UserLimits& UserBook::LimitsOf(const std::string& owner) const {
  const auto found = limits_.find(owner);
  return found != limits_.end() ? found->second : for_all_;
}

UserRecord UserBook::Charged(const std::string& owner, double slot_seconds,
                             std::int64_t now_ms) const {
  UserRecord record;
  record.set_name(owner);
  record.set_slot_seconds(UsedBy(owner, now_ms) + slot_seconds);
  record.set_as_of_ms(now_ms);
  return record;
}

void UserBook::Set(const UserRecord& record) { records_[record.name()] = record; }

double UserBook::UsedBy(const std::string& owner, std::int64_t now_ms) const {
  const auto found = records_.find(owner);
  if (found == records_.end()) return 0;
  return DecayedUse(found->second.slot_seconds(), now_ms - found->second.as_of_ms(), half_life_ms_);
}

std::vector<std::string> UserBook::Names(std::int64_t now_ms) const {
  std::set<std::string> names;
  for (const auto& [name, limits] : limits_) names.insert(name);
  for (const auto& [name, record] : records_) {
    if (UsedBy(name, now_ms) >= kNothing) names.insert(name);
  }
  return {names.begin(), names.end()};
}

UserView UserBook::ViewOf(const std::string& owner, std::int64_t now_ms) const {
  const UserLimits& limits = LimitsOf(owner);
  UserView view;
  view.slot_seconds = UsedBy(owner, now_ms);
  view.share = limits.share();
  view.max_workers = limits.max_workers();
  return view;
}

}  // namespace fr
