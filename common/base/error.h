#pragma once
// The one family of exceptions that our code throws.

#include <stdexcept>
#include <string>

namespace fr {

// The numbers travel over the RPC: never renumber.
enum class ErrorCode {
  kInternal = 1,         // a broken promise of our own code
  kInvalidArgument = 2,  // the request, file or flag is wrong; repeating it will not help
  kNotFound = 3,         // no such job, file, key
  kDataLoss = 4,         // a file is truncated, damaged or lies about itself
  kUnavailable = 5,      // the other side cannot be reached now
  kDeadlineExceeded = 6,
  kFailedPrecondition = 7,  // right in itself, but not in this state
  kResourceExhausted = 8,   // memory, disk, slots
  kIo = 9,                  // the system refused: the message holds errno's text
};

// "INVALID_ARGUMENT", for logs.
const char* ErrorCodeName(ErrorCode code);

// `message` is for the person who will mend it: what is wrong, where, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// What a command's main function returns for an error: 2 for kInvalidArgument, 3 for
// kUnavailable and kDeadlineExceeded, 1 for the rest (see docs/architecture.md, "Commands").
int ExitCodeFor(ErrorCode code);

}  // namespace fr
