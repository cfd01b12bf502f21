"""A process that has imported what trials need, and forks each process that a Ray of the tests asks for.

Ray begins three Pythons for a process of its own, one after the other, which takes most of the time of a short search.
Run as a script, with the directory that it listens in; it ends when its standard input does.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path

from zygote import receive

IMPORTED = ("torch", "support.ray_names", "ray.tune", "ctkd_search.search.trainable", "ctkd_search.search.prepare")


def main():
    directory = Path(sys.argv[1])
    for name in IMPORTED:
        importlib.import_module(name)
    # Those that end are nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert draws() != draws(), "what was imported has drawn Ray's random numbers: processes would all draw the same"
    asked = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asked.bind(str(directory / "unfinished"))
    asked.listen(64)
    (directory / "unfinished").rename(directory / "socket")
    selector = selectors.DefaultSelector()
    selector.register(asked, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    forked = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                shutil.rmtree(directory)
                return
            if key.fileobj is asked:
                # Whoever asks may be killed meanwhile, with the raylet that has begun it.
                with contextlib.suppress(OSError):
                    answer(asked, selector, directory, forked)
            else:
                # As Ray's processes end when their parent does.
                selector.unregister(key.fileobj)
                os.close(key.fileobj)
                end(forked.pop(key.data, []))


def draws():
    """The first random number of a process that is forked now."""
    import ray

    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, ray.ObjectRef.from_random().binary())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as drawn:
        return drawn.read()


def answer(asked, selector, directory, forked):
    """Forks what somebody asks for, notes it among the processes of its raylet, and watches that raylet.

    Raises:
        OSError: Whoever asks, or the raylet, has gone.
    """
    one, _ = asked.accept()
    with one:
        # Nobody waits for one that is stopped before it has asked.
        one.settimeout(20)
        content, files = receive(one)
        if not content:
            return
        request = json.loads(content)
        raylet = request["raylet"]
        try:
            if raylet not in forked:
                selector.register(os.pidfd_open(raylet), selectors.EVENT_READ, raylet)
            pid = os.fork()
            if not pid:
                asked.close()
                one.close()
                selector.close()
                become(request, files)
        finally:
            for file in files:
                os.close(file)
        forked.setdefault(raylet, []).append(pid)
        (directory / str(pid)).write_text(str(raylet))
        one.send(b"begun")


def end(processes):
    """Kills those of these processes that are still children of this one."""
    for pid in processes:
        with contextlib.suppress(OSError):
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                os.kill(pid, signal.SIGKILL)


def become(request, files):
    """Becomes a process of Ray's."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        reseed()
        sys.argv = prepared(request["words"])
        # Read from the environment when Ray was imported: how processes prove who they are.
        sys.modules["ray._raylet"].Config.initialize("")
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def reseed():
    """Draws what every process draws for itself."""
    import numpy as np

    random.seed()
    np.random.seed()


def prepared(words):
    """The words of the program itself, as Ray's script passes them on, with the environment set that it would set."""
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.utils import update_envs

    parser = argparse.ArgumentParser()
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    known, left = parser.parse_known_args(words)
    update_envs(RuntimeEnvContext.deserialize(known.serialized_runtime_env_context).env_vars)
    return left


if __name__ == "__main__":
    main()
