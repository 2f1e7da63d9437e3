#pragma once
// Requests of the RPC -> the coordinator's methods.

#include "proto/rpc.pb.h"

namespace fr {

class Coordinator;
class RequestCounts;

// Counts the request in `counts`, by its name in proto/rpc.proto. Throws what the method throws,
// and Error(kInvalidArgument) for a request without a body that this version knows.
Reply Answer(Coordinator& coordinator, const Request& request, RequestCounts* counts);

}  // namespace fr
