#pragma once
// One value of a configuration file: from text to a field, within the field's limits.

#include <optional>
#include <string>

#include <google/protobuf/message.h>

namespace fr {

// Sets (or, for a repeated field, appends to) `field` of `message` from `text`; `quoted` when it
// stood in quotes and hence is text, never a number. Returns what is wrong, or nothing. Whole
// numbers and numbers are decimal; booleans true or false; durations a number with ms, s, m, h or
// d; enums a name.
std::optional<std::string> SetScalar(const std::string& text, bool quoted,
                                     const google::protobuf::FieldDescriptor& field,
                                     google::protobuf::Message* message);

// "a whole number", "one of r18, r34, ...": what SetScalar takes for `field`.
std::string ExpectedScalar(const google::protobuf::FieldDescriptor& field);

}  // namespace fr
