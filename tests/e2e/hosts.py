"""Machines that share this one's kernel and files, but nothing else: each has its own network, host
name, processes and sshd. They are reached over ssh by their names, can lose their network and be
switched off. Needs root."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from pathlib import Path

from cluster import wait_for

CLONE_NEWNET = 0x40000000
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
LIBC = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why there can be no hosts here; nothing if there can."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    for program in ("ip", "unshare", "nsenter", "setpriv", "ssh", "ssh-keygen"):
        if not shutil.which(program):
            return f"needs the program {program}"
    if not SSHD:
        return "needs sshd (Debian: openssh-server)"
    # A bridge and a pair of interfaces in a namespace that goes with the command.
    probe = subprocess.run(
        ["unshare", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c",
         "ip link add hub type bridge && ip link add plug type veth peer name socket"],
        capture_output=True, text=True, check=False)
    return f"may not make networks here: {probe.stderr.strip()}" if probe.returncode else None


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


class Host:
    """One machine, on from the start. Its processes are those of a process namespace, which end
    with it."""

    def __init__(self, directory, number):
        self.name = f"node{number}"
        self.address = f"10.77.0.{10 + number}"
        self.port = f"port{number}"  # its plug in the hub
        self.directory = directory
        self.process = None
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / f"{self.name}.key")
        (directory / f"{self.name}.sshd").write_text(
            f"HostKey {directory}/{self.name}.key\nAuthorizedKeysFile {directory}/id.pub\n"
            "ListenAddress 0.0.0.0\nPermitRootLogin yes\nPasswordAuthentication no\n"
            "StrictModes no\nUsePAM no\nPidFile none\nMaxStartups 100\n")
        self.switch_on()

    def switch_on(self):
        # It waits for its interface, then becomes sshd, which as process 1 also reaps. What this
        # machine's ~/.bashrc does at each login (and how long it takes) is no business of the test.
        empty = self.directory / "empty"
        empty.touch()
        script = (
            f"hostname {self.name} && mount -t tmpfs tmpfs /run && mkdir /run/sshd && read go &&"
            f" for rc in ~/.bashrc; do [ ! -e $rc ] || mount --bind {empty} $rc; done &&"
            f" ip link set lo up && ip addr add {self.address}/24 dev eth0 && ip link set eth0 up &&"
            f" exec {SSHD} -D -e -f {self.directory}/{self.name}.sshd")
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "--pid", "--fork",
                 "--kill-child", "--mount-proc", "sh", "-c", script],
                stdin=subprocess.PIPE, stdout=log, stderr=log)
        ours = os.readlink("/proc/thread-self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{self.process.pid}/ns/net") != ours,
                 f"the network of {self.name}")
        run("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0",
            "netns", str(self.process.pid))
        run("ip", "link", "set", self.port, "master", "hub", "up")
        self.process.stdin.write(b"go\n")
        self.process.stdin.close()

    def switch_off(self):
        """As if its power had gone: nobody hears of it."""
        self.disconnect()
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(subprocess.CalledProcessError):  # gone with its other end
            run("ip", "link", "delete", self.port)

    def disconnect(self):
        run("ip", "link", "set", self.port, "down")

    def connect(self):
        run("ip", "link", "set", self.port, "up")

    def processes(self):
        """(pid, command line) of all that runs there, but the first, which is sshd."""
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                pid = int(status.parent.name)
                if os.readlink(status.parent / "ns/net") != self._network() or pid in self._own():
                    continue
                command = (status.parent / "cmdline").read_bytes().split(b"\0")
                if command != [b""]:  # ended, not reaped yet
                    yield pid, b" ".join(command).decode(errors="replace").strip()

    def _network(self):
        return os.readlink(f"/proc/{self.process.pid}/ns/net")

    def _own(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {self.process.pid, *map(int, children.split())}


class Hosts:
    """`count` hosts, node1 to nodeN, in one network with this thread, which has 10.77.0.1."""

    address = "10.77.0.1"

    def __init__(self, directory, count):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._enter(LIBC.unshare(CLONE_NEWNET))
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "hub", "type", "bridge")
        run("ip", "addr", "add", f"{self.address}/24", "dev", "hub")
        run("ip", "link", "set", "hub", "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / "id")
        self.hosts = [Host(self.directory, number + 1) for number in range(count)]
        self.ssh_config = self.directory / "ssh_config"
        self.ssh_config.write_text(
            "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in self.hosts)
            + f"Host *\n  User root\n  IdentityFile {self.directory}/id\n  IdentitiesOnly yes\n"
            f"  StrictHostKeyChecking no\n  UserKnownHostsFile {self.directory}/known_hosts\n"
            "  LogLevel ERROR\n")
        for host in self.hosts:
            wait_for(lambda name=host.name: self.ssh(name, "true").returncode == 0,
                     f"sshd of {host.name}")

    @staticmethod
    def _enter(result):
        assert result == 0, os.strerror(ctypes.get_errno())

    def __getitem__(self, index):
        return self.hosts[index]

    def ssh(self, name, command):
        return subprocess.run(
            ["ssh", "-F", self.ssh_config, "-o", "BatchMode=yes", "-o", "ConnectTimeout=2", name,
             command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def close(self):
        for host in self.hosts:
            host.process.send_signal(signal.SIGKILL)
            host.process.wait()
        self._enter(LIBC.setns(self.outside, CLONE_NEWNET))
        os.close(self.outside)
