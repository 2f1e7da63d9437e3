#pragma once
// The thread on which collectives take place beside computation.

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "worker/comm/communicator.h"

namespace fr {

// Does one work after the other, in the order of Post. What a work throws, its Wait() throws; all
// works after it are not done and fail alike, for ranks that lost step cannot go on together.
class CommunicationThread {
 public:
  CommunicationThread();
  ~CommunicationThread();  // does what was posted, then ends
  CommunicationThread(const CommunicationThread&) = delete;
  CommunicationThread& operator=(const CommunicationThread&) = delete;

  std::unique_ptr<PendingCollective> Post(std::function<void()> work);

 private:
  struct Item;
  class Pending;

  void Run();
  void Do(Item& item);

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::shared_ptr<Item>> queue_;
  bool ends_ = false;
  std::exception_ptr failure_;  // the first; the thread's own
  std::thread thread_;
};

}  // namespace fr
