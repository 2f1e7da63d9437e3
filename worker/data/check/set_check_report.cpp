#include "worker/data/check/set_check_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "common/cli/text.h"

namespace fr {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr std::size_t kExamples = 5;
constexpr std::size_t kGroupMembers = 3;  // of a group, that are named

Json ToJson(const std::vector<ImageFault>& faults) {
  Json list = Json::array();
  for (const ImageFault& fault : faults) {
    Json item = {{"index", fault.index}};
    if (fault.key) item["key"] = *fault.key;
    if (fault.byte) item["byte"] = *fault.byte;
    item["where"] = fault.where;
    item["cause"] = fault.cause;
    list.push_back(std::move(item));
  }
  return list;
}

Json ToJson(const std::vector<DuplicateGroup>& groups) {
  Json list = Json::array();
  for (const DuplicateGroup& group : groups) {
    list.push_back(
        {{"images", group.images}, {"identities", group.identities}, {"where", group.where}});
  }
  return list;
}

Json ToJson(const RecordCheck& records) {
  Json list = Json::array();
  for (const RecordFault& fault : records.faults) {
    Json item = Json::object();
    if (fault.key != RecordFault::kNoKey) item["key"] = fault.key;
    item["byte"] = fault.offset;
    item["cause"] = fault.what;
    list.push_back(std::move(item));
  }
  return list;
}

Json Head(const char* kind, const std::filesystem::path& path, bool ok,
          const std::string& unreadable) {
  return {{"format", kFormat},
          {"kind", kind},
          {"path", path.string()},
          {"ok", ok},
          {"unreadable", unreadable.empty() ? Json(nullptr) : Json(unreadable)}};
}

std::string Dump(const Json& json) {
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// "  broken images       2   cause" and the other examples below each other.
std::string FindingText(const char* name, std::int64_t count,
                        const std::vector<std::string>& examples) {
  if (count == 0) return "";
  std::string text = fmt::format("  {:<31} {:>9}\n", name, CountText(count));
  for (const std::string& example : examples) text += fmt::format("      {}\n", OneLine(example));
  if (count > std::ssize(examples)) text += "      ...\n";
  return text;
}

template <typename Item, typename ToText>
std::vector<std::string> Examples(const std::vector<Item>& items, const ToText& to_text) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < std::min(kExamples, items.size()); ++i) {
    texts.push_back(to_text(items[i]));
  }
  return texts;
}

std::string FaultsText(const char* name, const std::vector<ImageFault>& faults) {
  return FindingText(name, std::ssize(faults), Examples(faults, [](const ImageFault& fault) {
                       // Readers of records say where, too.
                       return fault.cause.starts_with(fault.where)
                                  ? fault.cause
                                  : fmt::format("{}: {}", fault.where, fault.cause);
                     }));
}

std::string GroupsText(const char* name, const std::vector<DuplicateGroup>& groups) {
  return FindingText(name, std::ssize(groups), Examples(groups, [](const DuplicateGroup& group) {
                       std::string text;
                       for (std::size_t i = 0; i < std::min(kGroupMembers, group.images.size());
                            ++i) {
                         text += fmt::format("{}{} (identity {})", i == 0 ? "" : ", ",
                                             group.where[i], group.identities[i]);
                       }
                       return text + (group.images.size() > kGroupMembers ? ", ..." : "");
                     }));
}

std::string NumbersText(const char* name, const std::vector<std::int64_t>& numbers,
                        const char* what) {
  return FindingText(name, std::ssize(numbers), Examples(numbers, [what](std::int64_t number) {
                       return fmt::format("{} {}", what, number);
                     }));
}

std::string Verdict(bool ok, const std::string& unreadable) {
  if (!unreadable.empty()) return fmt::format("  cannot be used: {}\n", unreadable);
  return ok ? "  all is well\n" : "";
}

}  // namespace

std::string CheckReportJson(const TrainingSetCheck& check) {
  Json json = Head("training_set", check.path, check.ok(), check.unreadable);
  json["images"] = check.num_images;
  json["identities"] = check.num_identities;
  json["height"] = check.height;
  json["width"] = check.width;
  json["broken"] = ToJson(check.broken);
  json["wrong_size"] = ToJson(check.wrong_size);
  json["duplicates_within_identity"] = ToJson(check.duplicates.within_identity);
  json["duplicates_across_identities"] = ToJson(check.duplicates.across_identities);
  json["empty_identities"] = check.empty_identities;
  json["record_faults"] = ToJson(check.records);
  json["num_record_faults"] = check.records.num_faults;
  return Dump(json);
}

std::string CheckReportJson(const VerificationSetCheck& check) {
  Json json = Head("verification_set", check.path, check.ok(), check.unreadable);
  json["images"] = 2 * check.num_pairs;
  json["pairs"] = check.num_pairs;
  json["height"] = check.height;
  json["width"] = check.width;
  json["broken"] = ToJson(check.broken);
  json["wrong_size"] = ToJson(check.wrong_size);
  json["identical_pairs"] = check.identical_pairs;
  json["contradicting_pairs"] = check.contradicting_pairs;
  return Dump(json);
}

std::string CheckReportText(const TrainingSetCheck& check) {
  std::string text = check.path.string() + "\n";
  if (check.unreadable.empty()) {
    text +=
        fmt::format("  {} images of {} identities, {} x {} pixels\n", CountText(check.num_images),
                    CountText(check.num_identities), check.width, check.height);
  }
  text += Verdict(check.ok(), check.unreadable);
  text += FaultsText("broken images", check.broken);
  text += FaultsText("images of another size", check.wrong_size);
  text += GroupsText("same image in several identities", check.duplicates.across_identities);
  text += GroupsText("same image twice in an identity", check.duplicates.within_identity);
  text += NumbersText("identities without an image", check.empty_identities, "identity");
  return text + FindingText("faults of the records", check.records.num_faults,
                            Examples(check.records.faults, DescribeFault));
}

std::string CheckReportText(const VerificationSetCheck& check) {
  std::string text = check.path.string() + "\n";
  if (check.unreadable.empty()) {
    text += fmt::format("  {} pairs, {} x {} pixels\n", CountText(check.num_pairs), check.width,
                        check.height);
  }
  text += Verdict(check.ok(), check.unreadable);
  text += FaultsText("broken images", check.broken);
  text += FaultsText("images of another size", check.wrong_size);
  text += NumbersText("pairs of an image with itself", check.identical_pairs, "pair");
  return text + NumbersText("pairs that contradict another", check.contradicting_pairs, "pair");
}

}  // namespace fr
