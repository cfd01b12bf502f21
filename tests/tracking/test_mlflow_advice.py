"""Advice about errors of MLflow, for the errors that it really raises."""

import socket

import pytest

from ctkd_search.errors import UserError
from ctkd_search.tracking.advice import advice
from ctkd_search.tracking.store import Mlflow


def refusal(uri, directory):
    with pytest.raises(UserError) as caught:
        Mlflow(uri, "x", directory / "artifacts")
    return str(caught.value)


def test_a_file_store_is_answered_with_sqlite_and_the_variable_that_allows_it(tmp_path):
    said = refusal(f"file:{tmp_path}/mlruns", tmp_path)
    assert said.startswith(f"cannot use MLflow at file:{tmp_path}/mlruns (The filesystem tracking backend")
    assert said.endswith(
        "use a SQLite file (sqlite:///mlflow.db), or leave the tracking URI out; MLFLOW_ALLOW_FILE_STORE=true allows "
        "a file store"
    )
    assert "server" not in said


@pytest.mark.slow
def test_a_server_that_is_not_there_is_to_be_started(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{port}", tmp_path).endswith("start the server, or check its address")


def test_a_scheme_that_nobody_knows_is_named_as_such(tmp_path):
    assert "the scheme of the URI must be one that MLflow supports" in refusal("foo://bar", tmp_path)


def test_a_file_that_is_no_data_base_is_named_as_such(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"This is not a database, but long enough to look like one." * 20)
    assert "the file is damaged, or no SQLite file" in refusal(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("API request to endpoint /api failed with error code 401 != 200", "MLFLOW_TRACKING_TOKEN"),
        ("API request to endpoint /api failed with error code 403 != 200", "MLFLOW_TRACKING_TOKEN"),
        ("API request to endpoint /api failed with error code 404 != 200", "no MLflow server answers there"),
        ("No module named 'MySQLdb'", "the driver of the database"),
        ("(sqlite3.OperationalError) database is locked", "another process keeps the database locked"),
        ("(sqlite3.OperationalError) attempt to write a readonly database", "can be written to"),
        ("Detected out-of-date database schema (found version a, but expected b)", "mlflow db upgrade"),
        ("HTTPSConnectionPool: SSLError(CERTIFICATE_VERIFY_FAILED)", "certificate"),
        ("Failed to resolve 'mlflow.example' ([Errno -2] Name or service not known)", "check the server's name"),
        ("The response body was not in a valid JSON format", "no MLflow server answers there"),
        ("Max retries exceeded with url: / (too many 500 error responses)", "read its log"),
        ("SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number')", "try http://"),
        ("(sqlite3.OperationalError) no such column: runs.run_uuid", "mlflow db upgrade"),
        ("HTTPConnectionPool(host='127.0.0.1', port=401): Connection refused", "start the server"),
        ("something else altogether", "check the tracking URI"),
    ],
)
def test_each_cause_of_a_failure_is_answered_with_what_to_do(message, what):
    assert what in advice(Exception(message))
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = Exception(message)
    assert what in advice(wrapped)
