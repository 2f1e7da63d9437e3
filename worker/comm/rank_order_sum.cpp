#include "worker/comm/rank_order_sum.h"

#include <algorithm>
#include <bit>
#include <memory>
#include <numeric>
#include <vector>

#include "worker/comm/rows.h"

namespace fr {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{4} << 20;

// Memory that is written before it is read.
template <typename T>
std::unique_ptr<T[]> Scratch(std::int64_t count) {
  return std::unique_ptr<T[]>(new T[static_cast<std::size_t>(count)]);
}

// `count` elements in `parts` chunks, as even as it goes.
Layout Chunks(std::int64_t count, int parts) {
  return LayoutOf(EvenParts(count, parts), 1, "all-reduce");
}

Layout SameFromAll(int count, int ranks) {
  return LayoutOf(std::vector<std::int64_t>(static_cast<std::size_t>(ranks), count), 1,
                  "all-reduce");
}

float Value(float x) { return x; }
double Value(double x) { return x; }
float Value(std::uint16_t bfloat16) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bfloat16) << 16U);
}

// parts [ranks][count], added in this order.
template <typename Sent, typename T>
void AddParts(const Sent* parts, int ranks, std::int64_t count, T* sum) {
  for (std::int64_t i = 0; i < count; ++i) sum[i] = Value(parts[i]);
  for (int rank = 1; rank < ranks; ++rank) {
    const Sent* part = parts + rank * count;
    for (std::int64_t i = 0; i < count; ++i) sum[i] += Value(part[i]);
  }
}

template <typename T>
MPI_Datatype TypeOf();
template <>
MPI_Datatype TypeOf<float>() {
  return MPI_FLOAT;
}
template <>
MPI_Datatype TypeOf<double>() {
  return MPI_DOUBLE;
}
template <>
MPI_Datatype TypeOf<std::uint16_t>() {
  return MPI_UINT16_T;
}

// `sent` of every rank, cut as `layout` says -> the sums of this rank's part.
template <typename Sent, typename T>
void SumOwnPart(MpiGroup& group, const Sent* sent, const Layout& layout, T* own) {
  const int count = layout.counts[static_cast<std::size_t>(group.rank())];
  const auto parts = Scratch<Sent>(std::int64_t{count} * group.size());
  group.AllToAll(sent, layout, parts.get(), SameFromAll(count, group.size()), TypeOf<Sent>());
  AddParts(parts.get(), group.size(), count, own);
}

template <typename T>
void SumPiece(MpiGroup& group, T* data, std::int64_t count) {
  const Layout layout = Chunks(count, group.size());
  SumOwnPart(group, data, layout, data + layout.offsets[static_cast<std::size_t>(group.rank())]);
  group.AllGather(nullptr, data, layout, TypeOf<T>());
}

void SumPieceRounded(MpiGroup& group, float* data, std::int64_t count) {
  const Layout layout = Chunks(count, group.size());
  const auto rank = static_cast<std::size_t>(group.rank());
  const auto rounded = Scratch<std::uint16_t>(count);
  RoundToBFloat16(data, count, rounded.get());
  float* own = data + layout.offsets[rank];
  SumOwnPart(group, rounded.get(), layout, own);
  RoundToBFloat16(own, layout.counts[rank], rounded.get() + layout.offsets[rank]);
  group.AllGather(nullptr, rounded.get(), layout, MPI_UINT16_T);
  for (std::int64_t i = 0; i < count; ++i) data[i] = Value(rounded[static_cast<std::size_t>(i)]);
}

template <typename T, typename SumFunction>
void InPieces(T* data, std::int64_t count, const SumFunction& sum) {
  constexpr std::int64_t kPiece = kPieceBytes / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t done = 0; done < count; done += kPiece) {
    sum(data + done, std::min(kPiece, count - done));
  }
}

}  // namespace

void RoundToBFloat16(const float* values, std::int64_t count, std::uint16_t* rounded) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    const std::uint32_t nearest = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
    const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    rounded[i] = static_cast<std::uint16_t>(nan ? (bits >> 16U) | 0x40U : nearest);
  }
}

void AllReduceInRankOrder(MpiGroup& group, float* data, std::int64_t count, Wire wire) {
  if (group.size() == 1) return;
  InPieces(data, count, [&](float* piece, std::int64_t size) {
    wire == Wire::kBFloat16 ? SumPieceRounded(group, piece, size) : SumPiece(group, piece, size);
  });
}

void AllReduceInRankOrder(MpiGroup& group, double* data, std::int64_t count) {
  if (group.size() == 1) return;
  InPieces(data, count, [&](double* piece, std::int64_t size) { SumPiece(group, piece, size); });
}

void ReduceScatterInRankOrder(MpiGroup& group, const float* full, float* own,
                              const Layout& layout) {
  SumOwnPart(group, full, layout, own);
}

void ReduceScatterInRankOrder(MpiGroup& group, const double* full, double* own,
                              const Layout& layout) {
  SumOwnPart(group, full, layout, own);
}

}  // namespace fr
