"""The server of MLflow's UI, which replaces this process."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import NoReturn

from ctkd_search.errors import UserError

_HOST = "127.0.0.1"


def refuse_taken_port(port: int) -> None:
    """Checks that a server can listen on a port of this machine.

    Raises:
        UserError: Another process listens on it, or the user is not permitted to.
    """
    with socket.socket() as tried:
        # As servers do: a port whose last server has just ended is free.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((_HOST, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "another process listens on it" if taken else error.strerror or str(error)
            raise UserError(
                f"cannot serve on port {port} of {_HOST}: {reason}; choose another port, as in --port {_free_port()}"
            ) from None


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind((_HOST, 0))
        return int(tried.getsockname()[1])


def become_server(uri: str, port: int) -> NoReturn:
    """Replaces this process by MLflow's server, so that a signal to this process ends the server.

    One worker serves one user. MLflow's job runners are switched off: they evaluate language models, and would be ten
    more processes that outlive the server.

    Args:
        uri: The store.
        port: The port of 127.0.0.1 to listen on.
    """
    # The store is no argument, which every user of the machine can read: it may contain a password.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    words = ["-m", "mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1"]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *words], environment)
