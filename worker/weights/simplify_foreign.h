#pragma once
// What both builders of a ForeignGraph do at the end.

#include "worker/weights/foreign_graph.h"

namespace fr {

// Takes the constants that the input is shifted and scaled with into `preprocessing`, adds a
// constant that follows a convolution or linear layer to its bias, and leaves out a normalisation
// of the output. The nodes that are done with become kIdentity.
void SimplifyForeign(ForeignGraph* graph);

}  // namespace fr
