#include "coordinator/launch/ssh.h"

#include <filesystem>

namespace fr {

std::vector<std::string> SshCommand(const SshSpec& ssh) {
  std::vector<std::string> command = {ssh.command()};
  command.insert(command.end(), ssh.args().begin(), ssh.args().end());
  if (std::filesystem::path(ssh.command()).filename() != "ssh") return command;
  for (const char* option : {"BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5",
                             "ServerAliveCountMax=3", "ForwardX11=no"}) {
    command.insert(command.end(), {"-o", option});
  }
  return command;
}

std::string ShellQuoted(const std::string& text) {
  std::string quoted = "'";
  for (const char letter : text) {
    if (letter == '\'') {
      quoted += "'\\''";
    } else {
      quoted += letter;
    }
  }
  return quoted + "'";
}

}  // namespace fr
