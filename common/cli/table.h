#pragma once
// A table for a terminal: columns as wide as their widest cell, two spaces between.

#include <string>
#include <vector>

namespace fr {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
};

// Every row has as many cells as there are columns. Control characters in cells become spaces.
std::string FormatTable(const std::vector<Column>& columns,
                        const std::vector<std::vector<std::string>>& rows);

}  // namespace fr
