"""Processes of their own for tests that disturb and kill them, begun without the seconds that imports take."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from support.ray_worker import ADDRESS
from support.ray_workers import fork_ray_workers, program_environment

# What any of the tests' programs needs, and what a command needs beside it.
CORE = ("torch", "ctkd_search.distill.build", "ctkd_search.distill.recording", "ctkd_search.data")
COMMAND = (
    *CORE,
    "support.ray_names",
    *("ctkd_search.cli.parser", "ctkd_search.search.search_runner", "ctkd_search.search.run", "ctkd_search.final.run"),
    *("ctkd_search.students.registration", "mlflow", "optuna"),
)
PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL


class _Zygote:
    """The process that forks; begun when it is first asked."""

    def __init__(self):
        self._asking = None

    def ask(self, request, files=()):
        if self._asking is None:
            self._asking, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            script = str(Path(__file__).with_name("zygote.py"))
            subprocess.Popen([sys.executable, script], stdin=other, env=program_environment())
            other.close()
        socket.send_fds(self._asking, [json.dumps(request).encode()], list(files))
        answer = self._asking.recv(1 << 16)
        assert answer, "the process that forks has ended"
        return json.loads(answer)


_zygote = _Zygote()


class Process:
    """A process, as `subprocess.Popen` has it: a command of ctkd-search, or Python code.

    Args:
        words: Its arguments.
        code: The code; None for the command that the words are.
        directory: Where it works; the tests' own directory if it is None.
        environment: Its environment; the tests' own if it is None.
        imported: Modules that are imported already when it begins; None for what a command, or a program, needs.
        stdin, stdout, stderr: As `subprocess.Popen` takes them; text.
    """

    def __init__(
        self, words, code=None, directory=None, environment=None, imported=None, stdin=None, stdout=None, stderr=None
    ):
        self.args = list(words)
        self.returncode = None
        self.stdin = self.stdout = self.stderr = None
        given = []
        for name, wanted, mode in (("stdin", stdin, "w"), ("stdout", stdout, "r"), ("stderr", stderr, "r")):
            if wanted == PIPE:
                ends = os.pipe()
                ours, theirs = ends[::-1] if name == "stdin" else ends
                setattr(self, name, os.fdopen(ours, mode, buffering=1))
            elif wanted == STDOUT:
                theirs = os.dup(given[1])
            elif wanted is None or wanted == DEVNULL:
                theirs = os.open(os.devnull, os.O_RDWR)
            else:
                theirs = os.dup(wanted if isinstance(wanted, int) else wanted.fileno())
            given.append(theirs)
        environment = dict(os.environ if environment is None else environment)
        # A Ray that this process has started sets how its processes prove who they are; others start their own.
        environment.pop("RAY_AUTH_MODE", None)
        if code is None:
            environment[ADDRESS] = fork_ray_workers()
        request = {
            "words": self.args,
            "code": code,
            "directory": str(directory or os.getcwd()),
            "environment": environment,
            "imported": list(imported or (COMMAND if code is None else CORE)),
        }
        self.pid = _zygote.ask(request, given)
        for file in given:
            os.close(file)

    def poll(self):
        if self.returncode is None:
            self.returncode = _zygote.ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + timeout if timeout is not None else float("inf")
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.02)
        return self.returncode

    def communicate(self, timeout=None):
        """Waits for its end; what it wrote to standard output and error, the one and then the other."""
        if self.stdin:
            self.stdin.close()
        said = [stream.read() if stream else None for stream in (self.stdout, self.stderr)]
        self.wait(timeout)
        return said

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def run_alone(*words, directory):
    """Runs a command of ctkd-search in a process of its own; its exit code and all that it wrote."""
    process = Process(list(map(str, words)), directory=directory, stdout=PIPE, stderr=STDOUT)
    said, _ = process.communicate()
    return process.returncode, said
