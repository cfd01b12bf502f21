"""What a runner of trials leaves behind: the directories of Ray."""

import os
import tempfile
import time

from ctkd_search.search.runner import _sweep


def test_a_directory_that_another_process_removes_is_passed_over_when_old_ones_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # Of what another process has just removed, the name was listed, but there is nothing behind it.
    (tmp_path / "ctkd-search-4194998-gone").symlink_to("nowhere")
    left, own = tmp_path / "ctkd-search-4194999-left", tmp_path / f"ctkd-search-{os.getpid()}-own"
    for path in (left, own):
        path.mkdir()
        os.utime(path, (time.time() - 90000,) * 2)
    _sweep()
    assert own.exists()
    assert not left.exists()
