"""Addresses that a space or a command may give."""

from __future__ import annotations

from urllib.parse import urlsplit


def uri_fault(uri: str) -> str | None:
    """Returns why a tracking URI must not be in a space or a command, which are stored and logged, or None."""
    parts = urlsplit(uri)
    web = parts.scheme in ("http", "https")
    if parts.password is None and not (web and parts.username):
        return None
    server = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    instead = server if web else "the whole URI as MLFLOW_TRACKING_URI"
    return f"has a password in it, which would be kept and logged; set {instead} in the environment instead"
