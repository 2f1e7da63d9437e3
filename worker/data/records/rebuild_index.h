#pragma once
// Makes the train.idx that a record set lacks.

#include <filesystem>
#include <vector>

#include "worker/data/records/record_index.h"

namespace fr {

// Reads `rec` from its beginning, record by record; the result is in order of keys. Keys are the
// ids in the headers where these are 0, 1, 2, ... in any order; otherwise records count in the
// order of the file, as with MXNet's rec2idx, if record 0 then is what it must be (LayoutOf).
// Throws Error(kNotFound | kIo), Error(kDataLoss) naming the byte of a record that is damaged, or a
// file whose keys cannot be told.
std::vector<IndexEntry> RebuildIndex(const std::filesystem::path& rec);

// Writes train.idx, whole or not at all. Throws Error(kIo).
void WriteIndex(const std::filesystem::path& path, const std::vector<IndexEntry>& entries);

}  // namespace fr
