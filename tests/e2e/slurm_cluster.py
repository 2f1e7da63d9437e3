"""A real Slurm on this machine: its own munged, slurmctld, and a slurmd for each node."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from cluster import free_port, wait_for

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")
CPUS_PER_NODE = 2

# Every node is this machine: a port and directories of their own keep the slurmds apart. Timeouts
# are as small as Slurm takes them.
CONFIGURATION = """\
ClusterName=e2e
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
TmpFS={directory}/tmp-%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/%n.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmdTimeout=4
SlurmctldTimeout=4
MessageTimeout=3
TCPTimeout=1
InactiveLimit=0
KillWait=2
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
"""


def skip_unless_possible():
    """Skips the test, aloud, where Slurm's daemons cannot run."""
    lacking = [name for name in (*DAEMONS, *COMMANDS) if not shutil.which(name, path=_path())]
    if lacking:
        pytest.skip(f"Slurm is not installed (scripts/setup does): no {', '.join(lacking)}")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root")


def _path():
    return os.environ["PATH"] + ":/usr/sbin:/sbin"


class SlurmCluster:
    """Nodes n1, n2, ... of two CPUs each."""

    def __init__(self, directory, nodes=3):
        self.directory = Path(directory)
        self.nodes = [f"n{i + 1}" for i in range(nodes)]
        self.processes = {}
        self.mark = f"FR_E2E_SLURM={self.directory}"
        for name in ("munge", "state", *(f"tmp-{node}" for node in self.nodes)):
            (self.directory / name).mkdir(parents=True, mode=0o700 if name == "munge" else 0o755)
        key = self.directory / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname().split(".")[0]
        lines = CONFIGURATION.format(host=host, port=free_port(), directory=self.directory)
        for node in self.nodes:
            lines += (f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 "
                      f"Port={free_port()} CPUs={CPUS_PER_NODE} RealMemory=4000 State=UNKNOWN\n")
        lines += f"PartitionName=main Nodes={','.join(self.nodes)} Default=YES State=UP\n"
        self.configuration = self.directory / "slurm.conf"
        self.configuration.write_text(lines)

    def environment(self):
        name, value = self.mark.split("=", 1)
        # Two "nodes" would take each other's shared memory for their own.
        return {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.configuration),
                "OMPI_MCA_btl": "tcp,self", name: value}

    def start(self):
        munge = self.directory / "munge"
        self._spawn("munged", "--foreground", f"--key-file={munge}/key",
                    f"--socket={munge}/socket", f"--pid-file={munge}/pid",
                    f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--force")
        wait_for(lambda: (munge / "socket").exists(), "munged")
        self.start_controller()
        for node in self.nodes:
            self.start_node(node)
        wait_for(lambda: set(self.node_states().values()) == {"idle"}, "Slurm's nodes", 60)
        return self

    def start_controller(self):
        self._spawn("slurmctld", "-D")
        wait_for(lambda: self._run("scontrol", "ping").returncode == 0 and
                 self._run("sinfo").returncode == 0, "slurmctld")

    def stop_controller(self):
        """As for its maintenance: it saves what it knows."""
        process = self.processes.pop("slurmctld")
        process.terminate()
        process.wait(timeout=60)

    def kill_controller(self):
        """It forgets the last seconds: Slurm saves its state every five."""
        self._kill("slurmctld")

    def start_node(self, node):
        self._spawn(node, "-D", "-N", node, program="slurmd")

    def lose_node(self, node):
        """As if its machine had gone: slurmd and all that runs below it are killed."""
        self._kill(node)
        mark = f"SLURMD_NODENAME={node}".encode()
        tasks = [pid for pid, environ in self._marked() if mark in environ]
        # What watches over a job's tasks would report their end.
        for pid in {_parent(pid) for pid in tasks} | set(tasks):
            if pid in tasks or _is_step_daemon(pid):
                _kill_quietly(pid)

    def command(self, program, *arguments):
        """What the command prints."""
        done = self._run(program, *arguments)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout

    def node_states(self):
        done = self._run("sinfo", "-h", "-N", "-o", "%N %T")
        return dict(line.split() for line in done.stdout.splitlines())

    def jobs(self):
        """{number: state} of the jobs that Slurm knows."""
        lines = self.command("squeue", "-h", "--states=all", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def live_jobs(self):
        return [number for number, state in self.jobs().items()
                if state in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED")]

    def stop(self):
        """Ends the daemons, and kills all that they started."""
        for name in ("slurmctld", *self.nodes, "munged"):
            self._kill(name)
        for pid, _ in self._marked():
            _kill_quietly(pid)

    def _run(self, program, *arguments):
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60,
                              env=self.environment(), check=False)

    def _spawn(self, name, *arguments, program=None):
        with (self.directory / f"{name}.out").open("ab") as out:
            # Not even a test that is killed leaves daemons behind.
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program or name, *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment(),
                start_new_session=True)

    def _kill(self, name):
        process = self.processes.pop(name, None)
        if process:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)

    def _marked(self):
        """(pid, variables) of every process that stems from this cluster."""
        mark = self.mark.encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                environ = (entry / "environ").read_bytes().split(b"\0")
                if mark in environ:
                    yield int(entry.name), environ


def _parent(pid):
    with contextlib.suppress(OSError):
        stat = (Path("/proc") / str(pid) / "stat").read_text()
        return int(stat.rpartition(")")[2].split()[1])
    return 1


def _is_step_daemon(pid):
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().startswith(b"slurmstepd")
    return False


def _kill_quietly(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
