"""Ray's sockets where the directory of temporary files has a long path, as in a batch system's jobs."""

import os
import subprocess
import sys
import time

import pytest

from ctkd_search.errors import UserError
from ctkd_search.search.ray_directory import is_too_long, ray_directory, short_directory

# Starts Ray as a search does, lets a task tell where its temporary files go and what PyTorch is told, and stops it.
START = """
import os, tempfile
from pathlib import Path
import ray
from ctkd_search.search import cluster
joined = cluster.Cluster(None)
made = [str(joined.directory)]
there = lambda: (tempfile.gettempdir(), os.environ["THP_MEM_ALLOC_ENABLE"])
inside, huge_pages = ray.get(ray.remote(there).options(num_cpus=1).remote())
joined.leave()
left = os.environ.get("THP_MEM_ALLOC_ENABLE")
print(len(joined.nodes), inside == os.environ["TMPDIR"], huge_pages, left, made, [Path(path).exists() for path in made])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("given", "there"), [(None, "1"), ("0", "0")])
def test_ray_starts_though_the_path_of_temporary_files_is_long(tmp_path, given, there):
    place = tmp_path / ("job-" + "x" * (116 - len(str(tmp_path)) - 5))
    place.mkdir()
    assert len(str(place)) >= 116
    ended = subprocess.run(
        [sys.executable, "-c", START],
        env={**os.environ, "TMPDIR": str(place), **({"THP_MEM_ALLOC_ENABLE": given} if given else {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    nodes, same, huge_pages, left, *rest = ended.stdout.split()
    assert (nodes, same) == ("1", "True")
    # The variable is the workers' alone, and the user's where there is one.
    assert (huge_pages, left) == (there, str(given))
    assert "ctkd-ray-" in rest[0]
    assert rest[-1] == "[False]"


@pytest.mark.parametrize(("length", "long"), [(20, False), (43, False), (44, True), (116, True)])
def test_a_path_is_too_long_where_a_socket_s_name_has_no_room(length, long):
    assert is_too_long("/" + "x" * (length - 1)) is long


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere Ray does not look at TMPDIR")
def test_a_directory_that_ray_is_to_make_counts_as_ray_takes_it(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp/" + "x" * 111)
    assert is_too_long(ray_directory())
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/r")
    assert ray_directory() == "/tmp/r/ray"


def test_the_first_place_that_can_be_written_to_is_taken(tmp_path):
    made = short_directory(["/proc/none", "/tmp"])
    assert made.parent.as_posix() == "/tmp"
    assert made.stat().st_mode & 0o777 == 0o700
    made.rmdir()


def test_without_any_place_it_is_reported_what_to_do():
    with pytest.raises(
        UserError,
        match=r"none of /proc/none is writable; set RAY_TMPDIR to a writable directory "
        r"with a short path",
    ):
        short_directory(["/proc/none"])


def test_what_killed_processes_left_is_removed_a_day_later():
    left = short_directory(["/tmp"])
    dead = left.with_name("ctkd-ray-4194999-dead")
    left.rename(dead)
    os.utime(dead, (time.time() - 90000,) * 2)
    mine = short_directory(["/tmp"])
    os.utime(mine, (time.time() - 90000,) * 2)
    other = short_directory(["/tmp"])
    assert not dead.exists()
    assert mine.exists()
    mine.rmdir()
    other.rmdir()
