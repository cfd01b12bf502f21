"""The size of a search's recordings, compared with real ones; and refusals of those that do not fit."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.factories import a_space

from ctkd_search.checks.networks import all_facts
from ctkd_search.checks.storage import Room, free_bytes, map_faults, room, room_faults, smaller_maps, storage_faults
from ctkd_search.data import load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.missing import MissingRecordings
from ctkd_search.distill.recording import prepare
from ctkd_search.geometry import Geometry
from ctkd_search.pairs import split_pair
from ctkd_search.space.comparisons import each_needs

CPU = torch.device("cpu")
DIGITS = Geometry(10, 1, 8)
SEARCH = {"pair": {"choice": ["wrn-10-1/resnet8", "wrn-16-1/resnet8"]}, "lr": {"float": [0.01, 0.1]}}


def two_epochs(**sections):
    """A space of two pairs and two epochs."""
    return a_space(**{"search": SEARCH, "budget": {"epochs": 2}, **sections})


def known():
    return all_facts(["wrn-10-1", "wrn-16-1", "resnet8"], DIGITS)[0]


@pytest.mark.usefixtures("single_thread")
@pytest.mark.parametrize(
    ("storage", "augments"), [("float16", {}), ("float32", {}), ("float16", {"weak": {}, "mixed": {"mixup": 0.5}})]
)
def test_what_is_foretold_is_what_is_recorded(tmp_path, storage, augments):
    search = {**SEARCH, "augment": {"choice": augments}} if augments else SEARCH
    space = two_epochs(teachers={"storage": storage, "recipe": {"batch_size": 64}}, search=search)
    splits = load_train(space.dataset)
    few = np.arange(40)
    splits = dataclasses.replace(splits, train=splits.train[few], validation=splits.validation[few])
    cache = TeacherCache(tmp_path)
    missing = MissingRecordings(each_needs(space), splits, cache, CPU)
    streams = max(1, len(augments))
    assert missing.count() == {"wrn-10-1": 2 * streams, "wrn-16-1": 2 * streams}
    for config in space.trained_teachers():
        for run, kept in teacher_runs(
            config, splits.fingerprint, CPU, make_method(config.method).needs, len(splits.train)
        ).items():
            list(prepare(run, splits, cache, CPU, kept))
        trainer = make_trainer(config, splits, cache, CPU)
        for _ in range(config.epochs):
            trainer.run_epoch()
    assert not missing.count()
    needed = room(space, len(splits.train), 10, known())

    def on_disk(pattern, count):
        files = list(tmp_path.rglob(pattern))
        assert len(files) == count
        # A record has a header too.
        return sum(path.stat().st_size for path in files), 1024 * count

    logits, headers = on_disk("logits-float*", 2 * 2 * streams)
    assert logits - headers < needed.trajectories < logits
    # Of every layer, and the logits.
    maps, headers = on_disk("maps-float*", 2 * 2 * 4 * streams)
    assert maps - headers < needed.maps < maps
    # Of the larger expert in an epoch of one stream.
    assert needed.maps_epoch == needed.maps / (2 * 2 * streams)


def test_what_the_confirmation_records_is_counted():
    space = two_epochs(confirm={"best": 5, "seeds": 3})
    needed = room(space, 100, 10, known())
    once = 2 * 2 * 100 * 10
    # Three streams, of one teacher or of both.
    assert (needed.trajectory, needed.trajectories, needed.confirmed) == (once, 2 * once, (3 * once, 6 * once))
    said = 10 + 8 * 8 + 4 * 4 + 2 * 2
    assert (needed.maps_epoch, needed.maps) == (2 * 100 * said, 2 * 2 * 100 * said * (2 + 3 * 2))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("none", 0),
        ("kd", 10),
        ("fitnets", 0),  # feature maps are computed in the trials
        ("fs", 10 + 2 * (16 + 32 + 64)),
        ("pkt", 10 + 64),
        ("sp", 0),
        ("[rkd, fs]", 10 + 64 + 2 * (16 + 32 + 64)),
        ("[at, fs]", 10 + 8 * 8 + 4 * 4 + 2 * 2 + 2 * (16 + 32 + 64)),
    ],
)
def test_what_is_counted_is_what_the_methods_ask_the_expert_for(method, said):
    chosen = {"choice": yaml.safe_load(method)} if "," in method else method
    space = two_epochs(search={**SEARCH, "method": chosen})
    needed = room(space, 100, 10, known())
    assert (needed.trajectory, needed.maps_epoch) == (0, 2 * 100 * said)


def test_nothing_is_recorded_of_teachers_that_nobody_listens_to():
    search = {**SEARCH, "alpha": 0, "beta": 0}
    assert room(two_epochs(search=search), 100, 10, known()) == Room()
    assert room(two_epochs(teachers={"mode": "live"}), 100, 10, known()) == Room()
    heard = room(two_epochs(search=search, baselines=["scratch-only"]), 100, 10, known())
    assert heard.trajectory > 0 == heard.maps


def test_what_does_not_fit_is_refused_by_the_key_that_can_be_changed():
    space = two_epochs(teachers={"cache_limit": "300"})
    needed = Room(trajectory=100, trajectories=200, confirmed=(100, 400), maps_epoch=50, maps=1000)
    place = Path("trials")
    assert room_faults(space, needed, 600, place) == []
    ((key, message),) = room_faults(space, needed, 599, place)
    assert key == ("teachers", "cache_limit")
    assert "lets the experts' recordings take 300 bytes beside 300 bytes of logits" in message
    ((key, message),) = room_faults(space, needed, 299, place)
    assert key == ("teachers", "mode")
    assert "the teachers' logits take 300 bytes and trials has room for 299 bytes" in message
    assert room_faults(space, dataclasses.replace(needed, maps=0), 300, place) == []


def keep_recordings(trials_dir, size):
    """A recording of so many bytes, which takes no room on the disk."""
    entry = trials_dir / "teachers" / "logits-0123"
    entry.mkdir(parents=True)
    with (entry / "0.pt").open("wb") as file:
        file.truncate(size)


def test_what_is_kept_already_counts_as_room(tmp_path):
    before = free_bytes(tmp_path)
    keep_recordings(tmp_path, 10**12)
    # Others write on this disk too.
    assert abs(free_bytes(tmp_path) - before - 10**12) < 10**11
    assert abs(free_bytes(tmp_path / "nowhere" / "yet") - before) < 10**11


@pytest.mark.usefixtures("own_directory")
def test_recordings_that_are_there_are_named_beside_the_free_space(call):
    Path("space.yaml").write_text("name: x\ndataset: {name: digits}\nsearch: {alpha: {float: [0.1, 1]}}\n")
    line = r"free disk space for them in trials: [\d.]+ .B"
    assert re.search(rf"{line}\n", call("check", "space.yaml", "--no-measure")[1])
    keep_recordings(Path("trials"), 10_000_000)
    beside = ", beside 10 MB of recordings, of which this search may need some"
    assert re.search(rf"{line}{beside}\n", call("check", "space.yaml", "--no-measure")[1])


@pytest.mark.parametrize("command", [("check", "--no-measure"), ("run",)])
def test_a_trajectory_that_no_disk_holds_is_refused_at_its_line(call_here, command):
    space = (
        "name: x\ndataset: {name: digits}\nbudget: {epochs: 1000000000000}\nteachers:\n  mode: recorded\n"
        "search: {alpha: {float: [0.1, 1]}, pair: wrn-10-1/resnet8}\n"
    )
    code, err = call_here(space, *command)
    assert code == 2
    assert "space.yaml has 1 error:\n  line 5: teachers.mode the teachers' logits take" in err
    assert not list(Path("trials").glob("**/search.json"))


@pytest.mark.parametrize(
    ("sections", "classes", "fault"),
    [
        ({}, 1000, None),
        ({}, 10, "keeps 16 logits in 70 bytes, and all 10 take 20 as float16; use float16"),
        ({"baselines": ["kd", "dkd"]}, 1000, "keeps the 16 largest logits, but dkd would need all of them: from the "),
        ({"search": {"step_loss": "mse"}}, 1000, "keeps the 16 largest logits, but ctkd would need all of them: from "),
    ],
)
def test_the_largest_logits_alone_are_refused_where_they_do_not_suffice(sections, classes, fault):
    search = {"pair": "wrn-10-1/resnet8", "step_loss": "kl", "lr": {"float": [0.01, 0.1]}, **sections.pop("search", {})}
    found = storage_faults(a_space(teachers={"storage": {"top": 16}}, search=search, **sections), classes)
    assert [place for place, _ in found] == [("teachers", "storage")] * bool(fault)
    assert not fault or found[0][1].startswith(fault)


def known_of(space):
    return all_facts([name for pair in space.pairs() for name in split_pair(pair)], Geometry(10, 3, 32))[0]


@pytest.mark.parametrize(
    ("teachers", "method", "faults"),
    [
        ({"map_size": 16, "map_storage": "uint8"}, "ctkd", {}),
        ({"map_size": 31}, "at", {}),
        (
            {"map_size": 32},
            "at",
            {"map_size": "has no effect, because no recorded attention map has a side of more than 32"},
        ),
        (
            {"map_size": 4, "map_storage": "uint8"},
            "kd",
            dict.fromkeys(("map_size", "map_storage"), "has no effect, because no trial compares attention maps"),
        ),
        ({}, "kd", {}),
    ],
)
def test_forms_of_maps_that_change_nothing_are_refused(teachers, method, faults):
    search = {"pair": "wrn-10-1/resnet8", "method": method, "lr": {"float": [0.01, 0.1]}}
    space = a_space(teachers=teachers, search=search)
    found = dict(map_faults(space, known_of(space)))
    assert found == {("teachers", key): f"{fault}; leave it out" for key, fault in faults.items()}


def test_maps_of_one_position_are_refused():
    search = {"pair": "wrn-10-1/resnet8", "method": "at", "lr": {"float": [0.01, 0.1]}}
    space = a_space(teachers={"map_size": 1}, search=search)
    ((place, fault),) = map_faults(space, known_of(space))
    assert place == ("teachers", "map_size")
    assert fault.startswith("must be at least 2, but got 1: a map of one position")


def test_smaller_maps_are_proposed_where_those_of_all_epochs_do_not_fit():
    def advice(limit, **teachers):
        search = {"pair": "wrn-10-1/resnet8", "method": "at", "lr": {"float": [0.01, 0.1]}}
        space = a_space(teachers={"cache_limit": limit, **teachers}, search=search, budget={"epochs": 10})
        return smaller_maps(space, 1000, 10, known_of(space))

    # Maps of 32, 16 and 8 pixels a side, and ten logits of two bytes.
    in_bytes = 10 * 1000 * (1024 + 256 + 64 + 3 * 4 + 20)
    assert advice("14MB") == f"with teachers.map_storage: uint8 they would take {in_bytes / 1e6:.3g} MB"
    small = 10 * 1000 * (3 * 16 + 3 * 4 + 20)
    assert advice("1MB") == (
        f"with teachers.map_storage: uint8 and teachers.map_size: 4 they would take {small / 1e3:.3g} kB"
    )
    assert advice("100kB") is None
    assert advice("14MB", map_size=4) is None
