#pragma once
// What every reader of files must bear.

#include <cstdint>
#include <filesystem>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "common/base/error.h"
#include "common/base/file.h"

namespace fr {

inline void WriteBytes(const std::filesystem::path& path, const std::string& bytes) {
  FILE* file = fopen(path.c_str(), "wb");
  fwrite(bytes.data(), 1, bytes.size(), file);
  fclose(file);
}

// The code with which `read` refuses; kInternal if it does not.
template <typename Read>
ErrorCode CodeOf(Read read, std::string* message = nullptr) {
  try {
    read();
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  return ErrorCode::kInternal;
}

// Whatever happens to the bytes of `path`, `read` succeeds or throws an Error(kDataLoss) that names
// the file: cut at every `step`-th byte (where it must not succeed if `needs_end`), and `mutations`
// times some bytes changed.
template <typename Read>
void ExpectBearsDamage(const std::filesystem::path& path, Read read, bool needs_end, int mutations,
                       std::size_t step = 1) {
  const std::string whole = ReadFile(path);
  const std::filesystem::path damaged_path = path.string() + ".damaged";
  const auto check = [&](const std::string& bytes, bool may_succeed, const std::string& what) {
    WriteBytes(damaged_path, bytes);
    std::string message;
    const ErrorCode code = CodeOf([&] { read(damaged_path); }, &message);
    if (code == ErrorCode::kInternal) {
      EXPECT_TRUE(may_succeed) << what;
      return;
    }
    EXPECT_TRUE(code == ErrorCode::kDataLoss || code == ErrorCode::kInvalidArgument)
        << what << ": " << message;
    EXPECT_NE(message.find(".damaged"), std::string::npos) << message;
  };
  for (std::size_t size = 0; size < whole.size(); size += step) {
    check(whole.substr(0, size), !needs_end, "cut at " + std::to_string(size));
  }
  std::mt19937 random(1);
  for (int i = 0; i < mutations; ++i) {
    std::string damaged = whole;
    const auto changes = 1 + random() % 3;
    for (std::size_t c = 0; c < changes; ++c) {
      char& byte = damaged[random() % damaged.size()];
      // Single bits, and the values that counts and types are most hurt by.
      const char extremes[] = {'\0', '\x01', '\x7f', '\x80', '\xff'};
      byte = random() % 2 == 0 ? static_cast<char>(byte ^ (1 << random() % 8))
                               : extremes[random() % 5];
    }
    check(damaged, true, "mutation " + std::to_string(i));
  }
}

}  // namespace fr
