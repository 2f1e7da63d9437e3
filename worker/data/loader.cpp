#include "worker/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/logging.h"
#include "common/base/random.h"

namespace fr {
namespace {

constexpr std::size_t kBatchesAhead = 3;
// So many images a thread takes at a time: few locks, and still all threads at one batch.
constexpr std::int64_t kImagesAtATime = 4;
// Of random numbers, beside those of the sampler.
constexpr std::uint64_t kAugmentStream = 100;

// Images that proved to be unreadable. Thread-safe.
class UnreadableImages {
 public:
  UnreadableImages(const TrainingSet& set, std::int64_t limit) : set_(set), limit_(limit) {}

  // Throws what Add threw, once it did.
  bool Contains(std::int64_t image) const {
    const std::lock_guard lock(mutex_);
    if (one_too_many_) throw *one_too_many_;
    return images_.contains(image);
  }

  // Throws when there is one too many.
  void Add(std::int64_t image, const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!images_.insert(image).second) return;
    const std::int64_t count = std::ssize(images_);
    if (count > limit_ || count == set_.num_images()) {
      one_too_many_ =
          count == 1 ? error
                     : Error(error.code(),
                             fmt::format("{}; {} images could not be read before, and "
                                         "data.max_bad_records is {}: fr-data check {} "
                                         "finds them all",
                                         error.what(), count - 1, limit_, set_.path().string()));
      throw *one_too_many_;
    }
    spdlog::warn("{}; left out, the next image takes its place ({} of at most {})", error.what(),
                 count, limit_);
  }

  std::int64_t count() const {
    const std::lock_guard lock(mutex_);
    return std::ssize(images_);
  }

 private:
  const TrainingSet& set_;
  const std::int64_t limit_;
  mutable std::mutex mutex_;
  std::set<std::int64_t> images_;
  std::optional<Error> one_too_many_;
};

}  // namespace

struct Loader::Impl {
  // A batch in the making.
  struct Slot {
    std::int64_t epoch = 0;
    std::int64_t first = 0;  // position in the epoch of the global batch's first image
    std::int64_t taken = 0;  // images of the slice that a thread has begun with
    std::int64_t done = 0;
    std::exception_ptr failure;
    Batch batch;
  };

  Impl(const TrainingSet& the_set, const LoaderOptions& the_options)
      : set(the_set),
        options(the_options),
        sampler(the_set, the_options.sampler),
        unreadable(the_set, the_options.max_bad_records),
        count(options.slice_end - options.slice_begin),
        epoch(options.start_epoch),
        samples(options.start_samples) {
    sampler.Prefetch(epoch, samples - samples % options.sampler.window,
                     samples + options.sampler.window);
    for (int i = 0; i < options.threads; ++i) {
      threads.emplace_back([this](const std::stop_token& stop) { Work(stop); });
    }
  }

  // The batch after the last one that was begun.
  void AddSlot() {
    if (batches_begun++ % options.batches_per_step == 0 &&
        samples + options.total_batch * options.batches_per_step > sampler.epoch_size()) {
      ++epoch;
      samples = 0;
    }
    Slot& slot = slots.emplace_back();
    slot.epoch = epoch;
    slot.first = samples;
    samples += options.total_batch;
    if (!used_batches.empty()) {
      slot.batch = std::move(used_batches.back());
      used_batches.pop_back();
    }
    slot.batch.height = set.height();
    slot.batch.width = set.width();
    slot.batch.images.resize(static_cast<std::size_t>(count) * ImageBytes());
    slot.batch.labels.resize(static_cast<std::size_t>(count));
  }

  std::size_t ImageBytes() const {
    return static_cast<std::size_t>(set.height()) * static_cast<std::size_t>(set.width()) * 3;
  }

  // The first slot with images that nobody has begun with, or null when enough is under way.
  Slot* SlotWithWork() {
    for (Slot& slot : slots) {
      if (slot.taken < count) return &slot;
    }
    if (slots.size() >= kBatchesAhead || count == 0) return nullptr;
    AddSlot();
    return &slots.back();
  }

  // What the batch one window later will need, in this epoch or, behind its end, in the next.
  void PrefetchAfter(const Slot& slot) const {
    const std::int64_t later = slot.first + options.sampler.window;
    sampler.Prefetch(slot.epoch, later, later + options.total_batch);
    const std::int64_t beyond = later + options.total_batch - sampler.epoch_size();
    if (beyond > 0) sampler.Prefetch(slot.epoch + 1, beyond - options.total_batch, beyond);
  }

  // Image `index` of the slice.
  void Load(Slot* slot, std::int64_t index) {
    const std::int64_t position = slot->first + options.slice_begin + index;
    std::uint8_t* pixels =
        slot->batch.images.data() + static_cast<std::size_t>(index) * ImageBytes();
    std::int64_t* label = &slot->batch.labels[static_cast<std::size_t>(index)];
    std::int64_t image = sampler(slot->epoch, position);
    while (true) {
      if (!unreadable.Contains(image)) {
        try {
          *label = DecodeSample(set, image, pixels);
          break;
        } catch (const Error& error) {
          if (error.code() != ErrorCode::kDataLoss) throw;
          unreadable.Add(image, error);
        }
      }
      image = (image + 1) % set.num_images();
    }
    const std::uint64_t key =
        MixKeys(MixKeys(options.sampler.seed, kAugmentStream),
                static_cast<std::uint64_t>(slot->epoch), static_cast<std::uint64_t>(position));
    Augment(options.augment, key, set.height(), set.width(), pixels);
  }

  void Work(const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    while (true) {
      Slot* slot = nullptr;
      changed.wait(lock, stop, [&] { return (slot = SlotWithWork()) != nullptr; });
      if (stop.stop_requested()) return;
      const std::int64_t begin = slot->taken;
      const std::int64_t end = std::min(begin + kImagesAtATime, count);
      slot->taken = end;
      lock.unlock();
      std::exception_ptr failure;
      try {
        if (begin == 0) PrefetchAfter(*slot);
        for (std::int64_t i = begin; i < end; ++i) Load(slot, i);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure) slot->failure = failure;
      slot->done += end - begin;  // a slot goes only when all of its images are done
      if (slot->done == count) changed.notify_all();
    }
  }

  const TrainingSet& set;
  const LoaderOptions options;
  const Sampler sampler;
  UnreadableImages unreadable;
  const std::int64_t count;  // images of a slice

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Slot> slots;           // in the order of training; its elements never move
  std::vector<Batch> used_batches;  // whose memory the next slots take
  std::int64_t epoch;
  std::int64_t samples;
  std::int64_t batches_begun = 0;
  std::int64_t waited_ms = 0;
  std::vector<std::jthread> threads;  // last: they end before the rest goes
};

Loader::Loader(const TrainingSet& set, const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(set, options)) {}

Loader::~Loader() {
  for (std::jthread& thread : impl_->threads) thread.request_stop();
}

void Loader::Next(Batch* batch) {
  const std::int64_t started_ms = SteadyMillis();
  std::unique_lock lock(impl_->mutex);
  if (impl_->count == 0) {
    *batch = {impl_->set.height(), impl_->set.width(), {}, {}};
    return;
  }
  impl_->changed.wait(
      lock, [this] { return !impl_->slots.empty() && impl_->slots.front().done == impl_->count; });
  Impl::Slot& slot = impl_->slots.front();
  if (slot.failure) std::rethrow_exception(slot.failure);
  std::swap(*batch, slot.batch);
  impl_->used_batches.push_back(std::move(slot.batch));
  impl_->slots.pop_front();
  impl_->waited_ms += SteadyMillis() - started_ms;
  impl_->changed.notify_all();
}

std::int64_t Loader::waited_ms() const { return impl_->waited_ms; }

std::int64_t Loader::bad_records() const { return impl_->unreadable.count(); }

}  // namespace fr
