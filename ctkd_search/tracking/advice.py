"""Advice about errors of MLflow, by their causes."""

from __future__ import annotations

import re

_SQLITE = "use a SQLite file (sqlite:///mlflow.db), or leave the tracking URI out"
# The first pattern that an error's whole text matches decides.
_ADVICE = (
    (
        r"MLFLOW_ALLOW_FILE_STORE|filesystem tracking backend",
        f"{_SQLITE}; MLFLOW_ALLOW_FILE_STORE=true allows a file store",
    ),
    (
        r"unsupported URI|Supported URI schemes|Could not find a registered",
        f"the scheme of the URI must be one that MLflow supports; {_SQLITE}",
    ),
    (r"No module named", "install that module, the driver of the database"),
    (
        r"out-of-date database schema|Can't locate revision|no such column",
        "another version of MLflow made the store; upgrade it with: mlflow db upgrade URI",
    ),
    (
        r"error code 40[13]|Unauthorized|Forbidden|UNAUTHENTICATED|PERMISSION_DENIED",
        "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
    (r"password authentication failed|no password supplied", "check the user and the password in MLFLOW_TRACKING_URI"),
    (r"WRONG_VERSION_NUMBER", "the server does not use https at this address; try http://"),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSL:",
        "check the server's certificate (REQUESTS_CA_BUNDLE names your own authority)",
    ),
    (r"Name or service not known|Failed to resolve|getaddrinfo|nodename nor servname", "check the server's name"),
    (r"too many 50\d error responses|error code 50\d", "the server itself fails; read its log"),
    (r"Connection refused|Max retries exceeded|timed out|connection failed", "start the server, or check its address"),
    (
        r"error code 404|Not Found|not (in a )?valid JSON|is not valid JSON|Expecting value",
        "check the address: no MLflow server answers there",
    ),
    (r"database is locked", "another process keeps the database locked; wait, or keep the store on a local disk"),
    (
        r"readonly database|unable to open database file|Permission denied|Read-only file system",
        "check that the store's file and its directory can be written to",
    ),
    (r"file is not a database|malformed", "the file is damaged, or no SQLite file; name another one"),
    (r"No space left|disk is full", "make room on the disk of the store"),
)


def advice(error: BaseException) -> str:
    """Returns advice about an error of MLflow, of its server or of its store."""
    seen: BaseException | None = error
    texts: list[str] = []
    while seen is not None and len(texts) < 8:
        texts.append(f"{type(seen).__name__}: {seen}")
        seen = seen.__cause__ or seen.__context__
    text = "\n".join(texts)
    return next((what for pattern, what in _ADVICE if re.search(pattern, text)), "check the tracking URI")
