#include "worker/heads/gpu_head_shard.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "common/base/error.h"
#include "worker/gpu/gpu_kernels.h"

namespace fr {
namespace {

// Rows that are drawn on the processor at a time.
constexpr std::int64_t kDrawnRows = 64 * 1024;

template <class T>
T* DataOf(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<T>() : nullptr;
}

// A vector of the processor's, on its way to the GPU.
template <class T>
at::Tensor Upload(const std::vector<T>& values, at::ScalarType type, at::Device device) {
  at::Tensor host = at::empty({static_cast<std::int64_t>(values.size())}, type);
  std::copy(values.begin(), values.end(), host.mutable_data_ptr<T>());
  return host.to(device);
}

class GpuHeadShard final : public HeadShard {
 public:
  GpuHeadShard(const HeadShardOptions& options, IdentityRange range, Gpu& gpu);

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
  // Lengths are taken whenever a tile is read: nothing is remembered of the rows.
  void RowsWritten() override {}

 private:
  // What the passes write tile by tile; common/plan/gpu_memory.cpp counts it.
  struct Workspace {
    at::Tensor w;             // [planes, tile rows, columns] bfloat16 bits
    at::Tensor g;             // [planes, tile rows, samples] bfloat16 bits
    at::Tensor factor;        // [tile rows]
    at::Tensor inverse_norm;  // [tile rows]
    at::Tensor radial;        // [tile rows]
    at::Tensor along;         // [sample blocks, tile rows]
    at::Tensor total;         // [sample blocks, tile rows]
    at::Tensor largest;       // [row blocks, samples]
    at::Tensor sum;           // [row blocks, samples]
  };

  std::int64_t num_rows() const { return range_.size() * options_.sub_centers; }
  bool has_second() const { return options_.optimizer == HeadOptimizer::kAdamW; }
  int planes() const { return options_.bf16_products ? 1 : 3; }
  at::TensorOptions Floats() const { return at::TensorOptions(gpu_.device()).dtype(at::kFloat); }
  void DrawRows();
  void MakeWorkspace();
  GpuRowState State() const;
  at::Tensor RowsOf(const at::Tensor& identities) const;
  at::Tensor SampledIdentities(const SampledShare& share) const;
  at::Tensor AccumulatedRows() const;
  // Tiles of the rows of `list` [k] int64 (undefined: all): call(tile).
  template <class Call>
  void ForEachTile(const at::Tensor& list, const Call& call);
  GpuOperand OperandOf(const at::Tensor& planes, std::int64_t rows) const;
  GpuLogits TileLogits(const GpuRows& tile, double scale, const NegativeRule& rule);
  void AddGradients(const GpuRows& tile, GpuCoefficients* pass, double scale,
                    const NegativeRule& rule, const RowUpdate& update);
  NegativeRule OnGpu(const NegativeRule& rule);
  void PrepareAccumulation();
  void MoveRows(const at::Tensor& rows, bool accumulated, const RowUpdate& update);

  HeadShardOptions options_;
  IdentityRange range_;
  Gpu& gpu_;
  const GpuKernels& kernels_;
  std::int64_t columns_;
  at::Tensor weight_;    // [rows, columns]
  at::Tensor first_;     // momentum or first moment
  at::Tensor second_;    // second moment
  at::Tensor gradient_;  // accumulated; made when first asked for
  at::Tensor bias_, bias_first_, bias_second_, bias_gradient_;  // [rows]
  at::Tensor accumulated_;                                      // [identities] bool

  // The present batch.
  at::Tensor x_;  // [batch, D]
  std::int64_t batch_ = 0;
  std::int64_t samples_ = 0;  // batch_ rounded up
  std::vector<OwnTarget> targets_;
  at::Tensor sampled_rows_;  // [k] int64; undefined: all
  at::Tensor target_list_;   // GpuTarget, as bytes
  at::Tensor wide_x_;        // [planes, samples, columns] bfloat16 bits
  at::Tensor hard_;          // [samples]: of a rule
  at::Tensor bin_;           // [identities] int32
  GpuHeadSizes sizes_;       // of the workspace
  Workspace space_;
};

GpuHeadShard::GpuHeadShard(const HeadShardOptions& options, IdentityRange range, Gpu& gpu)
    : options_(options),
      range_(range),
      gpu_(gpu),
      kernels_(gpu.kernels()),
      columns_(GpuRounded(options.embedding_size)) {
  if (options_.sub_centers > kGpuBlock) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("loss.sub_centers: {} are more than the {} that a GPU's head takes",
                            options_.sub_centers, kGpuBlock));
  }
  weight_ = at::zeros({num_rows(), columns_}, Floats());
  first_ = at::zeros({num_rows(), columns_}, Floats());
  if (has_second()) second_ = at::zeros({num_rows(), columns_}, Floats());
  if (options_.bias) {
    bias_ = at::zeros({num_rows()}, Floats());
    bias_first_ = at::zeros_like(bias_);
    if (has_second()) bias_second_ = at::zeros_like(bias_);
  }
  DrawRows();
}

// On the processor: its mathematics gives the same bits everywhere.
void GpuHeadShard::DrawRows() {
  at::Tensor drawn =
      at::zeros({std::min(num_rows(), kDrawnRows), options_.embedding_size}, at::kFloat);
  for (std::int64_t first = 0; first < num_rows(); first += kDrawnRows) {
    const std::int64_t count = std::min(kDrawnRows, num_rows() - first);
    DrawInitialRows(options_, range_, first, count, drawn.mutable_data_ptr<float>(),
                    options_.embedding_size);
    weight_.slice(0, first, first + count)
        .slice(1, 0, options_.embedding_size)
        .copy_(drawn.slice(0, 0, count));
  }
}

std::vector<std::pair<std::string, at::Tensor>> GpuHeadShard::RowTensors() {
  return NamedRowTensors(options_, range_.size(),
                         {weight_, first_, second_, bias_, bias_first_, bias_second_});
}

GpuRowState GpuHeadShard::State() const {
  GpuRowState state;
  state.w = DataOf<float>(weight_);
  state.first = DataOf<float>(first_);
  state.second = DataOf<float>(second_);
  state.gradient = DataOf<float>(gradient_);
  state.bias = DataOf<float>(bias_);
  state.bias_first = DataOf<float>(bias_first_);
  state.bias_second = DataOf<float>(bias_second_);
  state.bias_gradient = DataOf<float>(bias_gradient_);
  return state;
}

// [k] identities -> [k sub_centers] rows.
at::Tensor GpuHeadShard::RowsOf(const at::Tensor& identities) const {
  if (options_.sub_centers == 1) return identities.contiguous();
  const at::Tensor centers = at::arange(options_.sub_centers, identities.options());
  return (identities.unsqueeze(1) * options_.sub_centers + centers).reshape({-1}).contiguous();
}

// [k] int64, ascending.
at::Tensor GpuHeadShard::SampledIdentities(const SampledShare& share) const {
  at::Tensor takes_part = at::empty({range_.size()}, Floats().dtype(at::kByte));
  kernels_.sample({range_.begin, range_.size(), share.key, share.limit,
                   takes_part.mutable_data_ptr<std::uint8_t>()},
                  gpu_.stream());
  std::vector<std::int64_t> positives;
  for (const OwnTarget& target : targets_) positives.push_back(target.identity);
  takes_part.index_fill_(0, Upload(positives, at::kLong, gpu_.device()), 1);
  return takes_part.nonzero().select(1, 0);
}

void GpuHeadShard::MakeWorkspace() {
  sizes_ = GpuHeadSizesOf(num_rows(), options_.embedding_size, batch_,
                          static_cast<int>(options_.sub_centers), options_.bf16_products,
                          options_.tile_bytes);
  const auto bits = at::TensorOptions(gpu_.device()).dtype(at::kShort);
  space_.w = at::empty({sizes_.planes, sizes_.tile_rows, columns_}, bits);
  space_.g = at::empty({sizes_.planes, sizes_.tile_rows, samples_}, bits);
  space_.factor = at::empty({sizes_.tile_rows}, Floats());
  space_.inverse_norm = at::empty({sizes_.tile_rows}, Floats());
  space_.radial = at::empty({sizes_.tile_rows}, Floats());
  space_.along = at::empty({sizes_.sample_blocks, sizes_.tile_rows}, Floats());
  space_.total = at::empty({sizes_.sample_blocks, sizes_.tile_rows}, Floats());
  space_.largest = at::empty({sizes_.row_blocks, samples_}, Floats());
  space_.sum = at::empty({sizes_.row_blocks, samples_}, Floats());
  wide_x_ = at::empty({sizes_.planes, samples_, columns_}, bits);
}

void GpuHeadShard::SetBatch(const at::Tensor& x, std::vector<OwnTarget> targets,
                            const SampledShare& share) {
  x_ = x.contiguous();
  batch_ = x.size(0);
  targets_ = std::move(targets);
  sampled_rows_ = at::Tensor();
  if (share.limit < SampledShare::kAll) sampled_rows_ = RowsOf(SampledIdentities(share));
  const std::int64_t samples = GpuRounded(std::max<std::int64_t>(batch_, 1));
  if (samples != samples_) {
    samples_ = samples;
    MakeWorkspace();
  }
  kernels_.narrow(x_.const_data_ptr<float>(), batch_, x_.size(1), OperandOf(wide_x_, samples_),
                  gpu_.stream());
}

at::Tensor GpuHeadShard::TargetLogits(double scale) {
  at::Tensor result = at::zeros({batch_}, at::kDouble);
  if (targets_.empty()) return result;
  const auto count = static_cast<std::int64_t>(targets_.size());
  std::vector<std::int64_t> identities;
  std::vector<std::int64_t> samples;
  for (const OwnTarget& target : targets_) {
    identities.push_back(target.identity);
    samples.push_back(target.sample);
  }
  const at::Tensor identity = Upload(identities, at::kLong, gpu_.device());
  const at::Tensor sample = Upload(samples, at::kLong, gpu_.device());
  at::Tensor z = at::empty({count}, Floats().dtype(at::kDouble));
  at::Tensor row = at::empty({count}, Floats().dtype(at::kLong));
  GpuTargetLogits work;
  work.num_targets = count;
  work.identity = identity.const_data_ptr<std::int64_t>();
  work.sample = sample.const_data_ptr<std::int64_t>();
  work.w = weight_.const_data_ptr<float>();
  work.bias = DataOf<float>(bias_);
  work.columns = columns_;
  work.sub_centers = static_cast<int>(options_.sub_centers);
  work.x = x_.const_data_ptr<float>();
  work.x_columns = x_.size(1);
  work.scale = scale;
  work.normalised_rows = options_.normalizes_weights;
  work.unit_samples = options_.unit_embeddings;
  work.z = z.mutable_data_ptr<double>();
  work.best_row = row.mutable_data_ptr<std::int64_t>();
  kernels_.target_logits(work, gpu_.stream());
  const at::Tensor host_z = z.cpu();
  const at::Tensor host_row = row.cpu();
  for (std::int64_t i = 0; i < count; ++i) {
    OwnTarget& target = targets_[static_cast<std::size_t>(i)];
    const double value = host_z.const_data_ptr<double>()[i];
    target.row = host_row.const_data_ptr<std::int64_t>()[i];
    target.z = static_cast<float>(value);
    result.mutable_data_ptr<double>()[target.sample] = value;
  }
  // An identity's samples may be nearest to different rows of it; kernels look targets up by row.
  std::stable_sort(targets_.begin(), targets_.end(),
                   [](const OwnTarget& a, const OwnTarget& b) { return a.row < b.row; });
  return result;
}

template <class Call>
void GpuHeadShard::ForEachTile(const at::Tensor& list, const Call& call) {
  const std::int64_t count = list.defined() ? list.numel() : num_rows();
  for (std::int64_t first = 0; first < count; first += sizes_.tile_rows) {
    GpuRows tile;
    tile.rows = std::min(sizes_.tile_rows, count - first);
    tile.first = first;
    tile.row = list.defined() ? list.const_data_ptr<std::int64_t>() + first : nullptr;
    tile.columns = columns_;
    call(tile);
  }
}

GpuOperand GpuHeadShard::OperandOf(const at::Tensor& planes_of, std::int64_t rows) const {
  GpuOperand operand;
  operand.data = reinterpret_cast<Bf16Bits*>(planes_of.mutable_data_ptr<std::int16_t>());
  operand.planes = planes();
  operand.rows = rows;
  operand.columns = planes_of.size(2);
  operand.plane_stride = planes_of.stride(0);
  return operand;
}

NegativeRule GpuHeadShard::OnGpu(const NegativeRule& rule) {
  NegativeRule own = rule;
  if (rule.hard == nullptr) return own;
  hard_ = at::zeros({samples_}, Floats());
  hard_.slice(0, 0, batch_)
      .copy_(at::from_blob(const_cast<float*>(rule.hard), {batch_}, at::kFloat));
  own.hard = hard_.const_data_ptr<float>();
  return own;
}

GpuLogits GpuHeadShard::TileLogits(const GpuRows& tile, double scale, const NegativeRule& rule) {
  GpuNarrowRows narrow;
  narrow.tile = tile;
  narrow.w = weight_.const_data_ptr<float>();
  narrow.normalised = options_.normalizes_weights;
  narrow.scale = static_cast<float>(scale);
  narrow.out = OperandOf(space_.w, tile.rows);
  narrow.factor = space_.factor.mutable_data_ptr<float>();
  narrow.inverse_norm = space_.inverse_norm.mutable_data_ptr<float>();
  kernels_.narrow_rows(narrow, gpu_.stream());
  GpuLogits logits;
  logits.tile = tile;
  logits.w = narrow.out;
  logits.x = OperandOf(wide_x_, samples_);
  logits.batch = batch_;
  logits.factor = narrow.factor;
  logits.bias = DataOf<float>(bias_);
  logits.sub_centers = static_cast<int>(options_.sub_centers);
  logits.targets = reinterpret_cast<const GpuTarget*>(DataOf<std::uint8_t>(target_list_));
  logits.num_targets = static_cast<std::int64_t>(targets_.size());
  logits.rule = rule;
  return logits;
}

at::Tensor TargetBytes(const std::vector<OwnTarget>& targets, const double* gradients,
                       at::Device device) {
  const std::size_t size = targets.size() * sizeof(GpuTarget);
  at::Tensor host = at::zeros({static_cast<std::int64_t>(size)}, at::kByte);
  auto* out = reinterpret_cast<GpuTarget*>(host.mutable_data_ptr<std::uint8_t>());
  for (const OwnTarget& target : targets) {
    const double gradient = gradients == nullptr ? 0 : gradients[target.sample];
    *out++ = {target.row, static_cast<std::int32_t>(target.sample), target.z,
              static_cast<float>(gradient)};
  }
  return host.to(device);
}

SoftmaxPass GpuHeadShard::Softmax(double scale, const NegativeRule& rule_in,
                                  const at::Tensor& references) {
  const bool bounds = references.defined();
  const NegativeRule rule = OnGpu(rule_in);
  target_list_ = TargetBytes(targets_, nullptr, gpu_.device());
  const auto doubles = Floats().dtype(at::kDouble);
  at::Tensor largest = at::full({samples_}, static_cast<double>(kNoLogit), doubles);
  at::Tensor sum = at::zeros({samples_}, doubles);
  at::Tensor lower;
  at::Tensor reference;
  at::Tensor mass;
  if (bounds) {
    lower = at::zeros({samples_}, doubles);
    lower.slice(0, 0, batch_).copy_(references);
    // Until a tile is summed, the targets' logits are all that is known.
    reference = (lower - 1e-6 * lower.abs()).to(at::kFloat);
    mass = at::zeros({kBoundBins, samples_}, doubles.dtype(at::kLong));
    bin_ = at::full({range_.size()}, kBoundBins, doubles.dtype(at::kInt));
  }
  const auto merge = [&](const GpuSoftmax& work, const at::Tensor& into_largest,
                         const at::Tensor& into_sum) {
    const std::int64_t blocks =
        GpuBlocks(work.logits.tile.rows, GpuBlockRows(work.logits.sub_centers));
    kernels_.merge_softmax(
        {work.largest, work.sum, blocks, samples_, DataOf<double>(into_largest),
         DataOf<double>(into_sum), DataOf<double>(lower), DataOf<float>(reference)},
        gpu_.stream());
  };
  bool is_first = true;
  ForEachTile(sampled_rows_, [&](const GpuRows& tile) {
    GpuSoftmax work;
    work.logits = TileLogits(tile, scale, rule);
    work.largest = space_.largest.mutable_data_ptr<float>();
    work.sum = space_.sum.mutable_data_ptr<float>();
    if (bounds && std::exchange(is_first, false)) {
      // The targets' logits alone are a poor bound, and the first tile may be the only one: it is
      // summed once for nothing but its bounds.
      kernels_.softmax(work, gpu_.stream());
      merge(work, largest.clone(), sum.clone());
    }
    if (bounds) {
      work.bounds = {reference.const_data_ptr<float>(), bin_.mutable_data_ptr<std::int32_t>(),
                     reinterpret_cast<unsigned long long*>(mass.mutable_data_ptr<std::int64_t>())};
    }
    kernels_.softmax(work, gpu_.stream());
    merge(work, largest, sum);
  });
  SoftmaxPass pass{largest.slice(0, 0, batch_).cpu(), sum.slice(0, 0, batch_).cpu(), {}};
  if (bounds) {
    pass.mass_by_bin = (mass.slice(1, 0, batch_).to(at::kDouble) / kMassUnits).cpu();
  }
  return pass;
}

void GpuHeadShard::PrepareAccumulation() {
  if (gradient_.defined()) return;
  gradient_ = at::zeros_like(weight_);
  if (options_.bias) bias_gradient_ = at::zeros_like(bias_);
  accumulated_ = at::zeros({range_.size()}, Floats().dtype(at::kBool));
}

void GpuHeadShard::MoveRows(const at::Tensor& rows, bool accumulated, const RowUpdate& update) {
  ForEachTile(rows, [&](const GpuRows& tile) {
    kernels_.move_rows({tile, accumulated, State(), update}, gpu_.stream());
  });
}

void GpuHeadShard::AddGradients(const GpuRows& tile, GpuCoefficients* pass, double scale,
                                const NegativeRule& rule, const RowUpdate& update) {
  pass->logits = TileLogits(tile, scale, rule);
  pass->g = OperandOf(space_.g, tile.rows);
  pass->along = space_.along.mutable_data_ptr<float>();
  pass->total = space_.total.mutable_data_ptr<float>();
  kernels_.coefficients(*pass, gpu_.stream());
  GpuRowSums sums;
  sums.tile = tile;
  sums.along = pass->along;
  sums.total = pass->total;
  sums.sample_blocks = GpuBlocks(samples_, kGpuBlock);
  if (options_.normalizes_weights) sums.inverse_norm = space_.inverse_norm.const_data_ptr<float>();
  sums.radial = space_.radial.mutable_data_ptr<float>();
  sums.state = State();
  sums.update = update;
  kernels_.row_sums(sums, gpu_.stream());
}

GradientPass GpuHeadShard::Gradients(double scale, const NegativeRule& rule_in,
                                     const at::Tensor& log_sum_exp, double share,
                                     const at::Tensor& target_gradients, int skip_from,
                                     const RowUpdate& update) {
  const bool accumulates = update.kind == RowUpdate::Kind::kAccumulate;
  if (accumulates) PrepareAccumulation();
  const NegativeRule rule = OnGpu(rule_in);
  target_list_ = TargetBytes(targets_, target_gradients.const_data_ptr<double>(), gpu_.device());
  at::Tensor shift = at::full({samples_}, std::numeric_limits<double>::infinity(), at::kFloat);
  shift.slice(0, 0, batch_).copy_(log_sum_exp);
  shift = shift.to(gpu_.device());

  // Which identities take part in the products, and which only move on.
  at::Tensor rows = sampled_rows_;
  at::Tensor skipped;
  if (skip_from >= 0) {
    const at::Tensor takes_part =
        bin_.lt(skip_from).logical_or(bin_.lt(0)).repeat_interleave(options_.sub_centers);
    const at::Tensor all =
        rows.defined() ? rows : at::arange(num_rows(), takes_part.options().dtype(at::kLong));
    const at::Tensor mask = takes_part.index({all});
    rows = all.masked_select(mask);
    skipped = all.masked_select(mask.logical_not());
  }
  if (accumulates) {
    if (sampled_rows_.defined()) {
      accumulated_.index_fill_(0, sampled_rows_.floor_divide(options_.sub_centers), true);
    } else {
      accumulated_.fill_(true);
    }
  }

  at::Tensor block_mass;
  at::Tensor mass;
  if (skip_from >= 0) {
    mass = at::zeros({samples_}, Floats().dtype(at::kDouble));
    block_mass = at::empty({sizes_.row_blocks, samples_}, Floats());
  }
  const int splits = sizes_.Splits(gpu_.multiprocessors());
  at::Tensor partial = at::zeros({splits, samples_, columns_}, Floats());

  GpuCoefficients pass;
  pass.log_sum_exp = shift.const_data_ptr<float>();
  pass.share = static_cast<float>(share);
  pass.mass = DataOf<float>(block_mass);
  ForEachTile(rows, [&](const GpuRows& tile) {
    AddGradients(tile, &pass, scale, rule, update);
    kernels_.embedding_gradients({pass.g, pass.logits.w, splits, partial.mutable_data_ptr<float>()},
                                 gpu_.stream());
    kernels_.row_products(
        {tile, pass.g, pass.logits.x, space_.radial.const_data_ptr<float>(), State(), update},
        gpu_.stream());
    if (skip_from >= 0) {
      const std::int64_t used = GpuBlocks(tile.rows, GpuBlockRows(pass.logits.sub_centers));
      mass.add_(block_mass.slice(0, 0, used).sum(0, false, at::kDouble));
    }
  });
  if (skipped.defined() && !accumulates) MoveRows(skipped, /*accumulated=*/false, update);

  at::Tensor dx = at::empty({samples_, columns_}, Floats());
  kernels_.sum_parts({partial.const_data_ptr<float>(), splits, samples_ * columns_,
                      dx.mutable_data_ptr<float>(), nullptr},
                     gpu_.stream());
  GradientPass result;
  result.dx = dx.slice(0, 0, batch_).slice(1, 0, options_.embedding_size).contiguous();
  // Nothing to wait for where nobody asks: the backward pass is given to the GPU meanwhile.
  if (mass.defined()) result.mass = mass.slice(0, 0, batch_).cpu();
  result.skipped = skipped.defined() ? skipped.numel() / options_.sub_centers : 0;
  return result;
}

at::Tensor GpuHeadShard::AccumulatedRows() const {
  return RowsOf(accumulated_.nonzero().select(1, 0));
}

at::Tensor GpuHeadShard::AccumulatedSquares() {
  const at::Tensor rows = AccumulatedRows();
  at::Tensor squares = at::zeros({rows.numel(), 2}, Floats().dtype(at::kDouble));
  std::int64_t done = 0;
  ForEachTile(rows, [&](const GpuRows& tile) {
    kernels_.row_squares({tile, weight_.const_data_ptr<float>(), gradient_.const_data_ptr<float>(),
                          squares.mutable_data_ptr<double>() + 2 * done},
                         gpu_.stream());
    done += tile.rows;
  });
  return squares.sum(0).cpu();
}

void GpuHeadShard::ApplyAccumulated(const RowUpdate& update) {
  if (!gradient_.defined()) return;
  MoveRows(AccumulatedRows(), /*accumulated=*/true, update);
  accumulated_.zero_();
}

void GpuHeadShard::DropAccumulated() {
  if (!gradient_.defined()) return;
  gradient_.zero_();
  if (options_.bias) bias_gradient_.zero_();
  accumulated_.zero_();
}

}  // namespace

std::unique_ptr<HeadShard> MakeGpuHeadShard(const HeadShardOptions& options, IdentityRange range,
                                            Gpu& gpu) {
  return std::make_unique<GpuHeadShard>(options, range, gpu);
}

}  // namespace fr
