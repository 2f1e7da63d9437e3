#include "worker/comm/rank_messages.h"

#include <utility>

#include "worker/comm/mpi_group.h"

namespace fr {
namespace {

constexpr int kTag = 1;

}  // namespace

RankMessages::RankMessages(MPI_Comm parent) {
  CheckMpi(MPI_Comm_dup(parent, &comm_), "MPI_Comm_dup", -1);
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
}

RankMessages::~RankMessages() {
  ForgetWhatLeft();
  // A rank that takes nothing any more must not hold this one up: MPI keeps memory and
  // communicator.
  const bool all_left = sent_.empty();
  for (std::unique_ptr<Sent>& sent : sent_) static_cast<void>(sent.release());
  if (all_left) MPI_Comm_free(&comm_);
}

void RankMessages::ForgetWhatLeft() {
  sent_.remove_if([](const std::unique_ptr<Sent>& sent) {
    int left = 0;
    MPI_Test(&sent->request, &left, MPI_STATUS_IGNORE);
    return left != 0;
  });
}

void RankMessages::Send(int rank, const std::array<std::int64_t, 4>& words) {
  ForgetWhatLeft();
  auto sent = std::make_unique<Sent>();
  sent->words = words;
  CheckMpi(MPI_Isend(sent->words.data(), static_cast<int>(words.size()), MPI_INT64_T, rank, kTag,
                     comm_, &sent->request),
           "message to another rank", rank_);
  sent_.push_back(std::move(sent));
}

std::optional<RankMessage> RankMessages::Receive() {
  int there = 0;
  MPI_Message message = MPI_MESSAGE_NULL;
  MPI_Status status;
  CheckMpi(MPI_Improbe(MPI_ANY_SOURCE, kTag, comm_, &there, &message, &status),
           "message from another rank", rank_);
  if (there == 0) return std::nullopt;
  RankMessage received;
  received.rank = status.MPI_SOURCE;
  CheckMpi(MPI_Mrecv(received.words.data(), static_cast<int>(received.words.size()), MPI_INT64_T,
                     &message, &status),
           "message from another rank", rank_);
  return received;
}

}  // namespace fr
