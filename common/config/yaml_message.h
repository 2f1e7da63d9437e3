#pragma once
// YAML text -> Protobuf message, driven by the message's own schema (proto/options.proto): every
// mistake is found in one go and named by file, line and column, with what would be right.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/message.h>

namespace fr {

// One mistake in a configuration file.
struct Diagnostic {
  std::string file;
  int line = 0;         // from 1; 0 when the mistake is of the file as a whole or of a flag
  int column = 0;       // from 1
  std::string key;      // "optimizer.schedule.type"
  std::string message;  // what is wrong, what would be right
};

// "job.yaml:7:3: optimizer.lr: ..."; without line and column where there is none.
std::string FormatDiagnostic(const Diagnostic& diagnostic);

// A YAML text read into a message, with where each value stands.
class YamlMessage {
 public:
  // Fills `message` (left empty at first) from `text`; `file` is only for the diagnostics.
  // Each element of `overrides` is "a.b=value" (from --set), applied over the text; its
  // diagnostics name the file "--set" and no line. Checks unknown keys (nearest known one is
  // suggested), duplicate keys, types, enum names, durations, min/max and required keys.
  // Never throws for what the user wrote: see diagnostics().
  YamlMessage(std::string_view text, std::string file, const std::vector<std::string>& overrides,
              google::protobuf::Message* message);
  ~YamlMessage();
  YamlMessage(const YamlMessage&) = delete;
  YamlMessage& operator=(const YamlMessage&) = delete;

  // Records a further mistake, of the key at `path` ("data.train", "data.validation[1]"), at the
  // place where that key's value stands: for checks that a schema cannot express.
  void AddError(const std::string& path, const std::string& text);

  // Every mistake found so far, in the order of lines.
  std::vector<Diagnostic> diagnostics() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fr
