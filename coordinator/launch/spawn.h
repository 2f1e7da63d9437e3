#pragma once
// How this process starts others.

#include <string>
#include <vector>

#include <spawn.h>

namespace fr {

struct Spawned {
  pid_t pid = 0;
  int failure = 0;  // errno's number; 0: it was started
};

// Starts words[0], found by PATH, with no signal blocked or ignored. `group`: POSIX_SPAWN_SETSID or
// POSIX_SPAWN_SETPGROUP, for a session or a process group of its own. `environment` ends with a
// null. Unlike fork and exec by hand, posix_spawn is safe in a threaded process, and has session or
// group made when it returns.
Spawned Spawn(std::vector<std::string>& words, const posix_spawn_file_actions_t& files, short group,
              char* const* environment);

}  // namespace fr
