// The shard on a processor: two passes over tiles of rows, each thread its own tiles.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include <ATen/Parallel.h>

#include "common/base/random.h"
#include "worker/heads/head_shard.h"
#include "worker/heads/huge_pages.h"
#include "worker/optim/updates.h"
#include "worker/simd.h"

namespace fr {
namespace {

// Of float32 rows: with what else a thread works on they stay in its second-level cache.
constexpr std::int64_t kTileBytes = 192 << 10;

std::int64_t RoundUp(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

// A multiple of the register blocks (6 rows, 2 in a bfloat16 pair) and of the sub-centers.
std::int64_t TileRowCount(std::int64_t bytes, std::int64_t columns, std::int64_t sub_centers) {
  const std::int64_t step = std::lcm<std::int64_t>(24, sub_centers);
  return std::max<std::int64_t>(step, bytes / (columns * 4) / step * step);
}

// panels (head_kernels.h) of the transpose or of x itself, x [rows][columns] padded by zeros.
class Panels {
 public:
  // Word (k, n) is value(k, n), or for bf16 the pair value(2 k, n), value(2 k + 1, n).
  template <class Value>
  void Fill(std::int64_t k, std::int64_t columns, bool bf16, const HeadKernels& kernels,
            const Value& value) {
    words_ = bf16 ? k / 2 : k;
    data_.resize(words_ * columns);
    std::vector<float> first(columns);
    std::vector<float> second(columns);
    std::vector<float> words(columns);
    for (std::int64_t word = 0; word < words_; ++word) {
      for (std::int64_t n = 0; n < columns; ++n) first[n] = value(bf16 ? 2 * word : word, n);
      if (bf16) {
        for (std::int64_t n = 0; n < columns; ++n) second[n] = value(2 * word + 1, n);
        kernels.interleave_bf16(first.data(), second.data(), columns, words.data());
      }
      const std::vector<float>& row = bf16 ? words : first;
      for (std::int64_t begin = 0; begin < columns; begin += kPanelColumns) {
        const std::int64_t width = std::min(kPanelColumns, columns - begin);
        std::copy_n(row.data() + begin, width,
                    data_.data() + PanelOffset(begin, words_) + word * width);
      }
    }
  }
  const float* data() const { return data_.data(); }
  std::int64_t words() const { return words_; }

 private:
  std::int64_t words_ = 0;
  std::vector<float> data_;
};

double Product(const float* a, const float* b, std::int64_t size) {
  return std::inner_product(a, a + size, b, 0.0, std::plus<>(),
                            [](double x, double y) { return x * y; });
}

float InverseNorm(float squared_norm) { return 1 / std::max(std::sqrt(squared_norm), kMinRowNorm); }

double Length(const float* a, std::int64_t size) {
  return std::max<double>(std::sqrt(Product(a, a, size)), kMinRowNorm);
}

// Of each identity's sub-centers only the nearest keeps its logit, for each sample.
FR_SIMD_CLONES
void KeepNearest(float* z, std::int64_t rows, std::int64_t samples, std::int64_t sub_centers) {
  for (std::int64_t first = 0; first < rows; first += sub_centers) {
    float* identity = z + first * samples;
    for (std::int64_t b = 0; b < samples; ++b) {
      std::int64_t nearest = 0;
      for (std::int64_t i = 1; i < sub_centers; ++i) {
        if (identity[i * samples + b] > identity[nearest * samples + b]) nearest = i;
      }
      for (std::int64_t i = 0; i < sub_centers; ++i) {
        if (i != nearest) identity[i * samples + b] = kNoLogit;
      }
    }
  }
}

class CpuHeadShard final : public HeadShard {
 public:
  CpuHeadShard(const HeadShardOptions& options, IdentityRange range);

  void SetBatch(const at::Tensor& x, std::vector<OwnTarget> targets,
                const SampledShare& share) override;
  at::Tensor TargetLogits(double scale) override;
  SoftmaxPass Softmax(double scale, const NegativeRule& rule,
                      const at::Tensor& references) override;
  GradientPass Gradients(double scale, const NegativeRule& rule, const at::Tensor& log_sum_exp,
                         double share, const at::Tensor& target_gradients, int skip_from,
                         const RowUpdate& update) override;
  void ApplyAccumulated(const RowUpdate& update) override;
  at::Tensor AccumulatedSquares() override;
  void DropAccumulated() override;
  std::vector<std::pair<std::string, at::Tensor>> RowTensors() override;
  void RowsWritten() override;

 private:
  // What a thread needs for one tile, and what it sums over its tiles.
  struct Workspace {
    explicit Workspace(const CpuHeadShard& shard);

    std::int64_t size = 0;           // rows of the present tile
    std::vector<std::int64_t> rows;  // of the shard
    std::vector<float*> w, first, second, gradient;
    std::vector<float> factor, radial, squared_norm, along, total, bound;
    std::vector<const float*> next;   // weights of the thread's next tile, to be fetched early
    std::vector<const float*> left;   // logits' left-hand rows: the weights, or narrowed
    std::vector<const float*> right;  // embedding gradients' right-hand rows
    std::vector<float> z;             // [tile][samples] logits, then coefficients
    std::vector<float> narrow_w, paired_w, narrow_g, paired_g;  // bf16
    const OwnTarget* target = nullptr;                          // those of the present tile
    const OwnTarget* target_end = nullptr;

    std::vector<float> tile_largest, tile_sum, reference, mass;
    std::vector<double> largest, sum, total_mass;
    std::vector<std::int32_t> bin;    // of each row
    std::vector<float> tile_mass;     // [kBoundBins + 1][samples]; the last: never skipped
    std::vector<double> mass_by_bin;  // [kBoundBins][batch]
    std::vector<float> dx;
  };

  std::int64_t num_rows() const { return range_.size() * options_.sub_centers; }
  bool has_second() const { return options_.optimizer == HeadOptimizer::kAdamW; }
  float* Row(at::Tensor& rows, std::int64_t row) {
    return rows.mutable_data_ptr<float>() + row * columns_;
  }
  at::Tensor NewRows() const;

  // Tiles of `identities` (nullptr: all), shared out over the threads: call(workspace).
  template <class Call>
  void ForEachTile(const std::vector<std::int64_t>* identities, std::vector<Workspace>& workspaces,
                   const Call& call);
  void LoadTile(const std::vector<std::int64_t>* identities, std::int64_t begin, std::int64_t end,
                std::int64_t limit, Workspace& space);
  std::vector<std::int64_t> AccumulatedIdentities() const;
  std::vector<std::int64_t> SampledIdentities(const SampledShare& share) const;
  const std::vector<std::int64_t>* Sampled() const { return all_sampled_ ? nullptr : &sampled_; }

  void TileLogits(double scale, Workspace& space);
  void HideTargets(Workspace& space) const;
  void AddTileSoftmax(const NegativeRule& rule, Workspace& space) const;
  void BoundTile(const NegativeRule& rule, Workspace& space);
  void TileGradients(const NegativeRule& rule, const float* log_sum_exp, double share,
                     const double* target_gradients, Workspace& space) const;
  void TileProducts(const RowUpdate& update, Workspace& space);
  void UpdateTile(const float* g, std::int64_t words, const RowUpdate& update, Workspace& space);
  void UpdateBias(const Workspace& space, const RowUpdate& update);
  void MoveBias(std::int64_t row, float gradient, const RowUpdate& update);

  HeadShardOptions options_;
  const HeadKernels& kernels_;
  IdentityRange range_;
  std::int64_t columns_ = 0;  // embedding size, rounded up
  std::int64_t tile_rows_ = 0;
  at::Tensor weight_;    // [rows, columns_]
  at::Tensor first_;     // momentum or first moment
  at::Tensor second_;    // second moment
  at::Tensor gradient_;  // accumulated; made when first asked for
  at::Tensor bias_, bias_first_, bias_second_, bias_gradient_;  // [rows]
  std::vector<float> inverse_norm_;                             // [rows]; 1 without normalisation
  std::vector<std::uint8_t> accumulated_;                       // [identities]: has a gradient

  // The present batch.
  at::Tensor x_;
  std::int64_t batch_ = 0;
  std::int64_t samples_ = 0;  // batch_ rounded up
  std::vector<OwnTarget> targets_;
  std::vector<std::int64_t> sampled_;
  bool all_sampled_ = true;
  Panels by_sample_;                // [D][samples]
  Panels by_column_;                // [samples][D]
  std::vector<std::int32_t> bins_;  // [identities]; kBoundBins: never skipped
};

CpuHeadShard::CpuHeadShard(const HeadShardOptions& options, IdentityRange range)
    : options_(options),
      kernels_(options.kernels != nullptr ? *options.kernels : SelectHeadKernels()),
      range_(range),
      columns_(RoundUp(options.embedding_size, kColumnStep)),
      tile_rows_(TileRowCount(options.tile_bytes > 0 ? options.tile_bytes : kTileBytes, columns_,
                              options.sub_centers)),
      inverse_norm_(num_rows(), 1.0F) {
  weight_ = NewRows();
  first_ = NewRows();
  if (has_second()) second_ = NewRows();
  if (options_.bias) {
    bias_ = at::zeros({num_rows()}, at::kFloat);
    bias_first_ = at::zeros_like(bias_);
    if (has_second()) bias_second_ = at::zeros_like(bias_);
  }
  DrawInitialRows(options_, range_, 0, num_rows(), weight_.mutable_data_ptr<float>(), columns_);
  RowsWritten();
}

at::Tensor CpuHeadShard::NewRows() const {
  at::Tensor rows = at::empty({num_rows(), columns_}, at::kFloat);
  AdviseHugePages(rows.mutable_data_ptr<float>(), rows.nbytes());
  return rows.zero_();
}

std::vector<std::pair<std::string, at::Tensor>> CpuHeadShard::RowTensors() {
  return NamedRowTensors(options_, range_.size(),
                         {weight_, first_, second_, bias_, bias_first_, bias_second_});
}

void CpuHeadShard::RowsWritten() {
  if (!options_.normalizes_weights) return;
  // Summed by the kernel that sums them when rows move: a run that continues from a checkpoint goes
  // on with the same bits. Adding nothing to nothing, it leaves the rows alone.
  RowUpdate nothing;
  nothing.kind = RowUpdate::Kind::kAccumulate;
  at::parallel_for(0, num_rows(), 1024, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> none(static_cast<std::size_t>(columns_), 0.0F);
    float* first = none.data();
    const float radial = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      float* w = Row(weight_, row);
      float squared_norm = 0;
      kernels_.update_rows(false, nullptr, 1, nullptr, 0, columns_,
                           {&w, &first, nullptr, &radial, &squared_norm, nullptr}, nothing);
      inverse_norm_[row] = InverseNorm(squared_norm);
    }
  });
}

CpuHeadShard::Workspace::Workspace(const CpuHeadShard& shard)
    : rows(shard.tile_rows_),
      w(shard.tile_rows_),
      first(shard.tile_rows_),
      second(shard.tile_rows_),
      gradient(shard.tile_rows_),
      factor(shard.tile_rows_),
      radial(shard.tile_rows_),
      squared_norm(shard.tile_rows_),
      along(shard.tile_rows_),
      total(shard.tile_rows_),
      bound(shard.tile_rows_),
      next(shard.tile_rows_),
      left(shard.tile_rows_),
      right(shard.tile_rows_),
      z(shard.tile_rows_ * shard.samples_),
      tile_largest(shard.samples_),
      tile_sum(shard.samples_),
      reference(shard.samples_, std::numeric_limits<float>::infinity()),
      mass(shard.samples_),
      largest(shard.samples_, kNoLogit),
      sum(shard.samples_),
      total_mass(shard.samples_) {
  if (!shard.options_.bf16_products) return;
  narrow_w.resize(shard.tile_rows_ * shard.columns_ / 2);
  paired_w.resize(shard.tile_rows_ * shard.columns_ / 2);
  narrow_g.resize(shard.tile_rows_ * shard.samples_ / 2);
  paired_g.resize(shard.tile_rows_ * shard.samples_ / 2);
}

void CpuHeadShard::SetBatch(const at::Tensor& x, std::vector<OwnTarget> targets,
                            const SampledShare& share) {
  x_ = x;
  batch_ = x.size(0);
  samples_ = RoundUp(batch_, kSampleStep);
  targets_ = std::move(targets);
  all_sampled_ = share.limit >= SampledShare::kAll;
  sampled_ = all_sampled_ ? std::vector<std::int64_t>() : SampledIdentities(share);
  const float* values = x.const_data_ptr<float>();
  const std::int64_t size = options_.embedding_size;
  const auto value = [&](std::int64_t sample, std::int64_t column) {
    return sample < batch_ && column < size ? values[sample * size + column] : 0.0F;
  };
  by_sample_.Fill(columns_, samples_, options_.bf16_products, kernels_,
                  [&](std::int64_t k, std::int64_t n) { return value(n, k); });
  by_column_.Fill(samples_, columns_, options_.bf16_products, kernels_,
                  [&](std::int64_t k, std::int64_t n) { return value(k, n); });
}

std::vector<std::int64_t> CpuHeadShard::SampledIdentities(const SampledShare& share) const {
  std::vector<std::int64_t> sampled;
  auto target = targets_.begin();
  for (std::int64_t identity = 0; identity < range_.size(); ++identity) {
    while (target != targets_.end() && target->identity < identity) ++target;
    const bool positive = target != targets_.end() && target->identity == identity;
    const std::uint64_t draw =
        MixKeys(share.key, static_cast<std::uint64_t>(range_.begin + identity)) >> 11U;
    if (positive || draw < share.limit) sampled.push_back(identity);
  }
  return sampled;
}

at::Tensor CpuHeadShard::TargetLogits(double scale) {
  at::Tensor result = at::zeros({batch_}, at::kDouble);
  double* z = result.mutable_data_ptr<double>();
  const float* x = x_.const_data_ptr<float>();
  const std::int64_t size = options_.embedding_size;
  for (OwnTarget& target : targets_) {
    double best = -std::numeric_limits<double>::infinity();
    const float* sample = x + target.sample * size;
    for (std::int64_t i = 0; i < options_.sub_centers; ++i) {
      const std::int64_t row = target.identity * options_.sub_centers + i;
      double value = Product(Row(weight_, row), sample, size) * scale;
      // In float32 the lengths would be off by 1e-7: an angle of 1e-3 by a hundredth of itself.
      if (options_.normalizes_weights) value /= Length(Row(weight_, row), size);
      if (options_.unit_embeddings) value /= Length(sample, size);
      if (options_.bias) value += bias_.const_data_ptr<float>()[row];
      if (value > best) {
        best = value;
        target.row = row;
      }
    }
    target.z = static_cast<float>(best);
    z[target.sample] = best;
  }
  // An identity's samples may be nearest to different rows of it; tiles look targets up by row.
  std::stable_sort(targets_.begin(), targets_.end(),
                   [](const OwnTarget& a, const OwnTarget& b) { return a.row < b.row; });
  return result;
}

template <class Call>
void CpuHeadShard::ForEachTile(const std::vector<std::int64_t>* identities,
                               std::vector<Workspace>& workspaces, const Call& call) {
  const std::int64_t count =
      identities == nullptr ? range_.size() : static_cast<std::int64_t>(identities->size());
  const std::int64_t per_tile = tile_rows_ / options_.sub_centers;
  const std::int64_t tiles = (count + per_tile - 1) / per_tile;
  const auto threads = static_cast<std::int64_t>(workspaces.size());
  // By thread, not by whoever is free: sums are then the same in every run.
  at::parallel_for(0, threads, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t thread = first; thread < last; ++thread) {
      Workspace& space = workspaces[thread];
      for (std::int64_t tile = tiles * thread / threads; tile < tiles * (thread + 1) / threads;
           ++tile) {
        LoadTile(identities, tile * per_tile, std::min((tile + 1) * per_tile, count), count, space);
        call(space);
      }
    }
  });
}

void CpuHeadShard::LoadTile(const std::vector<std::int64_t>* identities, std::int64_t begin,
                            std::int64_t end, std::int64_t limit, Workspace& space) {
  const auto identity_at = [&](std::int64_t i) {
    return identities == nullptr ? i : (*identities)[i];
  };
  space.size = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t identity = identity_at(i);
    // In the next tile; at the end any row will do.
    const std::int64_t later = identity_at(std::min(i + end - begin, limit - 1));
    for (std::int64_t k = 0; k < options_.sub_centers; ++k) {
      space.next[space.size] = Row(weight_, later * options_.sub_centers + k);
      const std::int64_t row = identity * options_.sub_centers + k;
      space.rows[space.size] = row;
      space.w[space.size] = Row(weight_, row);
      space.first[space.size] = Row(first_, row);
      if (has_second()) space.second[space.size] = Row(second_, row);
      ++space.size;
    }
  }
  const auto below = [](const OwnTarget& target, std::int64_t row) { return target.row < row; };
  const OwnTarget* all = targets_.data();
  space.target = std::lower_bound(all, all + targets_.size(), space.rows[0], below);
  space.target_end =
      std::lower_bound(space.target, all + targets_.size(), space.rows[space.size - 1] + 1, below);
}

void CpuHeadShard::TileLogits(double scale, Workspace& space) {
  const std::int64_t words = by_sample_.words();
  for (std::int64_t i = 0; i < space.size; ++i) {
    space.factor[i] = static_cast<float>(scale) * inverse_norm_[space.rows[i]];
    space.left[i] = space.w[i];
    if (options_.bf16_products) {
      float* narrow = space.narrow_w.data() + i * words;
      kernels_.narrow_bf16(space.w[i], words, narrow);
      space.left[i] = narrow;
    }
  }
  kernels_.logits(options_.bf16_products, space.left.data(), space.factor.data(), space.size,
                  space.next.data(), by_sample_.data(), samples_, words, space.z.data());
  if (options_.bias) {
    for (std::int64_t i = 0; i < space.size; ++i) {
      const float bias = bias_.const_data_ptr<float>()[space.rows[i]];
      float* z = space.z.data() + i * samples_;
      for (std::int64_t b = 0; b < samples_; ++b) z[b] += bias;
    }
  }
  if (options_.sub_centers > 1) {
    KeepNearest(space.z.data(), space.size, samples_, options_.sub_centers);
  }
}

// A target is no negative: neither are its other sub-centers.
void CpuHeadShard::HideTargets(Workspace& space) const {
  const std::int64_t centers = options_.sub_centers;
  std::int64_t at = 0;  // targets and rows both ascend
  for (const OwnTarget* target = space.target; target != space.target_end; ++target) {
    const std::int64_t row = target->identity * centers;
    while (space.rows[at] < row) ++at;
    for (std::int64_t k = 0; k < centers; ++k) {
      space.z[(at + k) * samples_ + target->sample] = kNoLogit;
    }
  }
}

void CpuHeadShard::AddTileSoftmax(const NegativeRule& rule, Workspace& space) const {
  kernels_.partial_softmax(space.z.data(), space.size, samples_, rule, space.tile_largest.data(),
                           space.tile_sum.data());
  for (std::int64_t b = 0; b < batch_; ++b) {
    const double tile = space.tile_largest[b];
    if (tile > space.largest[b]) {
      space.sum[b] *= std::exp(space.largest[b] - tile);
      space.largest[b] = tile;
    }
    space.sum[b] += space.tile_sum[b] * std::exp(tile - space.largest[b]);
  }
}

// What is already summed, with the targets' logits, is a lower bound of each log-sum-exp; hence
// logit - bound is an upper bound of the logarithm of a probability.
void CpuHeadShard::BoundTile(const NegativeRule& rule, Workspace& space) {
  const std::int64_t centers = options_.sub_centers;
  kernels_.row_bounds(space.z.data(), space.size, samples_, rule, space.reference.data(),
                      space.bound.data());
  for (const OwnTarget* target = space.target; target != space.target_end; ++target) {
    const auto row = std::lower_bound(space.rows.begin(), space.rows.begin() + space.size,
                                      target->identity * centers);
    space.bound[row - space.rows.begin()] = 0;  // never skipped
  }
  int lowest = kBoundBins;
  int highest = -1;
  for (std::int64_t i = 0; i < space.size; i += centers) {
    const float bound =
        *std::max_element(space.bound.begin() + i, space.bound.begin() + i + centers);
    const int bin =
        bound >= 0 ? kBoundBins : std::min(static_cast<int>(-2 * bound), kBoundBins - 1);
    bins_[space.rows[i] / centers] = bin;
    std::fill_n(space.bin.begin() + i, centers, bin);
    if (bin == kBoundBins) continue;
    lowest = std::min(lowest, bin);
    highest = std::max(highest, bin);
  }
  kernels_.add_mass(space.z.data(), space.size, samples_, rule, space.reference.data(),
                    space.bin.data(), space.tile_mass.data());
  for (int bin = lowest; bin <= highest; ++bin) {
    float* mass = space.tile_mass.data() + bin * samples_;
    for (std::int64_t b = 0; b < batch_; ++b) space.mass_by_bin[bin * batch_ + b] += mass[b];
    std::fill_n(mass, samples_, 0.0F);
  }
}

SoftmaxPass CpuHeadShard::Softmax(double scale, const NegativeRule& rule,
                                  const at::Tensor& references) {
  const bool bounds = references.defined();
  std::vector<Workspace> spaces(at::get_num_threads(), Workspace(*this));
  if (bounds) {
    bins_.assign(range_.size(), kBoundBins);
    for (Workspace& space : spaces) {
      space.bin.resize(tile_rows_);
      space.tile_mass.resize((kBoundBins + 1) * samples_);
      space.mass_by_bin.resize(kBoundBins * batch_);
    }
  }
  const double* reference = bounds ? references.const_data_ptr<double>() : nullptr;
  ForEachTile(Sampled(), spaces, [&](Workspace& space) {
    TileLogits(scale, space);
    HideTargets(space);
    AddTileSoftmax(rule, space);
    if (!bounds) return;
    for (std::int64_t b = 0; b < batch_; ++b) {
      const double seen = space.sum[b] > 0 ? space.largest[b] + std::log(space.sum[b]) : kNoLogit;
      // log(exp(a) + exp(b)), rounded down
      const double high = std::max(seen, reference[b]);
      const double both = high + std::log1p(std::exp(std::min(seen, reference[b]) - high));
      space.reference[b] = static_cast<float>(both - 1e-6 * std::abs(both));
    }
    BoundTile(rule, space);
  });
  SoftmaxPass pass{at::full({batch_}, kNoLogit, at::kDouble), at::zeros({batch_}, at::kDouble), {}};
  double* largest = pass.largest.mutable_data_ptr<double>();
  double* sum = pass.sum.mutable_data_ptr<double>();
  for (const Workspace& space : spaces) {
    for (std::int64_t b = 0; b < batch_; ++b) {
      const double now = std::max(largest[b], space.largest[b]);
      sum[b] =
          sum[b] * std::exp(largest[b] - now) + space.sum[b] * std::exp(space.largest[b] - now);
      largest[b] = now;
    }
  }
  if (bounds) {
    pass.mass_by_bin = at::zeros({kBoundBins, batch_}, at::kDouble);
    for (Workspace& space : spaces) {
      pass.mass_by_bin.add_(
          at::from_blob(space.mass_by_bin.data(), {kBoundBins, batch_}, at::kDouble));
    }
  }
  return pass;
}

// z -> g, and what of each row's gradient points along the row.
void CpuHeadShard::TileGradients(const NegativeRule& rule, const float* log_sum_exp, double share,
                                 const double* target_gradients, Workspace& space) const {
  std::fill(space.mass.begin(), space.mass.end(), 0.0F);
  kernels_.softmax_gradients(space.z.data(), space.factor.data(), space.size, samples_, rule,
                             log_sum_exp, static_cast<float>(share), space.along.data(),
                             space.total.data(), space.mass.data());
  for (std::int64_t b = 0; b < batch_; ++b) space.total_mass[b] += space.mass[b];
  std::int64_t at = 0;
  for (const OwnTarget* target = space.target; target != space.target_end; ++target) {
    while (space.rows[at] < target->row) ++at;
    const auto d = static_cast<float>(target_gradients[target->sample]);
    space.z[at * samples_ + target->sample] = d * space.factor[at];
    space.along[at] += d * target->z;
    space.total[at] += d;
  }
  for (std::int64_t i = 0; i < space.size; ++i) {
    const float inverse = inverse_norm_[space.rows[i]];
    space.radial[i] = options_.normalizes_weights ? space.along[i] * inverse * inverse : 0;
  }
}

void CpuHeadShard::TileProducts(const RowUpdate& update, Workspace& space) {
  const std::int64_t size = space.size;
  if (!options_.bf16_products) {
    std::copy_n(space.w.begin(), size, space.right.begin());
    kernels_.embedding_gradients(false, space.z.data(), space.right.data(), size, samples_,
                                 columns_, space.dx.data());
    UpdateTile(space.z.data(), by_column_.words(), update, space);
    return;
  }
  const std::int64_t pairs = (size + 1) / 2;
  for (std::int64_t i = 0; i < pairs; ++i) {
    const bool whole = 2 * i + 1 < size;
    float* g = space.z.data() + 2 * i * samples_;
    kernels_.interleave_bf16(g, whole ? g + samples_ : nullptr, samples_,
                             space.paired_g.data() + i * samples_);
    float* paired = space.paired_w.data() + i * columns_;
    kernels_.interleave_bf16(space.w[2 * i], whole ? space.w[2 * i + 1] : nullptr, columns_,
                             paired);
    space.right[i] = paired;
  }
  kernels_.embedding_gradients(true, space.paired_g.data(), space.right.data(), pairs, samples_,
                               columns_, space.dx.data());
  kernels_.narrow_bf16(space.z.data(), size * samples_ / 2, space.narrow_g.data());
  UpdateTile(space.narrow_g.data(), by_column_.words(), update, space);
}

void CpuHeadShard::UpdateTile(const float* g, std::int64_t words, const RowUpdate& update,
                              Workspace& space) {
  const bool accumulates = update.kind == RowUpdate::Kind::kAccumulate;
  const TileRows rows{space.w.data(),
                      accumulates ? space.gradient.data() : space.first.data(),
                      has_second() ? space.second.data() : nullptr,
                      space.radial.data(),
                      space.squared_norm.data(),
                      nullptr};
  kernels_.update_rows(options_.bf16_products, g, space.size, by_column_.data(), words, columns_,
                       rows, update);
  if (accumulates || !options_.normalizes_weights) return;
  for (std::int64_t i = 0; i < space.size; ++i) {
    inverse_norm_[space.rows[i]] = InverseNorm(space.squared_norm[i]);
  }
}

void CpuHeadShard::MoveBias(std::int64_t row, float gradient, const RowUpdate& update) {
  float& bias = bias_.mutable_data_ptr<float>()[row];
  float& first = bias_first_.mutable_data_ptr<float>()[row];
  switch (update.kind) {
    case RowUpdate::Kind::kMomentum:
      first = update.momentum * first + update.bias_gain * gradient;
      bias -= update.by_momentum * first + update.by_gradient * gradient;
      return;
    case RowUpdate::Kind::kAdamW: {
      float& second = bias_second_.mutable_data_ptr<float>()[row];
      first = update.beta1 * first + update.rest1 * gradient;
      second = update.beta2 * second + update.rest2 * gradient * gradient;
      bias -= update.lr * first * update.inverse_correction1 /
              (std::sqrt(second * update.inverse_correction2) + update.epsilon);
      return;
    }
    case RowUpdate::Kind::kAccumulate:
      bias_gradient_.mutable_data_ptr<float>()[row] += gradient;
  }
}

void CpuHeadShard::UpdateBias(const Workspace& space, const RowUpdate& update) {
  if (!options_.bias) return;
  for (std::int64_t i = 0; i < space.size; ++i) MoveBias(space.rows[i], space.total[i], update);
}

GradientPass CpuHeadShard::Gradients(double scale, const NegativeRule& rule,
                                     const at::Tensor& log_sum_exp, double share,
                                     const at::Tensor& target_gradients, int skip_from,
                                     const RowUpdate& update) {
  const bool accumulates = update.kind == RowUpdate::Kind::kAccumulate;
  if (accumulates && !gradient_.defined()) {
    gradient_ = NewRows();
    if (options_.bias) bias_gradient_ = at::zeros_like(bias_);
    accumulated_.assign(range_.size(), 0);
  }
  // Which identities take part in the products, and which only move on.
  std::vector<std::int64_t> kept;
  std::vector<std::int64_t> skipped;
  if (skip_from >= 0) {
    const auto sort_out = [&](std::int64_t identity) {
      const std::int32_t bin = bins_[identity];
      (bin >= skip_from && bin < kBoundBins ? skipped : kept).push_back(identity);
    };
    if (all_sampled_) {
      for (std::int64_t identity = 0; identity < range_.size(); ++identity) sort_out(identity);
    } else {
      for (const std::int64_t identity : sampled_) sort_out(identity);
    }
  }
  std::vector<float> shift(samples_, std::numeric_limits<float>::infinity());
  for (std::int64_t b = 0; b < batch_; ++b) {
    shift[b] = static_cast<float>(log_sum_exp.const_data_ptr<double>()[b]);
  }
  std::vector<Workspace> spaces(at::get_num_threads(), Workspace(*this));
  for (Workspace& space : spaces) space.dx.assign(samples_ * columns_, 0.0F);
  const auto use_gradient = [&](Workspace& space) {
    if (!accumulates) return;
    for (std::int64_t i = 0; i < space.size; ++i) {
      space.gradient[i] = Row(gradient_, space.rows[i]);
      accumulated_[space.rows[i] / options_.sub_centers] = 1;
    }
  };
  ForEachTile(skip_from >= 0 ? &kept : Sampled(), spaces, [&](Workspace& space) {
    use_gradient(space);
    TileLogits(scale, space);
    HideTargets(space);
    TileGradients(rule, shift.data(), share, target_gradients.const_data_ptr<double>(), space);
    TileProducts(update, space);
    UpdateBias(space, update);
  });
  if (!skipped.empty()) {
    ForEachTile(&skipped, spaces, [&](Workspace& space) {
      use_gradient(space);
      std::fill(space.radial.begin(), space.radial.end(), 0.0F);
      std::fill(space.total.begin(), space.total.end(), 0.0F);
      if (!accumulates) UpdateTile(nullptr, 0, update, space);
      UpdateBias(space, update);
    });
  }
  GradientPass pass{at::zeros({batch_, options_.embedding_size}, at::kFloat),
                    at::zeros({batch_}, at::kDouble), static_cast<std::int64_t>(skipped.size())};
  for (Workspace& space : spaces) {
    pass.dx.add_(at::from_blob(space.dx.data(), {samples_, columns_}, at::kFloat)
                     .slice(0, 0, batch_)
                     .slice(1, 0, options_.embedding_size));
    pass.mass.add_(at::from_blob(space.total_mass.data(), {batch_}, at::kDouble));
  }
  return pass;
}

std::vector<std::int64_t> CpuHeadShard::AccumulatedIdentities() const {
  std::vector<std::int64_t> identities;
  for (std::size_t i = 0; i < accumulated_.size(); ++i) {
    if (accumulated_[i] != 0) identities.push_back(static_cast<std::int64_t>(i));
  }
  return identities;
}

// In blocks of so many identities, whose sums are added in order: the same for any threads.
at::Tensor CpuHeadShard::AccumulatedSquares() {
  constexpr std::int64_t kBlock = 64;
  const std::vector<std::int64_t> identities = AccumulatedIdentities();
  const auto count = static_cast<std::int64_t>(identities.size());
  const std::int64_t blocks = (count + kBlock - 1) / kBlock;
  const std::int64_t elements = options_.sub_centers * columns_;
  at::Tensor squares = at::zeros({blocks, 2}, at::kDouble);
  auto* sums = squares.mutable_data_ptr<double>();
  at::parallel_for(0, blocks, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = first; block < last; ++block) {
      for (std::int64_t i = block * kBlock; i < std::min(count, (block + 1) * kBlock); ++i) {
        const std::int64_t row = identities[i] * options_.sub_centers;
        sums[2 * block] += SumOfSquares(Row(weight_, row), elements);
        sums[2 * block + 1] += SumOfSquares(Row(gradient_, row), elements);
      }
    }
  });
  return squares.sum(0);
}

void CpuHeadShard::ApplyAccumulated(const RowUpdate& update) {
  if (!gradient_.defined()) return;
  const std::vector<std::int64_t> identities = AccumulatedIdentities();
  std::fill(accumulated_.begin(), accumulated_.end(), 0);
  std::vector<Workspace> spaces(at::get_num_threads(), Workspace(*this));
  ForEachTile(&identities, spaces, [&](Workspace& space) {
    for (std::int64_t i = 0; i < space.size; ++i) {
      space.gradient[i] = Row(gradient_, space.rows[i]);
      if (options_.bias) {
        float& gradient = bias_gradient_.mutable_data_ptr<float>()[space.rows[i]];
        space.total[i] = gradient;
        gradient = 0;
      }
    }
    std::fill(space.radial.begin(), space.radial.end(), 0.0F);
    const TileRows rows{space.w.data(),
                        space.first.data(),
                        has_second() ? space.second.data() : nullptr,
                        space.radial.data(),
                        space.squared_norm.data(),
                        space.gradient.data()};
    kernels_.update_rows(false, nullptr, space.size, nullptr, 0, columns_, rows, update);
    for (std::int64_t i = 0; i < space.size && options_.normalizes_weights; ++i) {
      inverse_norm_[space.rows[i]] = InverseNorm(space.squared_norm[i]);
    }
    UpdateBias(space, update);
  });
}

void CpuHeadShard::DropAccumulated() {
  if (!gradient_.defined()) return;
  for (std::int64_t identity = 0; identity < range_.size(); ++identity) {
    if (std::exchange(accumulated_[identity], 0) == 0) continue;
    for (std::int64_t k = 0; k < options_.sub_centers; ++k) {
      const std::int64_t row = identity * options_.sub_centers + k;
      std::fill_n(Row(gradient_, row), columns_, 0.0F);
      if (options_.bias) bias_gradient_.mutable_data_ptr<float>()[row] = 0;
    }
  }
}

}  // namespace

std::unique_ptr<HeadShard> MakeCpuHeadShard(const HeadShardOptions& options, IdentityRange range) {
  return std::make_unique<CpuHeadShard>(options, range);
}

}  // namespace fr
