"""A stand-in for Slurm: one machine that is this one, or two in network namespaces, and the commands a script calls."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

# Runs a command on the first machine, which is where the script runs, and on the second one; fails if the second one
# does not end on its own in the time that --wait gives it.
SRUN = """#!/bin/bash
patience=0
while [[ $1 == --* ]]; do
    [[ $1 == --wait=* ]] && patience=${1#--wait=}
    shift
done
rm -f "$FAKE_SLURM/ended"
{ export -p; printf '%q ' "$@"; echo; } > "$FAKE_SLURM/task.new"
mv "$FAKE_SLURM/task.new" "$FAKE_SLURM/task"
"$@"
status=$?
for ((second = 0; second < patience; second++)); do
    [ -s "$FAKE_SLURM/ended" ] && exit "$status"
    sleep 1
done
echo "srun: the second machine has not ended"
exit 99
"""
# The names of the machines are their addresses.
SCONTROL = """#!/bin/bash
case $1 in
    show) tr ',' '\\n' <<< "$SLURM_JOB_NODELIST" ;;
    requeue) echo "$2" >> "$FAKE_SLURM/requeued" ;;
esac
"""
# The second machine: it runs each task that it is given. It notices after some seconds, and not only after a minute,
# that the head of its Ray has gone.
MACHINE = """
export RAY_gcs_rpc_server_reconnect_timeout_s=5
while true; do
    if [ -e "$FAKE_SLURM/task" ]; then
        mv "$FAKE_SLURM/task" "$FAKE_SLURM/begun"
        bash "$FAKE_SLURM/begun"
        echo $? > "$FAKE_SLURM/ended"
    fi
    sleep 0.2
done
"""
# Sets up the network of a machine, and becomes a command there.
BEGIN = """
ip link set lo up && ip addr add "$1/24" dev "$2" && ip link set "$2" up && ip route add default dev "$2" || exit 97
shift 2
exec "$@"
"""
ADDRESSES = ("10.77.0.1", "10.77.0.2")


class FakeSlurm:
    """Runs a script as Slurm would, as often as it is submitted.

    Args:
        directory: Where its files are.
        commands: Programs that stand in for those of the virtual environment, by name.
    """

    def __init__(self, directory, commands=None):
        self.directory = directory / "slurm"
        self.bin = self.directory / "bin"
        self.bin.mkdir(parents=True)
        self.log = self.directory / "log.txt"
        for name, text in {"srun": SRUN, "scontrol": SCONTROL, **(commands or {})}.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.job = 100_000 + os.getpid() % 100_000
        self.restarts = 0
        self.process = None
        self.prefix = []

    @property
    def requeued(self):
        """Times that the job has been requeued."""
        path = self.directory / "requeued"
        return path.read_text().split().count(str(self.job)) if path.exists() else 0

    def said(self):
        return self.log.read_text() if self.log.exists() else ""

    def environment(self):
        found = os.environ | {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "FAKE_SLURM": str(self.directory),
            "SLURM_JOB_ID": str(self.job),
            "SLURM_RESTART_COUNT": str(self.restarts),
            "SLURM_JOB_NODELIST": ",".join(ADDRESSES),
            "SLURM_CPUS_ON_NODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        found.pop("RAY_AUTH_MODE", None)
        return found

    def submit(self, script):
        """Begins the job."""
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*self.prefix, "bash", str(script)], env=self.environment(), stdout=log, stderr=log
            )
        return self.process

    def signal(self, number):
        """Sends a signal to the script, as Slurm does before a job's time limit."""
        os.kill(self.script(), number)

    def script(self):
        """The number of the script's own process."""
        return self.process.pid

    def wait(self, timeout=500):
        code = self.process.wait(timeout)
        self.restarts += 1
        return code

    def wait_for(self, reached, seconds=300):
        end = time.monotonic() + seconds
        while not reached():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class TwoMachines(FakeSlurm):
    """Two machines that have a network and processes of their own, and share the disk."""

    def __init__(self, directory):
        super().__init__(directory)
        self.spaces = [f"ctkd{os.getpid()}{letter}" for letter in "ab"]
        self.second = None
        first, second = self.spaces
        for space in self.spaces:
            _root("ip", "netns", "add", space)
        _root("ip", "link", "add", "ctkd0", "netns", first, "type", "veth", "peer", "name", "ctkd1", "netns", second)
        self.prefix = self._inside(0)
        with open(self.directory / "second.txt", "w") as log:
            self.second = subprocess.Popen(
                [*self._inside(1), "bash", "-c", MACHINE], env=self.environment(), stdout=log, stderr=log
            )

    def _inside(self, number):
        """The beginning of a command that runs on a machine."""
        alone = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]
        begin = ["bash", "-c", BEGIN, "begin", ADDRESSES[number], f"ctkd{number}"]
        return ["ip", "netns", "exec", self.spaces[number], *alone, *begin]

    def submit(self, script):
        # The device of the first machine has its address from the job before.
        with contextlib.suppress(subprocess.CalledProcessError):
            _root("ip", "-n", self.spaces[0], "addr", "flush", "dev", "ctkd0")
        return super().submit(script)

    def script(self):
        # ip becomes unshare, whose child becomes the script.
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def stop(self):
        super().stop()
        if self.second:
            self.second.kill()
            self.second.wait()
        for space in self.spaces:
            with contextlib.suppress(subprocess.CalledProcessError):
                _root("ip", "netns", "del", space)


def why_not_two_machines():
    """Why this machine cannot pretend to be two, or None."""
    try:
        _root("unshare", "--net", "--pid", "--mount", "--fork", "--mount-proc", "ip", "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces cannot be made here: {error}"
    return None


def _root(*words):
    subprocess.run(words, check=True, capture_output=True)
