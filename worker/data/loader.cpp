#include "worker/data/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <stop_token>
#include <thread>

#include <fmt/format.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "worker/data/image.h"
#include "worker/data/sample_order.h"

namespace fr {
namespace {

constexpr std::size_t kBatchesAhead = 3;
// So many images a thread takes at a time: few locks, and still all threads at one batch.
constexpr std::int64_t kImagesAtATime = 4;

}  // namespace

struct Loader::Impl {
  // A batch in the making.
  struct Slot {
    Slot(const SampleOrder& the_order, std::int64_t begin) : order(the_order), first(begin) {}
    SampleOrder order;
    std::int64_t first;      // position in the epoch of image 0
    std::int64_t taken = 0;  // images that a thread has begun with
    std::int64_t done = 0;
    std::exception_ptr failure;
    Batch batch;
  };

  Impl(const TrainingSet& the_set, const LoaderOptions& the_options)
      : set(the_set),
        options(the_options),
        count(options.slice_end - options.slice_begin),
        epoch(options.start_epoch),
        samples(options.start_samples) {
    for (int i = 0; i < options.threads; ++i) {
      threads.emplace_back([this](const std::stop_token& stop) { Work(stop); });
    }
  }

  // The batch after the last one that was begun.
  void AddSlot() {
    if (samples + options.total_batch > set.num_images()) {
      ++epoch;
      samples = 0;
    }
    Slot& slot = slots.emplace_back(SampleOrder(options.seed, epoch, set.num_images()),
                                    samples + options.slice_begin);
    samples += options.total_batch;
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

  void Load(const SampleOrder& order, std::int64_t position, std::uint8_t* pixels,
            std::int64_t* label) const {
    const std::int64_t sample = order[position];
    Sample encoded;
    set.Read(sample, &encoded);
    *label = encoded.identity;
    try {
      DecodeImageInto(encoded.image, set.height(), set.width(), pixels);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: {}", set.Describe(sample), error.what()));
    }
    if (options.flip && order.Flip(sample)) FlipHorizontally(set.height(), set.width(), pixels);
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
        for (std::int64_t i = begin; i < end; ++i) {
          Load(slot->order, slot->first + i,
               slot->batch.images.data() + static_cast<std::size_t>(i) * ImageBytes(),
               &slot->batch.labels[static_cast<std::size_t>(i)]);
        }
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
  const std::int64_t count;  // images of a slice

  std::mutex mutex;
  std::condition_variable_any changed;
  std::deque<Slot> slots;  // in the order of training; its elements never move
  std::int64_t epoch;
  std::int64_t samples;
  std::int64_t waited_ms = 0;
  std::vector<std::jthread> threads;  // last: they end before the rest goes
};

Loader::Loader(const TrainingSet& set, const LoaderOptions& options)
    : impl_(std::make_unique<Impl>(set, options)) {}

Loader::~Loader() {
  for (std::jthread& thread : impl_->threads) thread.request_stop();
}

Batch Loader::Next() {
  const std::int64_t started_ms = SteadyMillis();
  std::unique_lock lock(impl_->mutex);
  if (impl_->count == 0) return {impl_->set.height(), impl_->set.width(), {}, {}};
  impl_->changed.wait(
      lock, [this] { return !impl_->slots.empty() && impl_->slots.front().done == impl_->count; });
  Impl::Slot& slot = impl_->slots.front();
  if (slot.failure) std::rethrow_exception(slot.failure);
  Batch batch = std::move(slot.batch);
  impl_->slots.pop_front();
  impl_->waited_ms += SteadyMillis() - started_ms;
  impl_->changed.notify_all();
  return batch;
}

std::int64_t Loader::waited_ms() const { return impl_->waited_ms; }

}  // namespace fr
