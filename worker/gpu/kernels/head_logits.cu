// The two kernels that look at logits: the softmax's sums, and the coefficients of the gradients.
// A block has 128 rows and 128 samples; their logits lie in shared memory and nowhere else.

#include "worker/gpu/kernels/kernels.h"
#include "worker/gpu/kernels/product.h"
#include "worker/gpu/kernels/rows.h"

namespace fr::FR_GPU {
namespace {

// One value more than 128: threads side by side in a column, too, meet different banks.
constexpr int kStride = kSide + 1;
constexpr int kLogitsBytes = kSide * kStride * 4;
static_assert(kLogitsBytes >= kProductShared);

// What lies behind the logits in shared memory: a value for each column, or for each row.
struct Vectors {
  float column[2][kSide];
  float half[2][2][kSide];
  std::int32_t bin[kSide];
};
constexpr int kSharedBytes = kLogitsBytes + static_cast<int>(sizeof(Vectors));

FR_DEVICE Vectors& VectorsOf(char* shared) {
  return *reinterpret_cast<Vectors*>(shared + kLogitsBytes);
}

struct Rule {
  NegativeRule::Kind kind;
  float threshold;  // kFilter's, or what is hard for the sample
  float t;
  float inverse_scale;

  FR_DEVICE float Logit(float z) const {
    if (kind == NegativeRule::Kind::kAsIs || !(z > threshold)) return z;
    return kind == NegativeRule::Kind::kFilter ? 0.0F : z * (t + z * inverse_scale);
  }
  FR_DEVICE float Slope(float z) const {
    if (kind == NegativeRule::Kind::kAsIs || !(z > threshold)) return 1;
    return kind == NegativeRule::Kind::kFilter ? 0.0F : t + (z + z) * inverse_scale;
  }
};

FR_DEVICE Rule RuleOf(const NegativeRule& rule, std::int64_t sample, std::int64_t samples) {
  Rule own{rule.kind, rule.threshold, rule.t, rule.inverse_scale};
  if (rule.kind == NegativeRule::Kind::kCurricular) {
    own.threshold = sample < samples ? rule.hard[sample] : 0.0F;
  }
  return own;
}

struct Block {
  float* z;  // [kSide][kStride]
  int rows;
  std::int64_t first_row;  // in the tile
  std::int64_t first_sample;
};

FR_DEVICE void Multiply(const GpuLogits& work, const Block& block, char* shared) {
  Product product;
  product.Clear();
  const Side a{work.w.data, work.w.plane_stride, work.w.columns, block.first_row,
               block.first_row + block.rows};
  const Side b{work.x.data, work.x.plane_stride, work.x.columns, block.first_sample, work.x.rows};
  product.Add<Along::kRow, Along::kRow>(a, b, work.w.planes, 0, work.w.columns, shared);
  FR_UNROLL
  for (int m = 0; m < 4; ++m) {
    FR_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = Product::RowOf(m, half);
      const bool there = row < block.rows;
      const std::int64_t i = block.first_row + row;
      const float factor = there ? work.factor[i] : 0.0F;
      const float bias = there && work.bias != nullptr ? work.bias[RowAt(work.tile, i)] : 0.0F;
      FR_UNROLL
      for (int n = 0; n < 4; ++n) {
        float* z = block.z + row * kStride + Product::ColumnOf(n);
        z[0] = there ? product.value[m][n][2 * half] * factor + bias : kNoLogit;
        z[1] = there ? product.value[m][n][2 * half + 1] * factor + bias : kNoLogit;
      }
    }
  }
  simt::SyncThreads();
}

// Of each identity's rows only the nearest keeps its logit, for each sample.
FR_DEVICE void KeepNearest(const Block& block, int centers) {
  const int column = simt::ThreadX() % kSide;
  for (int first = simt::ThreadX() / kSide * centers; first < block.rows; first += 2 * centers) {
    int nearest = first;
    for (int i = first + 1; i < first + centers; ++i) {
      if (block.z[i * kStride + column] > block.z[nearest * kStride + column]) nearest = i;
    }
    for (int i = first; i < first + centers; ++i) {
      if (i != nearest) block.z[i * kStride + column] = kNoLogit;
    }
  }
  simt::SyncThreads();
}

// The first target whose row is not below `row`.
FR_DEVICE std::int64_t FirstTarget(const GpuLogits& work, std::int64_t row) {
  std::int64_t low = 0;
  std::int64_t high = work.num_targets;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (work.targets[middle].row < row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The place of `row`, which is one of the block's.
FR_DEVICE int PlaceOf(const GpuLogits& work, const Block& block, std::int64_t row) {
  if (work.tile.row == nullptr) return static_cast<int>(row - work.tile.first - block.first_row);
  int low = 0;
  int high = block.rows - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (work.tile.row[block.first_row + middle] < row) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// call(place of the target's row, target) for the targets of the block's rows.
template <class Call>
FR_DEVICE void ForEachTarget(const GpuLogits& work, const Block& block, const Call& call) {
  const std::int64_t first = FirstTarget(work, RowAt(work.tile, block.first_row));
  const std::int64_t end =
      FirstTarget(work, RowAt(work.tile, block.first_row + block.rows - 1) + 1);
  for (std::int64_t i = first + simt::ThreadX(); i < end; i += kProductThreads) {
    call(PlaceOf(work, block, work.targets[i].row), work.targets[i]);
  }
}

// A target is no negative: neither are its other sub-centers.
FR_DEVICE void HideTargets(const GpuLogits& work, const Block& block) {
  const int centers = work.sub_centers;
  ForEachTarget(work, block, [&](int place, const GpuTarget& target) {
    const std::int64_t column = target.sample - block.first_sample;
    if (column < 0 || column >= kSide) return;
    const int first = place / centers * centers;
    for (int i = first; i < first + centers; ++i) block.z[i * kStride + column] = kNoLogit;
  });
  simt::SyncThreads();
}

FR_DEVICE Block LogitsOf(const GpuLogits& work, char* shared) {
  const auto block_rows = static_cast<int>(GpuBlockRows(work.sub_centers));
  Block block;
  block.z = reinterpret_cast<float*>(shared);
  block.first_row = simt::BlockX() * block_rows;
  block.first_sample = simt::BlockY() * kSide;
  const std::int64_t left = work.tile.rows - block.first_row;
  block.rows = left < block_rows ? static_cast<int>(left) : block_rows;
  Multiply(work, block, shared);
  if (work.sub_centers > 1) KeepNearest(block, work.sub_centers);
  HideTargets(work, block);
  return block;
}

// The thread's share of a pass down the columns: half of one.
struct HalfColumn {
  int column;
  int half;
  int begin;  // rows of the block
  int end;
  std::int64_t sample;
  Rule rule;
};
FR_DEVICE HalfColumn OwnHalf(const GpuLogits& work, const Block& block) {
  const int column = simt::ThreadX() % kSide;
  const int half = simt::ThreadX() / kSide;
  const int middle = block.rows / 2;
  const std::int64_t sample = block.first_sample + column;
  return {column,
          half,
          half == 0 ? 0 : middle,
          half == 0 ? middle : block.rows,
          sample,
          RuleOf(work.rule, sample, work.x.rows)};
}

// Largest logit and sum of exp(logit - largest) of each column.
FR_DEVICE void SumColumns(const GpuSoftmax& work, const Block& block, Vectors& vectors) {
  const auto [column, half, begin, end, sample, rule] = OwnHalf(work.logits, block);
  const std::int64_t samples = work.logits.x.rows;
  float largest = kNoLogit;
  for (int i = begin; i < end; ++i) {
    largest = fmaxf(largest, rule.Logit(block.z[i * kStride + column]));
  }
  float sum = 0;
  for (int i = begin; i < end; ++i) {
    const float logit = rule.Logit(block.z[i * kStride + column]);
    sum += logit <= kNoLogit ? 0.0F : expf(logit - largest);
  }
  vectors.half[0][half][column] = largest;
  vectors.half[1][half][column] = sum;
  simt::SyncThreads();
  if (half == 0 && sample < samples) {
    const float other = vectors.half[0][1][column];
    const float both = fmaxf(largest, other);
    const std::int64_t at = simt::BlockX() * samples + sample;
    work.largest[at] = both;
    work.sum[at] = sum * expf(largest - both) + vectors.half[1][1][column] * expf(other - both);
  }
}

// vectors.bin: each row's identity's, from what the block's samples say of it.
FR_DEVICE void FindBins(const GpuSoftmax& work, const Block& block, Vectors& vectors) {
  constexpr int kNever = -1;
  const std::int64_t samples = work.logits.x.rows;
  const int row = simt::ThreadX() % kSide;
  const int own = simt::ThreadX() / kSide;
  float bound = kNoLogit;
  for (int column = own * 64; row < block.rows && column < own * 64 + 64; ++column) {
    const std::int64_t sample = block.first_sample + column;
    if (sample >= work.logits.batch) break;
    const Rule rule = RuleOf(work.logits.rule, sample, samples);
    bound = fmaxf(bound, rule.Logit(block.z[row * kStride + column]) - vectors.column[0][column]);
  }
  vectors.half[0][own][row] = bound;
  simt::SyncThreads();
  if (own == 0) {
    bound = fmaxf(vectors.half[0][0][row], vectors.half[0][1][row]);
    const float bin = fminf(-2 * bound, static_cast<float>(kBoundBins - 1));
    vectors.bin[row] = bound >= 0 ? kNever : static_cast<int>(bin);
  }
  simt::SyncThreads();
  const int centers = work.logits.sub_centers;
  ForEachTarget(work.logits, block,
                [&](int place, const GpuTarget&) { vectors.bin[place] = kNever; });
  simt::SyncThreads();
  // An identity's bin is the lowest of its rows'.
  if (own == 0 && row < block.rows && row % centers == 0) {
    int lowest = vectors.bin[row];
    for (int i = row + 1; i < row + centers; ++i)
      lowest = vectors.bin[i] < lowest ? vectors.bin[i] : lowest;
    for (int i = row; i < row + centers; ++i) vectors.bin[i] = lowest;
    simt::AtomicMin(work.bounds.bin + RowAt(work.logits.tile, block.first_row + row) / centers,
                    lowest);
  }
  simt::SyncThreads();
}

// Adds the block's probabilities, at most, to the bins. Whole numbers, rounded up: their sum is the
// same in whatever order blocks come, and an upper bound.
FR_DEVICE void AddMass(const GpuSoftmax& work, const Block& block, const Vectors& vectors) {
  const auto [column, half, begin, end, sample, rule] = OwnHalf(work.logits, block);
  if (sample >= work.logits.batch) return;
  const float reference = vectors.column[0][column];
  int bin = -1;
  float mass = 0;
  const auto flush = [&] {
    if (bin < 0 || mass == 0) return;
    simt::AtomicAdd(work.bounds.mass + bin * work.logits.x.rows + sample,
                    static_cast<unsigned long long>(ceil(mass * kMassUnits)));
  };
  for (int i = begin; i < end; ++i) {
    if (vectors.bin[i] != bin) {
      flush();
      bin = vectors.bin[i];
      mass = 0;
    }
    if (bin >= 0) mass += expf(rule.Logit(block.z[i * kStride + column]) - reference);
  }
  flush();
}

FR_KERNEL(kProductThreads, 2) SoftmaxKernel(const GpuSoftmax work) {
  char* shared = simt::Shared();
  Vectors& vectors = VectorsOf(shared);
  const Block block = LogitsOf(work.logits, shared);
  SumColumns(work, block, vectors);
  if (work.bounds.reference == nullptr) return;
  if (simt::ThreadX() < kSide) {
    const std::int64_t sample = block.first_sample + simt::ThreadX();
    vectors.column[0][simt::ThreadX()] =
        sample < work.logits.x.rows ? work.bounds.reference[sample] : 0.0F;
  }
  simt::SyncThreads();
  FindBins(work, block, vectors);
  AddMass(work, block, vectors);
}

FR_DEVICE void SumProbabilities(const GpuCoefficients& work, const Block& block, Vectors& vectors) {
  const auto [column, half, begin, end, sample, rule] = OwnHalf(work.logits, block);
  const std::int64_t samples = work.logits.x.rows;
  float mass = 0;
  for (int i = begin; i < end; ++i) {
    mass += expf(rule.Logit(block.z[i * kStride + column]) - vectors.column[0][column]);
  }
  vectors.half[0][half][column] = mass;
  simt::SyncThreads();
  if (half == 0 && sample < samples) {
    work.mass[simt::BlockX() * samples + sample] = mass + vectors.half[0][1][column];
  }
  simt::SyncThreads();
}

// z -> g in place, and the rows' sums of d z and d.
FR_DEVICE void Differentiate(const GpuCoefficients& work, const Block& block, Vectors& vectors) {
  const int row = simt::ThreadX() % kSide;
  const int own = simt::ThreadX() / kSide;
  const bool there = row < block.rows;
  const float factor = there ? work.logits.factor[block.first_row + row] : 0.0F;
  Rule rule = RuleOf(work.logits.rule, 0, 0);
  float along = 0;
  float total = 0;
  for (int column = own * 64; there && column < own * 64 + 64; ++column) {
    float& value = block.z[row * kStride + column];
    if (rule.kind == NegativeRule::Kind::kCurricular) rule.threshold = vectors.column[1][column];
    const float p = expf(rule.Logit(value) - vectors.column[0][column]);
    const float d = work.share * p * rule.Slope(value);
    along += d * value;
    total += d;
    value = d * factor;
  }
  vectors.half[0][own][row] = along;
  vectors.half[1][own][row] = total;
  simt::SyncThreads();
  if (own == 0) {
    vectors.half[0][0][row] += vectors.half[0][1][row];
    vectors.half[1][0][row] += vectors.half[1][1][row];
  }
  simt::SyncThreads();
}

// Targets of one row are added by one thread, in their order.
FR_DEVICE void AddTargets(const GpuCoefficients& work, const Block& block, Vectors& vectors) {
  const GpuLogits& logits = work.logits;
  ForEachTarget(logits, block, [&](int place, const GpuTarget& first) {
    const GpuTarget* target = &first;
    if (target != logits.targets && target[-1].row == first.row) return;
    const GpuTarget* end = logits.targets + logits.num_targets;
    for (; target != end && target->row == first.row; ++target) {
      const std::int64_t column = target->sample - block.first_sample;
      if (column < 0 || column >= kSide) continue;
      block.z[place * kStride + column] = target->gradient * logits.factor[block.first_row + place];
      vectors.half[0][0][place] += target->gradient * target->z;
      vectors.half[1][0][place] += target->gradient;
    }
  });
  simt::SyncThreads();
}

FR_DEVICE void StoreCoefficients(const GpuCoefficients& work, const Block& block,
                                 const Vectors& vectors) {
  const int lane = simt::ThreadX() % 32;
  for (int row = simt::ThreadX() / 32; row < block.rows; row += kProductThreads / 32) {
    FR_UNROLL
    for (int part = 0; part < 2; ++part) {
      const int column = 64 * part + 2 * lane;
      const std::int64_t sample = block.first_sample + column;
      if (sample >= work.g.columns) continue;
      const float* z = block.z + row * kStride + column;
      StorePlanes(work.g, (block.first_row + row) * work.g.columns + sample, z[0], z[1]);
    }
  }
  if (simt::ThreadX() < block.rows) {
    const std::int64_t at =
        simt::BlockY() * work.logits.tile.rows + block.first_row + simt::ThreadX();
    work.along[at] = vectors.half[0][0][simt::ThreadX()];
    work.total[at] = vectors.half[1][0][simt::ThreadX()];
  }
}

FR_KERNEL(kProductThreads, 2) CoefficientsKernel(const GpuCoefficients work) {
  char* shared = simt::Shared();
  Vectors& vectors = VectorsOf(shared);
  const Block block = LogitsOf(work.logits, shared);
  if (simt::ThreadX() < kSide) {
    const std::int64_t sample = block.first_sample + simt::ThreadX();
    const bool there = sample < work.logits.x.rows;
    vectors.column[0][simt::ThreadX()] =
        there ? work.log_sum_exp[sample] : static_cast<float>(simt::Infinity());
    vectors.column[1][simt::ThreadX()] =
        RuleOf(work.logits.rule, sample, work.logits.x.rows).threshold;
  }
  simt::SyncThreads();
  if (work.mass != nullptr) SumProbabilities(work, block, vectors);
  Differentiate(work, block, vectors);
  AddTargets(work, block, vectors);
  StoreCoefficients(work, block, vectors);
}

simt::Grid GridOf(const GpuLogits& logits) {
  return {GpuBlocks(logits.tile.rows, GpuBlockRows(logits.sub_centers)),
          GpuBlocks(logits.x.rows, kSide), 1};
}

// A block for the samples of 32 lanes; its warps share the tile's blocks out among them.
constexpr int kMergeWarps = 8;

FR_KERNEL(kMergeWarps * 32, 1) MergeKernel(const GpuSoftmaxMerge work) {
  auto* largest_of = reinterpret_cast<double*>(simt::Shared());  // [kMergeWarps][32]
  double* sum_of = largest_of + kMergeWarps * 32;
  const int lane = simt::ThreadX() % 32;
  const int warp = simt::ThreadX() / 32;
  const std::int64_t sample = simt::BlockX() * 32 + lane;
  const bool there = sample < work.samples;
  double largest = static_cast<double>(kNoLogit);
  double sum = 0;
  const auto add = [&](double other, double other_sum) {
    const double both = fmax(largest, other);
    sum = sum * exp(largest - both) + other_sum * exp(other - both);
    largest = both;
  };
  for (std::int64_t block = warp; there && block < work.blocks; block += kMergeWarps) {
    const std::int64_t at = block * work.samples + sample;
    add(static_cast<double>(work.block_largest[at]), static_cast<double>(work.block_sum[at]));
  }
  largest_of[simt::ThreadX()] = largest;
  sum_of[simt::ThreadX()] = sum;
  simt::SyncThreads();
  if (warp > 0 || !there) return;
  for (int other = 1; other < kMergeWarps; ++other) {
    add(largest_of[other * 32 + lane], sum_of[other * 32 + lane]);
  }
  add(work.largest[sample], work.sum[sample]);
  work.largest[sample] = largest;
  work.sum[sample] = sum;
  if (work.reference == nullptr) return;
  // log(exp(a) + exp(b)), rounded down
  const double seen = sum > 0 ? largest + log(sum) : static_cast<double>(kNoLogit);
  const double high = fmax(seen, work.lower[sample]);
  const double both = high + log1p(exp(fmin(seen, work.lower[sample]) - high));
  work.reference[sample] = static_cast<float>(both - 1e-6 * fabs(both));
}

}  // namespace

void Softmax(const GpuSoftmax& work, GpuStream stream) {
  simt::Launch("softmax", SoftmaxKernel, work, GridOf(work.logits), kProductThreads, kSharedBytes,
               stream);
}

void Coefficients(const GpuCoefficients& work, GpuStream stream) {
  simt::Launch("coefficients", CoefficientsKernel, work, GridOf(work.logits), kProductThreads,
               kSharedBytes, stream);
}

void MergeSoftmax(const GpuSoftmaxMerge& work, GpuStream stream) {
  simt::Launch("merge_softmax", MergeKernel, work, {GpuBlocks(work.samples, 32), 1, 1},
               kMergeWarps * 32, kMergeWarps * 32 * 2 * static_cast<int>(sizeof(double)), stream);
}

}  // namespace fr::FR_GPU
