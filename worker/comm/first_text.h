#pragma once
// What one of the ranks has to say, known to all.

#include <string>

namespace fr {

class Communicator;

// Of all ranks' texts the first, in rank order, that is not empty; the same on every rank.
// Collective.
std::string FirstText(const std::string& own, Communicator& comm);

}  // namespace fr
