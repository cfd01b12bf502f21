"""Searches and final trainings as a user runs them, and in processes of their own where they are disturbed."""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path

import yaml

from support.factories import space_content
from support.here import command, fresh_store
from support.layouts import write_folder
from support.processes import Process
from support.ray_workers import parent_of

SPACE = space_content(
    name="small",
    dataset={"name": "digits", "validation": 0.15},
    budget={"trials": 4, "epochs": 12, "grace_period": 4, "reduction_factor": 3},
    teachers={"recipe": {"batch_size": 64, "lr": 0.05}},
    train={"batch_size": 64, "precision": "float32"},
    search={"pair": "wrn-10-1/resnet8", "lr": {"float": [0.01, 0.1], "log": True}},
    resources={"concurrent_trials": 2, "cpus_per_trial": 1},
)

CONFIG = {
    "name": "small",
    "pair": "wrn-10-1/resnet8",
    "epochs": 4,
    "method": {
        "name": "ctkd",
        "step_loss": "kl",
        "temperature": 4.0,
        "alpha": 0.5,
        "beta": 20.0,
        "attention_layers": [1, 2, 3],
    },
    "train": {"batch_size": 64, "lr": 0.05, "precision": "float32"},
    "teachers": {"recipe": {"batch_size": 64, "lr": 0.05}},
    "dataset": {"name": "digits", "validation": 0.15},
}


def few_images(directory):
    """A data set whose epochs take no time, for a space: it does not matter how well its students do."""
    root = directory / "images"
    if not root.exists():
        write_folder(root, images=10, size=8)
    return {"name": "folder", "root": str(root), "image_size": 8, "channels": 1, "validation": 0.2}


class Live:
    """A search that runs in a directory."""

    content = SPACE
    command = ("run", "space.yaml")
    records_at = "**/small/records/*.json"

    def __init__(self, directory, *words, environment=None, **changes):
        self.directory = directory
        self.log = directory / "log.txt"
        self.words = words
        self.environment = environment or {}
        (directory / self.command[1]).write_text(yaml.safe_dump({**self.content, **changes}))
        self.process = None
        fresh_store(directory / "trials" / "mlflow.db")

    def run(self, *words, whole=False):
        """Runs it to its end in this process; returns the exit code.

        Args:
            words: More arguments.
            whole: Whether the report is written and the student registered too, which takes seconds each.
        """
        words = (*self.command, *self.words, *words)
        ended = command(*words, directory=self.directory, environment=self.environment, whole=whole)
        with open(self.log, "a") as log:
            log.write(ended.said)
        return ended.code

    def run_alone(self, *words):
        """Runs it to its end in a process of its own; returns the exit code."""
        return self.start(*words).wait(timeout=800)

    def start(self, *words):
        """Begins it in a process of its own, to be disturbed."""
        with open(self.log, "a") as log:
            self.process = Process(
                (*self.command, *self.words, *words),
                directory=self.directory,
                environment=os.environ | self.environment,
                stdout=log,
                stderr=log,
            )
        return self.process

    def said(self):
        return self.log.read_text()

    def records(self):
        found = []
        for path in sorted(self.directory.glob(self.records_at)):
            with contextlib.suppress(OSError, ValueError):  # just being replaced
                found.append(json.loads(path.read_text()))
        return found

    def wait_for(self, reached, seconds=500):
        """Waits until `reached` of this search is true; it must be so before the search ends."""
        end = time.monotonic() + seconds
        while not (found := reached(self)):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)
        return found

    def stop(self):
        """Kills the driver, and waits until the processes of its trials have noticed and ended."""
        if self.process and self.process.poll() is None:
            left = workers(self)
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            end = time.monotonic() + 60
            while any(os.path.exists(f"/proc/{pid}") for pid in left):
                assert time.monotonic() < end, left
                time.sleep(0.05)


class LiveFinal(Live):
    """A final training that runs in a directory."""

    content = CONFIG
    command = ("train", "config.yaml")
    records_at = "**/small/final-*/records/*.json"


def running_with_epochs(count):
    """The first running trial that has done so many epochs."""
    return lambda live: next(
        (r for r in live.records() if r["status"] == "running" and len(r["epochs"]) >= count), None
    )


def descendants(pid):
    """Processes below a process, by id, with their command lines; those of Ray stand below its raylet."""
    found = {}
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                parents[int(entry)] = parent_of(int(entry), int(stat[1]))
    below = {pid}
    grown = True
    while grown:
        more = {child for child, parent in parents.items() if parent in below} - below
        below |= more
        grown = bool(more)
    for child in below - {pid}:
        with contextlib.suppress(OSError):
            found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def workers(live):
    """Processes in which trials run."""
    names = ("ray::DistillationTrial", "ray::ResourceTrainable")
    return [pid for pid, line in descendants(live.process.pid).items() if line.startswith(names)]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
