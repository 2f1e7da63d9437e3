#include "worker/comm/communication_thread.h"

#include <utility>

#include <sys/prctl.h>

#include "common/base/clock.h"

namespace fr {
struct CommunicationThread::Item {
  std::function<void()> work;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr failure;
  TimeSpan span;
};

class CommunicationThread::Pending : public PendingCollective {
 public:
  explicit Pending(std::shared_ptr<Item> item) : item_(std::move(item)) {}

  TimeSpan Wait() override {
    std::unique_lock lock(item_->mutex);
    item_->changed.wait(lock, [&] { return item_->done; });
    if (item_->failure) std::rethrow_exception(item_->failure);
    return item_->span;
  }

 private:
  std::shared_ptr<Item> item_;
};

CommunicationThread::CommunicationThread() : thread_([this] { Run(); }) {}

CommunicationThread::~CommunicationThread() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  posted_.notify_one();
  thread_.join();
}

std::unique_ptr<PendingCollective> CommunicationThread::Post(std::function<void()> work) {
  auto item = std::make_shared<Item>();
  item->work = std::move(work);
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(item);
  }
  posted_.notify_one();
  return std::make_unique<Pending>(std::move(item));
}

void CommunicationThread::Run() {
  // Naps of 20 us would last 70 us: Linux lets them run late by 50 us.
  prctl(PR_SET_TIMERSLACK, 1000UL);
  while (true) {
    std::shared_ptr<Item> item;
    {
      std::unique_lock lock(mutex_);
      posted_.wait(lock, [&] { return ends_ || !queue_.empty(); });
      if (queue_.empty()) return;
      item = std::move(queue_.front());
      queue_.pop_front();
    }
    Do(*item);
  }
}

void CommunicationThread::Do(Item& item) {
  TimeSpan span{SteadyNanos(), 0};
  if (!failure_) {
    try {
      item.work();
    } catch (...) {
      failure_ = std::current_exception();
    }
  }
  span.end_ns = SteadyNanos();
  item.work = nullptr;  // it may hold memory, which shall not live as long as the pending
  {
    const std::lock_guard lock(item.mutex);
    item.span = span;
    item.failure = failure_;
    item.done = true;
  }
  item.changed.notify_all();
}

}  // namespace fr
