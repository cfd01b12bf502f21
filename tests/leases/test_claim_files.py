"""Tests of the files of leases."""

import os
from pathlib import Path

from ctkd_search.leases.files import read_claim


def test_a_lease_that_cannot_be_read_changes_with_its_file(tmp_path, monkeypatch):
    def unreadable(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    lease = tmp_path / ".a.lease-1"
    lease.write_text("{}")
    tokens = []
    for seconds in (1, 1, 2):
        os.utime(lease, (seconds, seconds))
        tokens.append(read_claim(lease, "1").token)
    assert tokens[0] == tokens[1] != tokens[2]
