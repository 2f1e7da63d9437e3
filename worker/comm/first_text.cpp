#include "worker/comm/first_text.h"

#include "worker/comm/communicator.h"

namespace fr {

std::string FirstText(const std::string& own, Communicator& comm) {
  std::string first;
  for (const std::string& text : comm.GatherBytes(own, 0)) {
    if (first.empty()) first = text;
  }
  return comm.BroadcastBytes(first, 0);
}

}  // namespace fr
