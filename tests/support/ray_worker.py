"""The program that Ray runs to begin a process for trials: it has one forked that has imported torch and Ray already.

Run as a script, in place of Ray's own that prepares the environment of such a process.
"""

import array
import json
import os
import socket
import sys

# Where the process listens that forks them.
ADDRESS = "CTKD_TESTS_RAY_ZYGOTE"


def main():
    request = {
        "words": sys.argv[1:],
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "raylet": os.getppid(),
    }
    files = array.array("i", [0, 1, 2])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
        asked.connect(os.environ[ADDRESS])
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        asked.sendmsg([json.dumps(request).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        asked.recv(16)


if __name__ == "__main__":
    main()
