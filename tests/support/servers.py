"""Real servers on 127.0.0.1: MLflow's, PostgreSQL, and one that asks for a token."""

import contextlib
import http.client
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.here import fresh_store
from support.live import descendants, free_port

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "content-encoding"}


# Seconds until a server must answer: on a busy machine its imports alone may take one or two minutes.
_PATIENCE = 240


def answered(url, process, log=None):
    """The first answer of a server that a process begins; `log` is the file that it writes to."""

    def said():
        return f"{url} does not answer: {log.read_text() if log else process.args}"

    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return urllib.request.urlopen(url, timeout=5)
        except OSError:
            assert process.poll() is None, said()
            assert time.monotonic() < end, said()
            time.sleep(0.25)


class Server:
    """MLflow's tracking server, with artifacts through the server; on a SQLite store unless told otherwise."""

    def __init__(self, directory, store=None):
        self.directory = directory
        self.store = store or f"sqlite:///{directory}/server.db"
        if store is None:
            fresh_store(directory / "server.db")
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--backend-store-uri", self.store, "--workers", "1"]
        words += ["--artifacts-destination", str(self.directory / "served-artifacts")]
        with open(self.directory / "server.txt", "a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Without the processes that run MLflow's own jobs.
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            )
        answered(f"{self.uri}/health", self.process, self.directory / "server.txt")
        return self

    def stop(self):
        if self.process is not None:
            # Some of its helpers are in sessions of their own.
            for pid in (self.process.pid, *descendants(self.process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class Postgres:
    """A PostgreSQL server with an empty database `mlflow`."""

    def __init__(self):
        if not all(shutil.which(name) for name in ("initdb", "postgres")):
            pytest.skip("PostgreSQL's initdb and postgres are not installed")
        pytest.importorskip("psycopg")
        self.port = free_port()
        self.uri = f"postgresql://runs@127.0.0.1:{self.port}/mlflow"
        # Not among pytest's folders: those let nobody but their owner in, and PostgreSQL refuses to be run by root.
        self.data = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._as = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.data, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": "nobody", "group": nobody.pw_gid, "extra_groups": [], "cwd": "/"}
        self._process = None

    def start(self):
        initdb = ["initdb", "-D", str(self.data / "db"), "-U", "runs", "--auth=trust", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **self._as)
        words = ["-D", str(self.data / "db"), "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.data), "-F"]
        self._process = subprocess.Popen(["postgres", *words], stderr=subprocess.DEVNULL, **self._as)
        import psycopg

        for _ in range(120):
            with contextlib.suppress(psycopg.OperationalError):
                connection = psycopg.connect(host="127.0.0.1", port=self.port, user="runs", dbname="postgres")
                connection.autocommit = True
                connection.cursor().execute("CREATE DATABASE mlflow")
                connection.close()
                return self
            assert self._process.poll() is None
            time.sleep(0.25)
        raise AssertionError("PostgreSQL does not answer")

    def stop(self):
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=60)
        shutil.rmtree(self.data)


class TokenGate:
    """Passes requests on to a server if they carry a token, as the gateway before a company's server does."""

    def __init__(self, port, token):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Authorization") != f"Bearer {token}":
                    self._answer(401, [], b"no token")
                    return
                server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                own = {key: value for key, value in self.headers.items() if key.lower() not in _HOP}
                # MLflow answers only to names that it knows.
                server.request(self.command, self.path, body, {**own, "Host": f"127.0.0.1:{port}"})
                answer = server.getresponse()
                kept = [item for item in answer.getheaders() if item[0].lower() not in _HOP]
                self._answer(answer.status, kept, answer.read())

            def _answer(self, status, headers, body):
                self.send_response(status)
                for key, value in headers:
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

            def log_message(self, *words):
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
