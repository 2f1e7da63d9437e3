#pragma once
// What mpirun (Open MPI 4) says about the end of an attempt.

#include <string>
#include <string_view>
#include <vector>

#include "proto/record.pb.h"

namespace fr {

struct MpirunEnd {
  std::string reason;              // in words; empty: it says nothing that the workers do not say
  std::vector<std::string> nodes;  // to blame
  bool nodes_lost = false;         // as in AttemptStatus
};

// Reads the end of an attempt's log. `slots`: which ranks were where. A rank that somebody asked to
// end (SIGTERM, SIGINT) is nobody's fault.
MpirunEnd ReadMpirunEnd(std::string_view log, const std::vector<NodeSlots>& slots);

}  // namespace fr
