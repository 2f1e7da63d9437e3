#include "worker/comm/mpi_group.h"

#include <algorithm>
#include <limits>
#include <string>
#include <thread>

#include <fmt/format.h>

#include "common/base/error.h"

namespace fr {
namespace {

constexpr MpiGroup::Nap kShortestNap{20};

}  // namespace

Layout LayoutOf(const std::vector<std::int64_t>& rows_per_rank, std::int64_t row_elements,
                const char* collective) {
  Layout layout;
  std::int64_t total = 0;
  for (const std::int64_t rows : rows_per_rank) {
    layout.counts.push_back(static_cast<int>(rows * row_elements));
    layout.offsets.push_back(static_cast<int>(total));
    total += rows * row_elements;
    if (total > std::numeric_limits<int>::max()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: more than 2^31 elements in one message", collective));
    }
  }
  return layout;
}

void CheckMpi(int status, const char* collective, int rank) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw Error(ErrorCode::kUnavailable,
              fmt::format("{} failed on rank {}: {}", collective, rank, std::string(text, length)));
}

MpiGroup::MpiGroup(MPI_Comm parent, Nap longest_nap) : longest_nap_(longest_nap) {
  CheckMpi(MPI_Comm_dup(parent, &comm_), "MPI_Comm_dup", -1);
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(comm_, &rank_);
  MPI_Comm_size(comm_, &size_);
}

MpiGroup::~MpiGroup() {
  // With a collective given up under way, freeing could wait for ever.
  if (!abandoned_) MPI_Comm_free(&comm_);
}

// Naps grow with the time waited: 1/8 of it is lost at most, and whoever waits long hardly wakes.
void MpiGroup::Finish(MPI_Request& request, const char* collective) {
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    int done = 0;
    CheckMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), collective, rank_);
    if (done != 0) return;
    if (abandoned_) {
      throw Error(ErrorCode::kUnavailable,
                  fmt::format("{} on rank {} was given up: the program ends", collective, rank_));
    }
    const auto waited = std::chrono::duration_cast<Nap>(std::chrono::steady_clock::now() - begin);
    std::this_thread::sleep_for(std::clamp(waited / 8, kShortestNap, longest_nap_));
  }
}

template <typename Blocking, typename Start>
void MpiGroup::Run(const char* collective, const Blocking& blocking, const Start& start) {
  if (!naps()) {
    CheckMpi(blocking(), collective, rank_);
    return;
  }
  MPI_Request request = MPI_REQUEST_NULL;
  CheckMpi(start(&request), collective, rank_);
  Finish(request, collective);
}

void MpiGroup::AllReduce(void* data, int count, MPI_Datatype type, MPI_Op operation) {
  Run(
      "all-reduce",
      [&] { return MPI_Allreduce(MPI_IN_PLACE, data, count, type, operation, comm_); },
      [&](MPI_Request* request) {
        return MPI_Iallreduce(MPI_IN_PLACE, data, count, type, operation, comm_, request);
      });
}

void MpiGroup::AllGather(const void* own, void* all, const Layout& layout, MPI_Datatype type) {
  const void* send = own == nullptr ? MPI_IN_PLACE : own;
  const int count = layout.counts[static_cast<std::size_t>(rank_)];
  Run(
      "all-gather",
      [&] {
        return MPI_Allgatherv(send, count, type, all, layout.counts.data(), layout.offsets.data(),
                              type, comm_);
      },
      [&](MPI_Request* request) {
        return MPI_Iallgatherv(send, count, type, all, layout.counts.data(), layout.offsets.data(),
                               type, comm_, request);
      });
}

void MpiGroup::Gather(const void* own, void* all, const Layout& layout, MPI_Datatype type,
                      int root) {
  const int count = layout.counts[static_cast<std::size_t>(rank_)];
  Run(
      "gather",
      [&] {
        return MPI_Gatherv(own, count, type, all, layout.counts.data(), layout.offsets.data(), type,
                           root, comm_);
      },
      [&](MPI_Request* request) {
        return MPI_Igatherv(own, count, type, all, layout.counts.data(), layout.offsets.data(),
                            type, root, comm_, request);
      });
}

void MpiGroup::ReduceScatter(const void* full, void* own, const Layout& layout, MPI_Datatype type) {
  Run(
      "reduce-scatter",
      [&] { return MPI_Reduce_scatter(full, own, layout.counts.data(), type, MPI_SUM, comm_); },
      [&](MPI_Request* request) {
        return MPI_Ireduce_scatter(full, own, layout.counts.data(), type, MPI_SUM, comm_, request);
      });
}

void MpiGroup::AllToAll(const void* send, const Layout& sent, void* receive, const Layout& received,
                        MPI_Datatype type) {
  Run(
      "all-to-all",
      [&] {
        return MPI_Alltoallv(send, sent.counts.data(), sent.offsets.data(), type, receive,
                             received.counts.data(), received.offsets.data(), type, comm_);
      },
      [&](MPI_Request* request) {
        return MPI_Ialltoallv(send, sent.counts.data(), sent.offsets.data(), type, receive,
                              received.counts.data(), received.offsets.data(), type, comm_,
                              request);
      });
}

void MpiGroup::Broadcast(void* data, int count, MPI_Datatype type, int root) {
  Run(
      "broadcast", [&] { return MPI_Bcast(data, count, type, root, comm_); },
      [&](MPI_Request* request) { return MPI_Ibcast(data, count, type, root, comm_, request); });
}

void MpiGroup::Barrier() {
  Run(
      "barrier", [&] { return MPI_Barrier(comm_); },
      [&](MPI_Request* request) { return MPI_Ibarrier(comm_, request); });
}

}  // namespace fr
