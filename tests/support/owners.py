"""Owners of leases: other processes, and machines that are elsewhere."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

from ctkd_search.leases import lease as leases
from ctkd_search.leases.files import this_process

FAST = {"beat_every": 0.02, "stale_after": 0.3}


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def at_once(work):
    """Returns what two threads return that begin the same work together, as two processes would."""
    start = threading.Barrier(2)

    def begin(_):
        start.wait()
        return work()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(begin, range(2)))


def impatient(monkeypatch):
    """Has an owner elsewhere count as gone after a moment without a heartbeat."""
    for function in (leases.acquire, leases.living, leases.try_acquire):
        monkeypatch.setitem(function.__kwdefaults__, "stale_after", FAST["stale_after"])


def elsewhere(directory, generation=1, name="it", **changed):
    """Writes the lease of a process on another machine."""
    owner = dataclasses.replace(this_process("a search"), **({"host": "far", "machine": "far"} | changed))
    path = directory / f".{name}.lease-{generation:08d}"
    path.write_text(json.dumps(dataclasses.asdict(owner)))
    return owner, path


def process(directory, body, node=None):
    """Starts Python that holds the lease `it`, says so, and then does what `body` says; on a machine called `node`."""
    code = f"""
import os, platform, sys, time
if {node!r}:
    platform.node = lambda: {node!r}
from pathlib import Path
from ctkd_search.leases.files import this_process
from ctkd_search.leases.lease import acquire, try_acquire
while not (lease := try_acquire(Path(sys.argv[1]), "it", "a search", beat_every=0.02)):
    time.sleep(0.001)
print("held", flush=True)
{textwrap.dedent(body)}
"""
    started = subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "held\n"
    return started
