#include "coordinator/launch/mpirun_log.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <optional>

#include <fmt/format.h>

#include "coordinator/launch/mpirun_command.h"

namespace fr {
namespace {

using Slots = std::vector<NodeSlots>;

// Reads a text from front to back. Once something was not as expected it stays not ok.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}
  bool ok() const { return ok_; }

  // Goes on behind the next `words`.
  Scanner& Past(std::string_view words) {
    const std::size_t at = rest_.find(words);
    if (at == std::string_view::npos) return Fail();
    rest_.remove_prefix(at + words.size());
    return *this;
  }
  Scanner& Number(std::int64_t* number) {
    const char* end = rest_.data() + rest_.size();
    const auto [stop, failed] = std::from_chars(rest_.data(), end, *number);
    if (failed != std::errc()) return Fail();
    rest_.remove_prefix(static_cast<std::size_t>(stop - rest_.data()));
    return *this;
  }
  // Up to one of `ends`.
  Scanner& Text(std::string_view ends, std::string* text) {
    *text = rest_.substr(0, rest_.find_first_of(ends));
    rest_.remove_prefix(text->size());
    return *this;
  }

 private:
  Scanner& Fail() {
    ok_ = false;
    rest_ = {};
    return *this;
  }

  std::string_view rest_;
  bool ok_ = true;
};

// The node of a rank; empty: there is no such rank.
std::string NodeOfRank(const Slots& slots, std::int64_t rank) {
  if (rank < 0) return "";
  for (const NodeSlots& node : slots) {
    if (rank < node.slots()) return node.node();
    rank -= node.slots();
  }
  return "";
}

// The node of mpirun's daemon `number`; mpirun itself is number 0.
std::string NodeOfDaemon(const Slots& slots, std::int64_t number) {
  for (const NodeSlots& node : slots) {
    if (node.node() != kThisMachine && --number == 0) return node.node();
  }
  return "";
}

MpirunEnd Blame(const std::string& node, std::string reason) {
  MpirunEnd end;
  end.reason = std::move(reason);
  if (!node.empty()) end.nodes.push_back(node);
  return end;
}

//   Remote daemon: [[13691,0],2] on node node2
std::optional<MpirunEnd> LostDaemon(std::string_view log, const Slots& slots) {
  std::int64_t daemon = 0;
  std::string node;
  Scanner scanner(log);
  scanner.Past("Remote daemon: [[")
      .Past("],")
      .Number(&daemon)
      .Past("] on node ")
      .Text(" \r\n", &node);
  if (!scanner.ok()) return std::nullopt;
  // mpirun may know the node by another name than ours.
  const bool is_ours = std::any_of(slots.begin(), slots.end(),
                                   [&](const NodeSlots& one) { return one.node() == node; });
  if (!is_ours) node = NodeOfDaemon(slots, daemon);
  MpirunEnd end = Blame(node, fmt::format("the connection to {} was lost", node));
  end.nodes_lost = true;
  return end;
}

//   noticed that process rank 2 with PID 322 on node node2 exited on signal 9 (Killed).
std::optional<MpirunEnd> KilledRank(std::string_view log, const Slots& slots) {
  std::int64_t rank = 0, signal_number = 0;
  std::string name;
  Scanner scanner(log);
  scanner.Past("noticed that process rank ").Number(&rank).Past(" exited on signal ");
  scanner.Number(&signal_number).Past(" (").Text(")\n", &name);
  if (!scanner.ok()) return std::nullopt;
  if (signal_number == SIGTERM || signal_number == SIGINT) return MpirunEnd();
  const std::string node = NodeOfRank(slots, rank);
  return Blame(
      node, fmt::format("rank {} on {} ended by signal {}: {}{}", rank, node, signal_number, name,
                        signal_number == SIGKILL ? "; out of memory?" : ""));
}

//   Executable: /no/such
//   Node: node3
//
//   while attempting to start process rank 0.
std::optional<MpirunEnd> MissingProgram(std::string_view log, const Slots& slots) {
  std::string program;
  std::int64_t rank = 0;
  Scanner scanner(log);
  scanner.Past("Executable: ").Text("\r\n", &program);
  scanner.Past("while attempting to start process rank ").Number(&rank);
  if (!scanner.ok()) return std::nullopt;
  const std::string node = NodeOfRank(slots, rank);
  return Blame(node, fmt::format("{} cannot be executed on {}", program, node));
}

// MPI_ABORT was invoked on rank 5 in communicator MPI_COMM_WORLD
//   Process name: [[14595,1],5]
// The workers themselves have said why.
std::optional<MpirunEnd> FailedRank(std::string_view log, const Slots& slots) {
  std::int64_t rank = 0;
  Scanner aborted(log);
  aborted.Past("MPI_ABORT was invoked on rank ").Number(&rank);
  Scanner exited(log);
  if (!aborted.ok()) exited.Past("Process name: [[").Past("],").Number(&rank);
  if (!aborted.ok() && !exited.ok()) return std::nullopt;
  return Blame(NodeOfRank(slots, rank), "");
}

std::optional<MpirunEnd> UnstartedDaemon(std::string_view log, const Slots&) {
  if (log.find("ORTE was unable to reliably start one or more daemons") == log.npos) {
    return std::nullopt;
  }
  return Blame("", "mpirun could not start its daemon on every host");
}

}  // namespace

MpirunEnd ReadMpirunEnd(std::string_view log, const Slots& slots) {
  // A lost host brings down ranks on others: it goes first.
  for (const auto read : {LostDaemon, UnstartedDaemon, KilledRank, MissingProgram, FailedRank}) {
    if (std::optional<MpirunEnd> end = read(log, slots)) return *end;
  }
  return {};
}

}  // namespace fr
