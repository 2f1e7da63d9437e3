#pragma once
// Which layout a training set has, by the names of its files alone. docs/data.md has the layouts.

#include <filesystem>
#include <optional>
#include <string_view>

namespace fr {

enum class SetLayout { kRecords, kShards, kFolder };

inline constexpr std::string_view kRecordSetFiles[] = {"train.rec", "train.idx", "property"};

// Whether the name ends as that of a tar shard does, in any case.
bool IsTarName(const std::filesystem::path& path);

// A directory with one of kRecordSetFiles; *.tar, or a directory with such files; a directory of
// directories. Nothing where none of them is found, with `*error` set if `path` cannot be listed.
std::optional<SetLayout> FindSetLayout(const std::filesystem::path& path, std::error_code* error);

}  // namespace fr
