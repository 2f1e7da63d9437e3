#include "worker/dedupe/identity_centres.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include <fmt/format.h>

#include "common/base/error.h"
#include "common/base/parallel.h"

namespace fr {
namespace {

class CentreBuilder {
 public:
  CentreBuilder(const TrainingSet& set, const EmbedFunction& embed, const CentreOptions& options,
                CentreFileWriter* centres)
      : set_(set), embed_(embed), options_(options), centres_(*centres) {}

  std::int64_t Run() {
    images_ = set_.ImagesByIdentity();
    identity_ = centres_.done();
    const std::int64_t total = set_.num_images();
    first_ = images_.begin[static_cast<std::size_t>(identity_)];
    // In the batches of one that was never stopped: an embedding's last bits depend on its batch.
    std::int64_t begin = first_ < total ? first_ - first_ % options_.batch : total;
    options_.report.progress(first_, total);
    while (begin < total) {
      const std::int64_t end = std::min<std::int64_t>(begin + options_.batch, total);
      AddImages(begin, end);
      Flush();
      begin = end;
      options_.report.progress(begin, total);
    }
    while (identity_ < images_.num_identities()) FinishIdentity();
    Flush();
    return broken_;
  }

 private:
  // Images [begin, end) of the order by identity.
  void AddImages(std::int64_t begin, std::int64_t end) {
    const auto count = static_cast<std::size_t>(end - begin);
    const std::size_t bytes = static_cast<std::size_t>(set_.height() * set_.width()) * 3;
    Batch batch;
    batch.height = set_.height();
    batch.width = set_.width();
    batch.images.resize(count * bytes);
    batch.labels.resize(count);
    std::vector<char> good(count);
    ParallelFor(end - begin, options_.threads, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i);
      good[at] = Decode(images_.images[static_cast<std::size_t>(begin) + at],
                        batch.images.data() + at * bytes)
                     ? 1
                     : 0;
    });
    const at::Tensor embeddings = embed_(batch).contiguous();
    const std::int64_t dimension = embeddings.size(1);
    sum_.resize(static_cast<std::size_t>(dimension));
    const float* row = embeddings.const_data_ptr<float>();
    for (std::size_t i = 0; i < count; ++i, row += dimension) {
      const std::int64_t place = begin + static_cast<std::int64_t>(i);
      if (place < first_) continue;
      while (place >= images_.begin[static_cast<std::size_t>(identity_) + 1]) FinishIdentity();
      if (good[i] != 0) Add({row, sum_.size()}, images_.images[static_cast<std::size_t>(place)]);
    }
  }

  bool Decode(std::int64_t image, std::uint8_t* pixels) {
    try {
      DecodeSample(set_, image, pixels);
      return true;
    } catch (const Error& error) {
      if (!options_.skip_broken || error.code() != ErrorCode::kDataLoss) throw;
      ++broken_;
      return false;
    }
  }

  void Add(std::span<const float> embedding, std::int64_t image) {
    double squares = 0;
    for (const float value : embedding) squares += static_cast<double>(value) * value;
    if (!std::isfinite(squares)) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: its embedding is no numbers: the model is damaged, or its "
                              "training diverged",
                              set_.Describe(image)));
    }
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (std::size_t i = 0; i < sum_.size(); ++i) sum_[i] += embedding[i] * scale;
  }

  void FinishIdentity() {
    double squares = 0;
    for (const double value : sum_) squares += value * value;
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (double& value : sum_) {
      rows_.push_back(static_cast<float>(value * scale));
      value = 0;
    }
    ++identity_;
  }

  void Flush() {
    centres_.Append(rows_);
    rows_.clear();
  }

  const TrainingSet& set_;
  const EmbedFunction& embed_;
  const CentreOptions& options_;
  CentreFileWriter& centres_;
  IdentityImages images_;
  std::int64_t first_ = 0;     // image that is not in a centre yet, at the start
  std::int64_t identity_ = 0;  // whose images come now
  std::vector<double> sum_;    // of its embeddings so far
  std::vector<float> rows_;    // finished, not yet appended
  std::atomic<std::int64_t> broken_ = 0;
};

}  // namespace

std::int64_t ComputeCentres(const TrainingSet& set, const EmbedFunction& embed,
                            const CentreOptions& options, CentreFileWriter* centres) {
  return CentreBuilder(set, embed, options, centres).Run();
}

}  // namespace fr
