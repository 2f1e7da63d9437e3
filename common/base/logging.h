#pragma once
// The logger: spdlog to standard error, one line an event.

#include <string>

#include <spdlog/spdlog.h>

namespace fr {

// Names this process in its lines ("coordinator", "rank 3") and sets the level from FR_LOG
// (trace, debug, info, warn, error; info by default). Call once, at the start of main.
void InitLogging(const std::string& process_name);

}  // namespace fr
