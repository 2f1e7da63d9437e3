// Engine tests run under mpirun at 1 to 4 ranks. A test is collective unless it says otherwise;
// tests of one rank's work alone run on rank 0.
//
// FR_TEST_DEVICE=emulated_gpu runs them on the emulated GPU: the code that a GPU's ranks run, with
// the kernels' own source, on the processor. FR_TEST_DEVICE=cuda: on real ones, the ranks of a host
// in turn.

#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "emulated_gpu.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/gpu/open_gpu.h"

namespace {

// What rank 0 does not see: failures of the other ranks, with their rank.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

 private:
  void OnTestStart(const testing::TestInfo& test) override {
    name_ = std::string(test.test_suite_name()) + "." + test.name();
  }
  // GoogleTest holds its lock here: the present test must not be asked for.
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    const char* file = result.file_name() == nullptr ? "" : result.file_name();
    // In one piece: other ranks print too.
    std::cerr << "rank " + std::to_string(rank_) + ": " + name_ + ": " + file + ":" +
                     std::to_string(result.line_number()) + ": " + result.message() + "\n";
  }

  int rank_;
  std::string name_;
};

// What FR_TEST_DEVICE asks for, for UseGpu; null: the processor. Throws for what is not there:
// tests that silently ran elsewhere would prove nothing.
std::unique_ptr<fr::Gpu> OpenTestGpu(const fr::Communicator& comm) {
  const char* value = std::getenv("FR_TEST_DEVICE");
  const std::string device = value == nullptr ? "cpu" : value;
  if (device == "cpu") return nullptr;
  if (device == "emulated_gpu") return std::make_unique<fr::EmulatedGpu>();
  if (device != "cuda") throw std::runtime_error("FR_TEST_DEVICE=" + device + ": not known");
  const int count = fr::CountGpus();
  if (count == 0) throw std::runtime_error("FR_TEST_DEVICE=cuda: this program finds no GPU");
  return fr::OpenGpu(comm.rank_on_this_host() % count, /*deterministic=*/true);
}

std::unique_ptr<fr::Gpu> OpenTestGpuOrEnd(const fr::Communicator& comm) {
  try {
    return OpenTestGpu(comm);
  } catch (const std::exception& error) {
    std::cerr << "engine tests: " << error.what() << "\n";
    fr::MpiSession::Abort(2);
  }
}

}  // namespace

int main(int argc, char** argv) {
  fr::MpiSession mpi(&argc, &argv);
  testing::InitGoogleTest(&argc, argv);
  fr::MpiCommunicator comm;
  if (comm.rank() != 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(comm.rank()));
  }
  at::set_num_threads(1);
  const std::unique_ptr<fr::Gpu> gpu = OpenTestGpuOrEnd(comm);
  fr::UseGpu(gpu.get());
  at::Tensor failed = torch::tensor({static_cast<double>(RUN_ALL_TESTS())});
  comm.AllReduceMax(failed);
  return failed.item<double>() > 0 ? 1 : 0;
}
