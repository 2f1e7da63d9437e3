#include "worker/optim/flat_pieces.h"

#include <algorithm>

#include <c10/util/accumulate.h>

namespace fr {
namespace {

// Long enough to make a piece's start cost nothing, short enough for many threads to share evenly.
constexpr std::int64_t kCellElements = 16 * 1024;

}  // namespace

FlatPieces::FlatPieces(const std::vector<FlatParameters::Entry>& entries) {
  for (std::size_t parameter = 0; parameter < entries.size(); ++parameter) {
    const std::int64_t first = entries[parameter].offset;
    const std::int64_t last = first + c10::multiply_integers(entries[parameter].sizes);
    for (std::int64_t begin = first; begin < last;) {
      if (begin % kCellElements == 0) first_of_cell_.push_back(pieces_.size());
      const std::int64_t cell_end = (begin / kCellElements + 1) * kCellElements;
      pieces_.push_back({begin, std::min(last, cell_end), parameter});
      begin = pieces_.back().end;
    }
  }
  first_of_cell_.push_back(pieces_.size());
}

}  // namespace fr
