// Engine tests run under mpirun at 1 to 4 ranks. A test is collective unless it says otherwise;
// tests of one rank's work alone run on rank 0.
//
// FR_TEST_DEVICE=emulated_gpu runs them on the emulated GPU: the code that a GPU's ranks run, with
// the kernels' own source, on the processor.

#include <cstdlib>
#include <iostream>
#include <string>

#include <gtest/gtest.h>

#include "emulated_gpu.h"
#include "worker/comm/mpi_communicator.h"

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
  fr::EmulatedGpu emulated;
  const char* device = std::getenv("FR_TEST_DEVICE");
  if (device != nullptr && std::string(device) == "emulated_gpu") fr::UseGpu(&emulated);
  at::Tensor failed = torch::tensor({static_cast<double>(RUN_ALL_TESTS())});
  comm.AllReduceMax(failed);
  return failed.item<double>() > 0 ? 1 : 0;
}
