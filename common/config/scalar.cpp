#include "common/config/scalar.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <google/protobuf/descriptor.h>

#include "common/config/nearest.h"
#include "proto/options.pb.h"

namespace fr {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

template <typename Number>
std::optional<Number> ParseNumber(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

struct Unit {
  std::string_view name;
  std::int64_t ms;
};
// Longer names first: "ms" ends in "s".
constexpr Unit kUnits[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}};

std::optional<std::int64_t> ParseDurationMs(std::string_view text) {
  for (const Unit& unit : kUnits) {
    if (!text.ends_with(unit.name)) continue;
    const std::optional<double> number =
        ParseNumber<double>(text.substr(0, text.size() - unit.name.size()));
    if (!number || !(std::abs(*number) < 1e12)) return std::nullopt;
    return std::llround(*number * static_cast<double>(unit.ms));
  }
  return std::nullopt;
}

std::string DurationText(double ms) {
  for (std::size_t i = std::size(kUnits); i-- > 0;) {
    const auto unit = static_cast<double>(kUnits[i].ms);
    if (ms >= unit && std::fmod(ms, unit) == 0)
      return fmt::format("{}{}", ms / unit, kUnits[i].name);
  }
  return fmt::format("{}ms", ms);
}

std::vector<std::string> EnumNames(const EnumDescriptor& type) {
  std::vector<std::string> names;
  names.reserve(type.value_count());
  for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  return names;
}

bool IsDuration(const FieldDescriptor& field) { return field.options().GetExtension(duration); }

std::optional<std::string> CheckLimits(double value, const std::string& text,
                                       const FieldDescriptor& field) {
  const auto& options = field.options();
  const auto show = [&](double limit) {
    return IsDuration(field) ? DurationText(limit) : fmt::format("{}", limit);
  };
  if (options.HasExtension(min)) {
    const double limit = options.GetExtension(min);
    if (options.GetExtension(min_exclusive) && value <= limit) {
      return fmt::format("{} is too small: it must be greater than {}", text, show(limit));
    }
    if (value < limit) {
      return fmt::format("{} is below the smallest value allowed, {}", text, show(limit));
    }
  }
  if (options.HasExtension(max) && value > options.GetExtension(max)) {
    return fmt::format("{} is above the largest value allowed, {}", text,
                       show(options.GetExtension(max)));
  }
  return std::nullopt;
}

std::string NotExpected(const FieldDescriptor& field, const std::string& text) {
  return fmt::format("expected {}, found '{}'", ExpectedScalar(field), text);
}

void SetInteger(std::int64_t value, const FieldDescriptor& field, Message* message) {
  const auto* reflection = message->GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT32) {
    const auto narrow = static_cast<std::int32_t>(value);
    field.is_repeated() ? reflection->AddInt32(message, &field, narrow)
                        : reflection->SetInt32(message, &field, narrow);
  } else {
    field.is_repeated() ? reflection->AddInt64(message, &field, value)
                        : reflection->SetInt64(message, &field, value);
  }
}

std::optional<std::string> ReadInteger(const std::string& text, const FieldDescriptor& field,
                                       Message* message) {
  const std::optional<std::int64_t> value =
      IsDuration(field) ? ParseDurationMs(text) : ParseNumber<std::int64_t>(text);
  if (!value) return NotExpected(field, text);
  if (auto mistake = CheckLimits(static_cast<double>(*value), text, field)) return mistake;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_INT32 &&
      (*value < std::numeric_limits<std::int32_t>::min() ||
       *value > std::numeric_limits<std::int32_t>::max())) {
    return fmt::format("{} is beyond 32 bits", text);
  }
  SetInteger(*value, field, message);
  return std::nullopt;
}

std::optional<std::string> ReadUnsigned(const std::string& text, const FieldDescriptor& field,
                                        Message* message) {
  const std::optional<std::uint64_t> value = ParseNumber<std::uint64_t>(text);
  if (!value) return NotExpected(field, text);
  if (auto mistake = CheckLimits(static_cast<double>(*value), text, field)) return mistake;
  message->GetReflection()->SetUInt64(message, &field, *value);
  return std::nullopt;
}

std::optional<std::string> ReadDouble(const std::string& text, const FieldDescriptor& field,
                                      Message* message) {
  const std::optional<double> value = ParseNumber<double>(text);
  if (!value || !std::isfinite(*value)) return NotExpected(field, text);
  if (auto mistake = CheckLimits(*value, text, field)) return mistake;
  message->GetReflection()->SetDouble(message, &field, *value);
  return std::nullopt;
}

// By its name, or by what it is called elsewhere.
const google::protobuf::EnumValueDescriptor* FindValue(const EnumDescriptor& type,
                                                       const std::string& text) {
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->options().GetExtension(alias) == text) return type.value(i);
  }
  return type.FindValueByName(text);
}

std::optional<std::string> ReadEnum(const std::string& text, const FieldDescriptor& field,
                                    Message* message) {
  const EnumDescriptor& type = *field.enum_type();
  const auto* value = FindValue(type, text);
  if (value == nullptr) {
    const std::string nearest = NearestWord(text, EnumNames(type));
    return NotExpected(field, text) +
           (nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
  }
  message->GetReflection()->SetEnum(message, &field, value);
  return std::nullopt;
}

std::optional<std::string> ReadText(const std::string& text, const FieldDescriptor& field,
                                    Message* message) {
  const auto* reflection = message->GetReflection();
  if (text.empty()) return "is empty";
  field.is_repeated() ? reflection->AddString(message, &field, text)
                      : reflection->SetString(message, &field, text);
  return std::nullopt;
}

}  // namespace

std::string ExpectedScalar(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return IsDuration(field) ? "a duration with its unit, such as 500ms, 90s, 10m, 2h or 1d"
                               : "a whole number";
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a whole number from 0";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return fmt::format("one of {}", fmt::join(EnumNames(*field.enum_type()), ", "));
    default:
      return "text";
  }
}

std::optional<std::string> SetScalar(const std::string& text, bool quoted,
                                     const FieldDescriptor& field, Message* message) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return ReadText(text, field, message);
  if (quoted) return fmt::format("{}: write it without quotes", NotExpected(field, text));
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return ReadInteger(text, field, message);
    case FieldDescriptor::CPPTYPE_UINT64:
      return ReadUnsigned(text, field, message);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return ReadDouble(text, field, message);
    case FieldDescriptor::CPPTYPE_ENUM:
      return ReadEnum(text, field, message);
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return NotExpected(field, text);
      message->GetReflection()->SetBool(message, &field, text == "true");
      return std::nullopt;
    default:
      return "this kind of key cannot be read";
  }
}

}  // namespace fr
