#include "simt.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace fr::FR_GPU::simt {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t kStackBytes = 256 * 1024;  // frames are larger by the sanitizer's red zones
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif
constexpr int kWarp = 32;
// Of the GPUs we know: what one block can have.
constexpr int kMaxShared = 227 * 1024;
constexpr std::uint8_t kNan = 0xff;  // as bytes of a float or of a bfloat16

// What the address sanitizer must know; nothing in other builds. It keeps the bounds of the stack
// that runs, and is told before and after each change. With every longjmp it forgets where the
// arrays on the stack end that is left: it checks memory, shared and global, not a thread's own.
struct Stack {
  const void* bottom = nullptr;
  std::size_t size = 0;
  void* sanitizers = nullptr;  // its own note of a stack that does not run
};

// `ends`: nothing comes back to the stack that runs now.
void BeforeSwitch([[maybe_unused]] Stack& from, [[maybe_unused]] const Stack& to,
                  [[maybe_unused]] bool ends) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(ends ? nullptr : &from.sanitizers, to.bottom, to.size);
#endif
}

// `before`: gets the bounds of the stack that ran until now.
void AfterSwitch([[maybe_unused]] const Stack& now, [[maybe_unused]] Stack& before) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(now.sanitizers, &before.bottom, &before.size);
#endif
}

void Forbid([[maybe_unused]] const char* begin, [[maybe_unused]] const char* end) {
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(begin, static_cast<std::size_t>(end - begin));
#endif
}

void Allow([[maybe_unused]] const char* begin, [[maybe_unused]] const char* end) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(begin, static_cast<std::size_t>(end - begin));
#endif
}

// Every byte is like the next one.
bool AllNan(const char* begin, const char* end) {
  return begin == end ||
         (static_cast<std::uint8_t>(*begin) == kNan &&
          std::memcmp(begin, begin + 1, static_cast<std::size_t>(end - begin - 1)) == 0);
}

struct Copy {
  void* to = nullptr;
  const void* from = nullptr;
  bool valid = false;
};

// Lanes that wait for each other.
struct Meeting {
  int size = 0;
  int arrived = 0;
  std::uint64_t round = 0;
};

struct Thread {
  std::unique_ptr<char[]> memory;
  Stack stack;  // in `memory`
  ucontext_t start{};
  std::jmp_buf at{};
  int index = 0;
  bool begun = false;
  bool ended = false;
  Meeting* waits_for = nullptr;
  std::uint64_t waits_in = 0;
  std::vector<Copy> open;                 // not committed
  std::vector<std::vector<Copy>> groups;  // committed, oldest first
};

struct Warp {
  Meeting meeting;
  alignas(16) char slots[2][kWarp * kExchangeStride];
};

class Machine {
 public:
  Machine() { std::memset(shared_, kNan, kMaxShared); }

  void Run(const char* name, BlockFunction function, const void* kernel, const void* work,
           Grid grid, int threads, int shared_bytes) {
    if (threads < 1 || threads > 1024 || threads % kWarp != 0 || shared_bytes < 0 ||
        shared_bytes > kMaxShared) {
      Fail(name, "no GPU takes this launch");
    }
    name_ = name;
    function_ = function;
    kernel_ = kernel;
    work_ = work;
    grid_ = grid;
    shared_end_ = shared_ + shared_bytes;
    block_threads_ = threads;
    while (static_cast<int>(threads_.size()) < threads) AddThread();
    for (block_.z = 0; block_.z < grid.z; ++block_.z) {
      for (block_.y = 0; block_.y < grid.y; ++block_.y) {
        for (block_.x = 0; block_.x < grid.x; ++block_.x) RunBlock();
      }
    }
  }

  void Meet(Meeting& meeting) {
    Thread& self = *now_;
    const std::uint64_t round = meeting.round;
    if (++meeting.arrived == meeting.size) {
      meeting.arrived = 0;
      ++meeting.round;
      return;
    }
    self.waits_for = &meeting;
    self.waits_in = round;
    BeforeSwitch(self.stack, scheduler_stack_, false);
    if (_setjmp(self.at) == 0) _longjmp(scheduler_, 1);
    AfterSwitch(now_->stack, scheduler_stack_);
  }

  // 16 bytes that a copy or a load of matrices has to do with.
  void CheckShared(const void* at, const char* what) const {
    const char* begin = static_cast<const char*>(at);
    const bool aligned = reinterpret_cast<std::uintptr_t>(at) % 16 == 0;
    if (begin < shared_ || begin + 16 > shared_end_ || !aligned) Fail(name_, what);
  }

  [[noreturn]] void Fail(const char* name, const char* what) const {
    std::fprintf(stderr, "emulated GPU: kernel %s: %s\n", name, what);
    std::abort();
  }

  Thread* now_ = nullptr;
  const char* name_ = "";
  int block_threads_ = 0;
  Grid block_;
  Grid grid_;
  bool reversed_ = false;
  Meeting block_meeting_;
  std::vector<Warp> warps_;
  alignas(128) char shared_[kMaxShared];
  const char* shared_end_ = shared_;  // of what the kernel asked for

 private:
  static void Begin();

  void AddThread() {
    auto thread = std::make_unique<Thread>();
    thread->memory = std::make_unique<char[]>(kStackBytes);
    thread->stack.bottom = thread->memory.get();
    thread->stack.size = kStackBytes;
    thread->index = static_cast<int>(threads_.size());
    threads_.push_back(std::move(thread));
  }

  void RunBlock() {
    Prepare();
    Forbid(shared_end_, shared_ + kMaxShared);
    int left = block_threads_;
    while (left > 0) {
      const int ended = ResumeAll();
      if (ended < 0) Fail(name_, "threads wait for a barrier that others never come to");
      left -= ended;
    }
    Allow(shared_end_, shared_ + kMaxShared);
    CheckWhatIsLeft();
  }

  void Prepare() {
    block_meeting_ = {block_threads_, 0, 0};
    warps_.assign(static_cast<std::size_t>(block_threads_ / kWarp), Warp());
    for (Warp& warp : warps_) warp.meeting.size = kWarp;
    for (int i = 0; i < block_threads_; ++i) {
      Thread& thread = ThreadAt(i);
      thread.begun = thread.ended = false;
      thread.waits_for = nullptr;
      thread.open.clear();
      thread.groups.clear();
    }
  }

  // Lets every warp run as far as it can without the others: what it writes too early is there
  // before anyone else goes on. How many threads ended; -1: none could run.
  int ResumeAll() {
    int ended = 0;
    bool moved = false;
    for (int i = 0; i < block_threads_ / kWarp; ++i) {
      const int warp = reversed_ ? block_threads_ / kWarp - 1 - i : i;
      while (ResumeWarp(warp, &ended)) moved = true;
    }
    return moved ? ended : -1;
  }

  // Lets every thread of the warp run until its next barrier, or its end; false: none could.
  bool ResumeWarp(int warp, int* ended) {
    bool moved = false;
    for (int i = 0; i < kWarp; ++i) {
      Thread& thread = ThreadAt(warp * kWarp + (reversed_ ? kWarp - 1 - i : i));
      if (thread.ended) continue;
      if (thread.waits_for != nullptr && thread.waits_for->round == thread.waits_in) continue;
      thread.waits_for = nullptr;
      moved = true;
      Resume(thread);
      if (thread.ended) ++*ended;
    }
    return moved;
  }

  // Between blocks all shared memory is NaN; what lies beyond the kernel's own stays so.
  void CheckWhatIsLeft() {
    for (int i = 0; i < block_threads_; ++i) {
      const Thread& thread = ThreadAt(i);
      if (!thread.open.empty() || !thread.groups.empty()) {
        Fail(name_, "a thread ended with copies under way");
      }
    }
    if (!AllNan(shared_end_, shared_ + kMaxShared)) {
      Fail(name_, "wrote beyond the shared memory it asked for");
    }
    std::memset(shared_, kNan, static_cast<std::size_t>(shared_end_ - shared_));
  }

  Thread& ThreadAt(int i) { return *threads_[static_cast<std::size_t>(i)]; }

  __attribute__((noinline)) void Resume(Thread& thread) {
    now_ = &thread;
    BeforeSwitch(scheduler_stack_, thread.stack, false);
    if (_setjmp(scheduler_) != 0) {
      AfterSwitch(scheduler_stack_, now_->stack);
      return;
    }
    if (thread.begun) _longjmp(thread.at, 1);
    thread.begun = true;
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp = thread.memory.get();
    thread.start.uc_stack.ss_size = kStackBytes;
    thread.start.uc_link = nullptr;
    makecontext(&thread.start, &Machine::Begin, 0);
    setcontext(&thread.start);
  }

  BlockFunction function_ = nullptr;
  const void* kernel_ = nullptr;
  const void* work_ = nullptr;
  std::jmp_buf scheduler_{};
  Stack scheduler_stack_;
  std::vector<std::unique_ptr<Thread>> threads_;
};

// One a thread of the process: ranks and tests may run kernels side by side.
Machine& TheMachine() {
  static thread_local const auto machine = std::make_unique<Machine>();
  return *machine;
}

void Machine::Begin() {
  Machine& machine = TheMachine();
  AfterSwitch({}, machine.scheduler_stack_);
  machine.function_(machine.kernel_, machine.work_);
  Machine& same = TheMachine();
  same.now_->ended = true;
  BeforeSwitch(same.now_->stack, same.scheduler_stack_, true);
  _longjmp(same.scheduler_, 1);
}

Warp& OwnWarp() {
  Machine& machine = TheMachine();
  return machine.warps_[static_cast<std::size_t>(machine.now_->index / kWarp)];
}

std::uint16_t Half(std::uint32_t word, int which) {
  return static_cast<std::uint16_t>(which == 0 ? word : word >> 16U);
}

struct Fragments {
  std::uint32_t a[4];
  std::uint32_t b[2];
};

}  // namespace

int ThreadX() { return TheMachine().now_->index; }
int BlockThreads() { return TheMachine().block_threads_; }
std::int64_t BlockX() { return TheMachine().block_.x; }
std::int64_t BlockY() { return TheMachine().block_.y; }
std::int64_t BlockZ() { return TheMachine().block_.z; }
std::int64_t BlocksX() { return TheMachine().grid_.x; }
char* Shared() { return TheMachine().shared_; }
void SyncThreads() { TheMachine().Meet(TheMachine().block_meeting_); }
void SetReversed(bool reversed) { TheMachine().reversed_ = reversed; }

void CopyAsync16(void* shared, const void* global, bool valid) {
  constexpr const char* kWhere = "a copy of 16 bytes to or from where it cannot be";
  TheMachine().CheckShared(shared, kWhere);
  if (valid && reinterpret_cast<std::uintptr_t>(global) % 16 != 0) {
    TheMachine().Fail(TheMachine().name_, kWhere);
  }
  TheMachine().now_->open.push_back({shared, global, valid});
}

void CommitCopies() {
  Thread& self = *TheMachine().now_;
  self.groups.push_back(std::move(self.open));
  self.open.clear();
}

void WaitForCopies(int left) {
  Thread& self = *TheMachine().now_;
  while (static_cast<int>(self.groups.size()) > left) {
    for (const Copy& copy : self.groups.front()) {
      if (copy.valid) {
        std::memcpy(copy.to, copy.from, 16);
      } else {
        std::memset(copy.to, 0, 16);
      }
    }
    self.groups.erase(self.groups.begin());
  }
}

// The slots change with every exchange: who is early with the next one writes into the other half,
// and no one can be two ahead.
const void* Exchange(const void* own, std::size_t size) {
  Warp& warp = OwnWarp();
  const int parity = static_cast<int>(warp.meeting.round % 2);
  char* slots = warp.slots[parity];
  std::memcpy(slots + kExchangeStride * (ThreadX() % kWarp), own, size);
  TheMachine().Meet(warp.meeting);
  return slots;
}

void LoadMatrices(std::uint32_t (&out)[4], const void* row) {
  TheMachine().CheckShared(row, "a matrix's row of 16 bytes from where it cannot be");
  const void* all = Exchange(&row, sizeof(row));
  const int lane = ThreadX() % kWarp;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto* from = FromLane<const std::uint16_t*>(all, 8 * matrix + lane / 4);
    std::memcpy(&out[matrix], from + 2 * (lane % 4), 4);
  }
}

void LoadMatricesTransposed(std::uint32_t (&out)[4], const void* row) {
  TheMachine().CheckShared(row, "a matrix's row of 16 bytes from where it cannot be");
  const void* all = Exchange(&row, sizeof(row));
  const int lane = ThreadX() % kWarp;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const auto* low = FromLane<const std::uint16_t*>(all, 8 * matrix + 2 * (lane % 4));
    const auto* high = FromLane<const std::uint16_t*>(all, 8 * matrix + 2 * (lane % 4) + 1);
    out[matrix] = low[lane / 4] | static_cast<std::uint32_t>(high[lane / 4]) << 16U;
  }
}

void MultiplyAdd(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  Fragments own{{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const void* all = Exchange(&own, sizeof(own));
  const int lane = ThreadX() % kWarp;
  float left[2][16];
  float right[2][16];
  for (int quarter = 0; quarter < 4; ++quarter) {
    const auto rows = FromLane<Fragments>(all, lane / 4 * 4 + quarter);
    for (int i = 0; i < 4; ++i) {
      for (int half = 0; half < 2; ++half) {
        left[i % 2][i / 2 * 8 + 2 * quarter + half] = FromBf16(Half(rows.a[i], half));
      }
    }
    for (int column = 0; column < 2; ++column) {
      const auto columns = FromLane<Fragments>(all, (2 * (lane % 4) + column) * 4 + quarter);
      for (int i = 0; i < 2; ++i) {
        for (int half = 0; half < 2; ++half) {
          right[column][i * 8 + 2 * quarter + half] = FromBf16(Half(columns.b[i], half));
        }
      }
    }
  }
  for (int row = 0; row < 2; ++row) {
    for (int column = 0; column < 2; ++column) {
      double sum = 0;
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(left[row][k]) * right[column][k];
      float& value = c[2 * row + column];
      value = static_cast<float>(value + sum);
    }
  }
}

void RunGrid(const char* name, BlockFunction thread, const void* kernel, const void* work,
             Grid grid, int threads, int shared_bytes) {
  TheMachine().Run(name, thread, kernel, work, grid, threads, shared_bytes);
}

}  // namespace fr::FR_GPU::simt
