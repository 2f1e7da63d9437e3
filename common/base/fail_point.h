#pragma once
// Places where tests kill the process, so that what it leaves behind can be looked at.
//
//   FR_FAIL_POINT("submit: before commit");
//
// is nothing at all unless the build has FR_FAIL_POINTS (CMake option; ON in the presets debug and
// asan). With it, the environment decides:
//
//   FR_FAIL_POINT="submit: before commit"    SIGKILL when the point is first reached
//   FR_FAIL_POINT="submit: before commit:3"  SIGKILL when it is reached the third time
//   FR_FAIL_POINT_LIST=FILE                  the name of every point goes into FILE, a line each,
//                                            when it is first reached

#include <string>

namespace fr {

// What the macro calls. Thread-safe. The environment is read at the first call.
void ReachFailPoint(const std::string& name);

}  // namespace fr

#ifdef FR_FAIL_POINTS
#define FR_FAIL_POINT(name) ::fr::ReachFailPoint(name)
#else
// `name` is not evaluated.
#define FR_FAIL_POINT(name) (false ? ::fr::ReachFailPoint(name) : static_cast<void>(0))
#endif
