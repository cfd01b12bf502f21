"""Files that are written in one step, and what is there instead of a file."""

import os
import stat
import threading

import pytest

from ctkd_search.errors import UserError
from ctkd_search.files import check_writable, make_directory, write_text


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(tmp_path, umask, expected):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "new", "new")
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(0o640)
        write_text(tmp_path / "old", "new")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "new"), mode(tmp_path / "old")) == (expected, 0o640)
    assert (tmp_path / "old").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path, exists):
    (tmp_path / "there").mkdir()
    if exists:
        (tmp_path / "there" / "target").write_text("old")
    (tmp_path / "link").symlink_to("there/target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "target").read_text() == "new"


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    check_writable(tmp_path / "pipe")
    write_text(tmp_path / "pipe", "through")
    reader.join(20)
    assert found == ["through"]
    assert (tmp_path / "pipe").is_fifo()


def test_what_cannot_be_written_is_said_before(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"cannot write to the directory {tmp_path / 'file'}: it is a file"):
        make_directory(tmp_path / "file")
    with pytest.raises(UserError, match=f"cannot write to the directory {tmp_path / 'file'}: it is a file"):
        check_writable(tmp_path / "file" / "x.onnx")
    with pytest.raises(UserError, match="it is a directory"):
        check_writable(tmp_path)
    check_writable(tmp_path / "new" / "x.onnx")
    assert list((tmp_path / "new").iterdir()) == []
