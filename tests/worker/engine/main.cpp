// Engine tests run under mpirun at 1 to 4 ranks. A test is collective unless it says otherwise;
// tests of one rank's work alone run on rank 0.

#include <gtest/gtest.h>

#include "worker/comm/communicator.h"

int main(int argc, char** argv) {
  fr::MpiSession mpi(&argc, &argv);
  testing::InitGoogleTest(&argc, argv);
  fr::Communicator comm;
  if (comm.rank() != 0) {
    // One voice for the result; failures elsewhere are still printed.
    delete testing::UnitTest::GetInstance()->listeners().Release(
        testing::UnitTest::GetInstance()->listeners().default_result_printer());
  }
  at::set_num_threads(1);
  at::Tensor failed = torch::tensor({static_cast<double>(RUN_ALL_TESTS())});
  comm.AllReduceMax(failed);
  return failed.item<double>() > 0 ? 1 : 0;
}
