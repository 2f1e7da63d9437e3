#include "common/config/yaml_message.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <google/protobuf/descriptor.h>
#include <yaml-cpp/yaml.h>

#include "common/config/nearest.h"
#include "common/config/scalar.h"
#include "proto/options.pb.h"

namespace fr {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr std::size_t kMaxBytes = 1 << 20;
constexpr int kMaxDepth = 32;

std::string KeyOf(const FieldDescriptor& field) {
  const auto& options = field.options();
  return options.HasExtension(yaml_key) ? options.GetExtension(yaml_key) : field.name();
}

const FieldDescriptor* FindField(const Descriptor& type, const std::string& key) {
  for (int i = 0; i < type.field_count(); ++i) {
    if (KeyOf(*type.field(i)) == key) return type.field(i);
  }
  return nullptr;
}

std::vector<std::string> KeysOf(const Descriptor& type) {
  std::vector<std::string> keys;
  for (int i = 0; i < type.field_count(); ++i) keys.push_back(KeyOf(*type.field(i)));
  return keys;
}

std::string Join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

// " (help)", where the schema has help for the field.
std::string HelpOf(const FieldDescriptor& field) {
  const std::string& text = field.options().GetExtension(help);
  return text.empty() ? "" : " (" + text + ")";
}

std::string KindOf(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Map:
      return "a section of keys";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Scalar:
      return "'" + node.Scalar() + "'";
    default:
      return "nothing";
  }
}

}  // namespace

std::string FormatDiagnostic(const Diagnostic& diagnostic) {
  std::string place = diagnostic.file;
  if (diagnostic.line > 0) place += fmt::format(":{}:{}", diagnostic.line, diagnostic.column);
  if (!diagnostic.key.empty()) place += ": " + diagnostic.key;
  return place + ": " + diagnostic.message;
}

struct YamlMessage::Impl {
  std::string file;  // of the text, or "--set a.b=c" while that is read
  bool in_override = false;
  std::map<std::string, Diagnostic> places;  // path -> where its value stands
  std::vector<Diagnostic> found;

  Diagnostic Place(const std::string& path, const YAML::Mark& mark) const {
    Diagnostic place;
    place.file = file;
    if (!in_override && !mark.is_null()) {
      place.line = mark.line + 1;
      place.column = mark.column + 1;
    }
    place.key = path;
    return place;
  }

  void Complain(const std::string& path, const YAML::Mark& mark, std::string text) {
    Diagnostic diagnostic = Place(path, mark);
    diagnostic.message = std::move(text);
    found.push_back(std::move(diagnostic));
  }

  void ReadSection(const YAML::Node& node, const std::string& path, int depth, Message* message);
  void ReadField(const YAML::Node& node, const std::string& path, int depth,
                 const FieldDescriptor& field, Message* message);
  void ReadScalar(const YAML::Node& node, const std::string& path, const FieldDescriptor& field,
                  Message* message);
  void CheckRequired(const std::string& path, const Message& message);
  std::optional<YAML::Node> Parse(std::string_view text);
  void ApplyOverride(const std::string& setting, Message* message);
};

// Each key of a map, in its order.
void YamlMessage::Impl::ReadSection(const YAML::Node& node, const std::string& path, int depth,
                                    Message* message) {
  if (node.IsNull()) return;  // `resources:` with nothing under it: all defaults
  if (!node.IsMap()) {
    Complain(path, node.Mark(),
             fmt::format("a section of keys is expected here ({}), found {}",
                         fmt::join(KeysOf(*message->GetDescriptor()), ", "), KindOf(node)));
    return;
  }
  if (depth > kMaxDepth) {
    Complain(path, node.Mark(), "is nested too deeply");
    return;
  }
  std::set<std::string> seen;
  for (const auto& item : node) {
    if (!item.first.IsScalar()) {
      Complain(path, item.first.Mark(), "a key must be a plain word");
      continue;
    }
    const std::string& key = item.first.Scalar();
    const std::string key_path = Join(path, key);
    const FieldDescriptor* field = FindField(*message->GetDescriptor(), key);
    if (field == nullptr) {
      Complain(key_path, item.first.Mark(),
               "unknown key; " + SuggestWord(key, KeysOf(*message->GetDescriptor())));
    } else if (!seen.insert(key).second) {
      Complain(key_path, item.first.Mark(), "is given twice; keep one");
    } else {
      ReadField(item.second, key_path, depth, *field, message);
    }
  }
}

void YamlMessage::Impl::ReadField(const YAML::Node& node, const std::string& path, int depth,
                                  const FieldDescriptor& field, Message* message) {
  places[path] = Place(path, node.Mark());
  if (node.IsNull()) return;  // `pretrained: null` is the same as not giving the key
  const auto* reflection = message->GetReflection();
  const bool is_message = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  if (!field.is_repeated()) {
    if (is_message) {
      ReadSection(node, path, depth + 1, reflection->MutableMessage(message, &field));
    } else {
      ReadScalar(node, path, field, message);
    }
    return;
  }
  if (!node.IsSequence()) {
    Complain(path, node.Mark(),
             fmt::format("a list is expected, such as [{}]; found {}",
                         node.IsScalar() ? node.Scalar() : "a, b", KindOf(node)));
    return;
  }
  std::size_t index = 0;
  for (const YAML::Node& element : node) {
    const std::string element_path = fmt::format("{}[{}]", path, index++);
    places[element_path] = Place(element_path, element.Mark());
    if (is_message) {
      ReadSection(element, element_path, depth + 1, reflection->AddMessage(message, &field));
    } else {
      ReadScalar(element, element_path, field, message);
    }
  }
}

void YamlMessage::Impl::ReadScalar(const YAML::Node& node, const std::string& path,
                                   const FieldDescriptor& field, Message* message) {
  if (!node.IsScalar()) {
    Complain(
        path, node.Mark(),
        fmt::format("expected {}, found {}{}", ExpectedScalar(field), KindOf(node), HelpOf(field)));
    return;
  }
  const std::optional<std::string> mistake =
      SetScalar(node.Scalar(), node.Tag() == "!", field, message);
  if (mistake) Complain(path, node.Mark(), *mistake + HelpOf(field));
}

void YamlMessage::Impl::CheckRequired(const std::string& path, const Message& message) {
  const Descriptor& type = *message.GetDescriptor();
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const std::string field_path = Join(path, KeyOf(field));
    if (field.is_repeated()) {
      for (int k = 0; field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
                      k < reflection->FieldSize(message, &field);
           ++k) {
        CheckRequired(fmt::format("{}[{}]", field_path, k),
                      reflection->GetRepeatedMessage(message, &field, k));
      }
      continue;
    }
    const bool present = reflection->HasField(message, &field);
    if (!present && field.options().GetExtension(key_required)) {
      const bool mistaken = std::any_of(found.begin(), found.end(), [&](const Diagnostic& d) {
        return d.key == field_path;  // given, but not readable: said already
      });
      if (mistaken) continue;
      Diagnostic diagnostic =
          places.count(path) > 0 ? places.at(path) : Place(path, YAML::Mark::null_mark());
      diagnostic.key = field_path;
      diagnostic.message = "is missing" + HelpOf(field);
      found.push_back(std::move(diagnostic));
    } else if (present && field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      CheckRequired(field_path, reflection->GetMessage(message, &field));
    }
  }
}

// The only document in `text`.
std::optional<YAML::Node> YamlMessage::Impl::Parse(std::string_view text) {
  const auto whole = [this](const std::string& problem) {
    Complain("", YAML::Mark::null_mark(), problem);
    return std::nullopt;
  };
  if (text.size() > kMaxBytes) {
    return whole(fmt::format("is {} bytes long; at most {} are read", text.size(), kMaxBytes));
  }
  if (text.find('\0') != std::string_view::npos)
    return whole("holds a zero byte: is it a text file?");
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.size() > 1) return whole("holds several documents (---); one is expected");
    return documents.empty() ? YAML::Node(YAML::NodeType::Null) : documents.front();
  } catch (const YAML::ParserException& error) {
    Complain("", error.mark, "is not YAML: " + error.msg);
    return std::nullopt;
  } catch (const YAML::Exception& error) {
    return whole(std::string("is not YAML: ") + error.what());
  }
}

// "a.b=value" over what is there.
void YamlMessage::Impl::ApplyOverride(const std::string& setting, Message* message) {
  const std::size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    Complain("", YAML::Mark::null_mark(), "KEY=VALUE is expected, such as optimizer.lr=0.05");
    return;
  }
  const std::string path = setting.substr(0, equals);
  const std::optional<YAML::Node> value = Parse(std::string_view(setting).substr(equals + 1));
  if (!value) return;
  Message* section = message;
  std::string walked;
  for (std::size_t begin = 0;;) {
    const std::size_t dot = path.find('.', begin);
    const std::string key = path.substr(begin, dot - begin);
    walked = Join(walked, key);
    const Descriptor& type = *section->GetDescriptor();
    const FieldDescriptor* field = FindField(type, key);
    if (field == nullptr) {
      Complain(walked, YAML::Mark::null_mark(), "unknown key; " + SuggestWord(key, KeysOf(type)));
      return;
    }
    if (dot == std::string::npos) {
      section->GetReflection()->ClearField(section, field);
      std::erase_if(found, [&](const Diagnostic& d) {
        return d.key == walked;  // what the text said wrongly is no longer said
      });
      ReadField(*value, walked, 0, *field, section);
      return;
    }
    if (field->is_repeated() || field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      Complain(walked, YAML::Mark::null_mark(), "has no keys below it");
      return;
    }
    section = section->GetReflection()->MutableMessage(section, field);
    begin = dot + 1;
  }
}

YamlMessage::YamlMessage(std::string_view text, std::string file,
                         const std::vector<std::string>& overrides, Message* message)
    : impl_(std::make_unique<Impl>()) {
  impl_->file = file;
  impl_->places[""] = impl_->Place("", YAML::Mark::null_mark());
  message->Clear();
  const std::optional<YAML::Node> root = impl_->Parse(text);
  if (root) impl_->ReadSection(*root, "", 0, message);
  impl_->in_override = true;
  for (const std::string& setting : overrides) {
    impl_->file = "--set " + setting;
    impl_->ApplyOverride(setting, message);
  }
  impl_->in_override = false;
  impl_->file = std::move(file);
  if (root) impl_->CheckRequired("", *message);
}

YamlMessage::~YamlMessage() = default;

void YamlMessage::AddError(const std::string& path, const std::string& text) {
  // The nearest enclosing key that stands in the file.
  std::string place = path;
  while (impl_->places.count(place) == 0) {
    const std::size_t cut = place.find_last_of(".[");
    place = cut == std::string::npos ? "" : place.substr(0, cut);
  }
  Diagnostic diagnostic = impl_->places.at(place);
  diagnostic.key = path;
  diagnostic.message = text;
  impl_->found.push_back(std::move(diagnostic));
}

std::vector<Diagnostic> YamlMessage::diagnostics() const {
  std::vector<Diagnostic> sorted = impl_->found;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Diagnostic& a, const Diagnostic& b) {
    return std::pair(a.line, a.column) < std::pair(b.line, b.column);
  });
  return sorted;
}

}  // namespace fr
