"""One process works on a search or a final training at a time, and one trains a teacher."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from support.factories import a_search, write_space
from support.live import CONFIG, SPACE

from ctkd_search.final.plan import make_plan
from ctkd_search.leases.lease import acquire
from ctkd_search.records.config_file import read_config
from ctkd_search.search.ownership import OWNER, owned


def content(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_space(tmp_path / "space.yaml", **SPACE)


@pytest.mark.parametrize("more", [[], ["--resume"], ["--trials", "8"]])
def test_a_search_that_another_process_works_on_is_refused_and_left_alone(tmp_path, space, call, more):
    with acquire(tmp_path / "trials" / "small", OWNER, "ctkd-search run", what="it"):
        before = content(tmp_path)
        code, out, err = call("run", space, *more)
        assert content(tmp_path) == before
    assert code == 2
    assert out == ""
    said = f"search 'small' is in use by ctkd-search run (process {os.getpid()} on "
    assert said in err
    assert "; wait until it has ended, or stop it" in err
    assert len(err.splitlines()) == 1


def test_a_search_under_another_path_to_the_same_directory_is_refused_too(tmp_path, space, call):
    (tmp_path / "elsewhere").symlink_to(tmp_path / "trials")
    with acquire(tmp_path / "trials" / "small", OWNER, "ctkd-search run", what="it"):
        code, _, err = call("run", space, "--trials-dir", "elsewhere")
    assert code == 2
    assert "is in use by" in err


def test_a_final_training_that_another_process_works_on_cannot_be_resumed(tmp_path, space, call):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    folder = tmp_path / "trials" / "small" / "final-1"
    folder.mkdir(parents=True)
    read = read_config(Path("config.yaml"))
    plan, _ = make_plan(read.name, read.config, 1, False, None)
    a_search(tmp_path / "trials", space=plan.content(), name="small/final-1")
    with acquire(folder, OWNER, "ctkd-search train", what="it"):
        code, _, err = call("train", "config.yaml", "--resume")
    assert code == 2
    assert "final-1 is in use by ctkd-search train (process" in err


def test_what_nothing_came_of_leaves_no_directory(tmp_path):
    with owned(tmp_path / "small", "it", "a search", print):
        assert (tmp_path / "small").is_dir()
    assert not (tmp_path / "small").exists()
