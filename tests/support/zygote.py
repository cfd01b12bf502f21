"""A process that has imported what tests need, and forks for each program: what is slow to import is imported once.

It is told what to do over a socket, its standard input: one JSON object for each request, with the files that are to be
the program's standard input, output and error. It answers each with a JSON object, and ends when nobody is left to ask.
Run as a script.
"""

import array
import importlib
import json
import multiprocessing.util
import os
import socket
import sys
import threading
import traceback
import types


def main():
    asked = socket.socket(fileno=0)
    while True:
        content, files = receive(asked)
        if not content:
            return
        request = json.loads(content)
        if "words" in request:
            for name in request["imported"]:
                importlib.import_module(name)
            answer = begin(request, files)
        else:
            answer = exit_code(request["pid"])
        asked.sendall(json.dumps(answer).encode())


def receive(asked):
    """A request and the files that came with it."""
    files = array.array("i")
    content, ancillary, _, _ = asked.recvmsg(1 << 20, socket.CMSG_LEN(3 * files.itemsize))
    for _, _, found in ancillary:
        files.frombytes(found)
    return content, list(files)


def begin(request, files):
    """Forks a process for a program; returns its id."""
    pid = os.fork()
    if pid:
        for file in files:
            os.close(file)
        return pid
    code = 1
    try:
        code = run(request, files)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        # As Python ends the processes of `multiprocessing`.
        threading._shutdown()
        multiprocessing.util._exit_function()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def run(request, files):
    """Becomes a program: Python's own, or a command of ctkd-search."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    sys.path[0] = request["directory"]
    # What begins processes in turn looks into the main module, and is not to find this script.
    sys.modules["__main__"] = types.ModuleType("__main__")
    if request["code"] is None:
        from ctkd_search import cli
        from support.ray_workers import fork_ray_workers

        fork_ray_workers()

        sys.argv = ["ctkd-search", *request["words"]]
        return cli.main(request["words"])
    sys.argv = ["-c", *request["words"]]
    exec(compile(request["code"], "<program>", "exec"), vars(sys.modules["__main__"]))
    return 0


def exit_code(pid):
    """The exit code of a process, or minus the signal that ended it; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


if __name__ == "__main__":
    main()
