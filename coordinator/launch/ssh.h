#pragma once
// How hosts are reached: the command of coordinator.yaml's `ssh`.

#include <string>
#include <vector>

#include "proto/coordinator.pb.h"

namespace fr {

// The program and its arguments, before the host's name. Where the program is called ssh it never
// asks a person anything, and notices within half a minute that a host has gone; what `args` say
// comes first, and so goes before that.
std::vector<std::string> SshCommand(const SshSpec& ssh);

// `text` as one word of a POSIX shell.
std::string ShellQuoted(const std::string& text);

}  // namespace fr
