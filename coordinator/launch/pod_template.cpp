#include "coordinator/launch/pod_template.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxBytes = 1 << 20;
constexpr int kMaxDepth = 32;
constexpr std::size_t kMaxNodes = 100'000;  // aliases let a small file grow without end

// Whole numbers and numbers as YAML 1.2 has them; nothing where the text is none.
std::optional<json> Number(const std::string& text) {
  const char* end = text.data() + text.size();
  std::int64_t whole = 0;
  const auto [whole_end, whole_error] = std::from_chars(text.data(), end, whole);
  if (whole_error == std::errc() && whole_end == end) return whole;
  double number = 0;
  const auto [number_end, number_error] = std::from_chars(text.data(), end, number);
  if (number_error == std::errc() && number_end == end && std::isfinite(number)) return number;
  return std::nullopt;
}

// A scalar that stands without quotes is what it looks like.
json ScalarJson(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // in quotes
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  if (const std::optional<json> number = Number(text)) return *number;
  return text;
}

class Reader {
 public:
  explicit Reader(std::string file) : file_(std::move(file)) {}

  json Read(const YAML::Node& node, int depth) {
    if (depth > kMaxDepth || ++nodes_ > kMaxNodes) {
      if (!too_large_) Add(node.Mark(), "is nested too deep, or too large");
      too_large_ = true;
      return nullptr;
    }
    switch (node.Type()) {
      case YAML::NodeType::Map:
        return ReadMap(node, depth);
      case YAML::NodeType::Sequence: {
        json list = json::array();
        for (const YAML::Node& item : node) list.push_back(Read(item, depth + 1));
        return list;
      }
      case YAML::NodeType::Scalar:
        return ScalarJson(node);
      default:
        return nullptr;
    }
  }

  // Only the named keys may stand in `node`, a section, each with what its kind says.
  struct Key {
    const char* name;
    YAML::NodeType::value type;
  };
  void CheckKeys(const YAML::Node& node, const std::string& where, const std::vector<Key>& keys,
                 bool others) {
    if (!node.IsDefined() || node.IsNull()) return;
    if (!CheckType(node, where, YAML::NodeType::Map)) return;
    for (const auto& pair : node) {
      if (!pair.first.IsScalar()) continue;  // Read complains
      const std::string name = pair.first.Scalar();
      bool known = others;
      for (const Key& key : keys) {
        if (name != key.name) continue;
        known = true;
        CheckType(pair.second, where.empty() ? name : fmt::format("{}.{}", where, name), key.type);
      }
      if (!known) {
        Add(pair.first.Mark(),
            fmt::format("{}: a pod template has no such key{}", name,
                        where.empty() ? ": metadata and spec are expected" : " in " + where));
      }
    }
  }

  bool CheckType(const YAML::Node& node, const std::string& what, YAML::NodeType::value type) {
    if (node.IsNull() || node.Type() == type) return true;
    const char* expected = type == YAML::NodeType::Map        ? "a section of keys"
                           : type == YAML::NodeType::Sequence ? "a list"
                                                              : "one value";
    Add(node.Mark(), fmt::format("{}: {} is expected", what, expected));
    return false;
  }

  void Add(const YAML::Mark& mark, const std::string& text) {
    errors_.emplace(std::pair(mark.line, mark.column),
                    fmt::format("{}:{}:{}: {}", file_, mark.line + 1, mark.column + 1, text));
  }

  void ThrowErrors() const {
    std::string text;
    for (const auto& [place, error] : errors_) text += (text.empty() ? "" : "\n") + error;
    if (!text.empty()) throw Error(ErrorCode::kInvalidArgument, text);
  }

 private:
  json ReadMap(const YAML::Node& node, int depth) {
    json section = json::object();
    for (const auto& pair : node) {
      if (!pair.first.IsScalar()) {
        Add(pair.first.Mark(), "a key is expected to be a word");
        continue;
      }
      if (section.contains(pair.first.Scalar())) {
        Add(pair.first.Mark(), pair.first.Scalar() + ": stands twice");
        continue;
      }
      section[pair.first.Scalar()] = Read(pair.second, depth + 1);
    }
    return section;
  }

  std::string file_;
  std::multimap<std::pair<int, int>, std::string> errors_;  // by line and column
  std::size_t nodes_ = 0;
  bool too_large_ = false;
};

// Lists of sections in a pod, each with at least a name.
void CheckNamed(const YAML::Node& spec, const char* list, Reader* reader) {
  const YAML::Node items = spec[list];
  if (!items.IsDefined() || !items.IsSequence()) return;
  for (const YAML::Node& item : items) {
    if (!reader->CheckType(item, list, YAML::NodeType::Map)) continue;
    const YAML::Node name = item["name"];
    if (!name.IsDefined() || !name.IsScalar()) {
      reader->Add(item.Mark(), fmt::format("{}: each needs a name", list));
    }
  }
}

void CheckTemplate(const YAML::Node& root, Reader* reader) {
  using Type = YAML::NodeType;
  reader->CheckKeys(root, "",
                    {{"apiVersion", Type::Scalar},
                     {"kind", Type::Scalar},
                     {"metadata", Type::Map},
                     {"spec", Type::Map}},
                    false);
  if (!root.IsMap()) return;
  reader->CheckKeys(root["metadata"], "metadata",
                    {{"labels", Type::Map}, {"annotations", Type::Map}}, false);
  const YAML::Node spec = root["spec"];
  if (!spec.IsDefined() || !spec.IsMap()) return;
  reader->CheckKeys(spec, "spec",
                    {{"containers", Type::Sequence},
                     {"initContainers", Type::Sequence},
                     {"volumes", Type::Sequence},
                     {"imagePullSecrets", Type::Sequence},
                     {"tolerations", Type::Sequence},
                     {"topologySpreadConstraints", Type::Sequence},
                     {"nodeSelector", Type::Map},
                     {"affinity", Type::Map},
                     {"securityContext", Type::Map},
                     {"priorityClassName", Type::Scalar},
                     {"schedulerName", Type::Scalar},
                     {"runtimeClassName", Type::Scalar}},
                    true);
  for (const char* list : {"containers", "initContainers", "volumes", "imagePullSecrets"}) {
    CheckNamed(spec, list, reader);
  }
}

// The key that tells the sections of a list apart, or nothing if they have none in common.
std::optional<std::string> MergeKey(const json& first, const json& second) {
  for (const char* key : {"mountPath", "name"}) {
    bool all = true;
    for (const json* list : {&first, &second}) {
      for (const json& item : *list) {
        all = all && item.is_object() && item.contains(key) && item[key].is_string();
      }
    }
    if (all) return key;
  }
  return std::nullopt;
}

json MergeLists(const json& base, const json& over) {
  const std::optional<std::string> key = MergeKey(base, over);
  if (!key) return over;
  json merged = json::array();
  std::set<std::string> names;
  for (const json& item : over) {
    const std::string name = item[*key];
    names.insert(name);
    json under = json::object();
    for (const json& candidate : base) {
      if (candidate[*key] == name) under = candidate;
    }
    merged.push_back(MergePodTemplates(under, item));
  }
  for (const json& item : base) {
    if (!names.contains(item[*key].get<std::string>())) merged.push_back(item);
  }
  return merged;
}

}  // namespace

json ParsePodTemplate(std::string_view text, const std::string& file) {
  if (text.size() > kMaxBytes) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: is larger than {} bytes", file, kMaxBytes));
  }
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    Reader reader(file);
    json pod_template = reader.Read(root, 0);
    CheckTemplate(root, &reader);
    reader.ThrowErrors();
    if (!pod_template.is_object()) pod_template = json::object();  // an empty file
    for (const char* section : {"metadata", "spec"}) {
      if (pod_template.contains(section) && pod_template[section].is_null()) {
        pod_template.erase(section);
      }
    }
    pod_template.erase("apiVersion");
    pod_template.erase("kind");
    return pod_template;
  } catch (const YAML::Exception& error) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}:{}:{}: {}", file, error.mark.line + 1,
                                                         error.mark.column + 1, error.msg));
  }
}

json ReadPodTemplate(const std::filesystem::path& file) {
  return ParsePodTemplate(ReadFile(file), file.string());
}

json MergePodTemplates(const json& base, const json& over) {
  if (base.is_array() && over.is_array()) return MergeLists(base, over);
  if (!base.is_object() || !over.is_object()) return over;
  json merged = base;
  for (const auto& [key, value] : over.items()) {
    if (value.is_null()) {
      merged.erase(key);
      continue;
    }
    const auto under = base.find(key);
    merged[key] = under == base.end() ? value : MergePodTemplates(*under, value);
  }
  return merged;
}

}  // namespace fr
