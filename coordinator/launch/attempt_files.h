#pragma once
// The files of an attempt, in its directory: what launchers that start mpirun or srun share.

#include <filesystem>
#include <optional>
#include <string>

namespace fr {

inline constexpr const char* kLogFile = "worker.log";          // what all ranks print
inline constexpr const char* kExitStatusFile = "exit_status";  // once mpirun has ended: its status
inline constexpr const char* kClaimFile = "claim";             // who runs the attempt, or "void"
inline constexpr const char* kCommandFile = "command";         // mpirun and its words, for people

// mpirun's or srun's exit status once it has ended (128 + signal if a signal killed it); nothing
// while it runs, and if it was killed together with what waits for it.
std::optional<int> ExitStatus(const std::filesystem::path& directory);

// The last 64 KiB of the attempt's log; empty where there is none.
std::string LogEnd(const std::filesystem::path& directory);

// The last `max_lines` lines of the attempt's log that say something, for a job's reason; empty
// where there are none. mpirun's own messages only where there is nothing else.
std::string LogTail(const std::filesystem::path& directory, int max_lines);

// The claim decides whether an attempt that a coordinator was about to start when it died has
// started, also when its process comes late: whoever makes the file first, the process that is to
// run the workers or a later coordinator, has decided it for good. It is made as a hard link, which
// one of them gets, on NFS, too.

// Text of a POSIX shell function for the beginning of a script. `fr_claim DIRECTORY WORDS` claims
// the attempt for who WORDS say, one line without newline. Where it returns false the script must
// end without starting anything: the attempt is void, has been claimed, or its directory is gone.
std::string ClaimScript();

// Makes the claim void, where there is none. Returns nothing when it is void, now or before: the
// attempt has not started and never will. Otherwise the WORDS of who has claimed it. Makes the
// directory where it is not there. Throws Error(kUnavailable) when the file system does not let it
// be told.
std::optional<std::string> ClaimVoid(const std::filesystem::path& directory);

}  // namespace fr
