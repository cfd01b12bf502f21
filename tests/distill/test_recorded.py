"""Recorded teachers: what they say is what live ones say, and nothing that happens to the cache changes it."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.recorded import (
    BASE,
    CPU,
    EPOCHS,
    TEACHER_RECIPE,
    assert_same,
    live,
    prepare_all,
    trained,
    varied,
)

from ctkd_search.config import ExpertConfig
from ctkd_search.data import load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.lesson import plain_lessons
from ctkd_search.distill.recording import Wanted, expert_runs, make_stream, prepare, scratch_run, start_teacher
from ctkd_search.distill.requests import Needs
from ctkd_search.errors import UserError
from ctkd_search.models import build


@pytest.fixture(scope="module")
def splits():
    whole = load_train(BASE.dataset)
    return dataclasses.replace(whole, train=whole.train[np.arange(144)], validation=whole.validation[np.arange(50)])


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path, "a test")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache for trials that differ in nothing that teachers depend on: they are recorded once."""
    return TeacherCache(tmp_path_factory.mktemp("kept"), "a test")


@pytest.fixture(scope="module")
def undamaged(splits, tmp_path_factory):
    """Returns the outcome of a training, and the cache that it leaves."""
    directory = tmp_path_factory.mktemp("undamaged")
    return trained(varied(), splits, TeacherCache(directory, "a test")), directory


# Batches that divide the images, that leave some, and that are more than a teacher's; every pair of two of the values.
@pytest.mark.parametrize(
    ("step_loss", "layers", "batch_size"),
    [
        ("kl", (1,), 24),
        ("mse", (1,), 17),
        ("kl", (1,), 64),
        ("mse", (2, 3), 24),
        ("kl", (2, 3), 17),
        ("mse", (2, 3), 64),
        ("kl", (1, 2, 3), 24),
        ("mse", (1, 2, 3), 64),
        ("kl", (1, 2, 3), 17),
    ],
)
def test_recorded_equals_live_bit_for_bit(step_loss, layers, batch_size, splits, kept):
    config = varied(batch_size, step_loss=step_loss, attention_layers=layers)
    assert_same(trained(config, splits, kept), trained(live(config), splits, kept))


@pytest.mark.parametrize("changes", [{"alpha": 0.0}, {"beta": 0.0}, {"alpha": 0.0, "beta": 0.0}])
def test_recorded_equals_live_where_a_teacher_is_not_needed(changes, splits, kept):
    config = varied(**changes)
    assert_same(trained(config, splits, kept), trained(live(config), splits, kept))


def test_recorded_equals_live_in_bfloat16(splits, cache):
    half = dataclasses.replace(TEACHER_RECIPE, precision="bfloat16")
    config = dataclasses.replace(varied(17, teachers={"recipe": half}), train=dataclasses.replace(half, batch_size=17))
    assert_same(trained(config, splits, cache), trained(live(config), splits, cache))


def test_float16_storage_rounds_the_lessons_by_no_more_than_its_precision(splits, tmp_path):
    lessons = {}
    for storage in ("float32", "float16"):
        config = varied(teachers={"storage": storage})
        cache = TeacherCache(tmp_path / storage)
        prepare_all(config, splits, cache)
        lessons[storage] = next(make_trainer(config, splits, cache, CPU).teachers.lessons(0))
    exact, rounded = lessons["float32"], lessons["float16"]
    # float16 keeps 11 bits: half a unit in the last place is 2**-11 of the value.
    torch.testing.assert_close(rounded.scratch_logits, exact.scratch_logits, rtol=2**-11, atol=2**-24)
    for layer, maps in exact.expert_outputs.items():
        torch.testing.assert_close(rounded.expert_outputs[layer], maps, rtol=2**-11, atol=2**-24)
    assert not torch.equal(rounded.scratch_logits, exact.scratch_logits)


def test_float16_storage_changes_the_first_loss_by_less_than_a_thousandth(splits, undamaged, tmp_path):
    exact = undamaged[0][0][0]
    rounded = trained(varied(teachers={"storage": "float16"}), splits, TeacherCache(tmp_path / "b"))[0][0]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=1e-3)


def test_a_second_trial_computes_no_teacher(splits, cache):
    first = trained(varied(), splits, cache)
    assert prepare_all(varied(), splits, cache) == 0
    # Without the expert's weights nothing could compute its maps.
    for path in cache.directory.rglob("expert.rec"):
        path.rename(path.with_suffix(".hidden"))
    trainer = make_trainer(varied(), splits, cache, CPU)
    again = [
        trainer.step(lesson)["loss"].item() for epoch in range(EPOCHS) for lesson in trainer.teachers.lessons(epoch)
    ]
    assert again == first[0]
    assert not list(cache.directory.rglob("expert.rec"))


def test_maps_of_every_layer_are_kept_at_once(splits, cache):
    trained(varied(attention_layers=(2,)), splits, cache)
    before = sorted(path.name for path in cache.directory.rglob("maps-*-[0-9].rec"))
    assert len(before) == 3 * EPOCHS
    trained(varied(attention_layers=(1, 3)), splits, cache)
    assert sorted(path.name for path in cache.directory.rglob("maps-*-[0-9].rec")) == before


def test_beyond_the_limit_maps_are_computed_and_not_kept_and_it_is_said(splits, undamaged, tmp_path):
    unlimited = undamaged[0]
    limited = trained(varied(teachers={"cache_limit": "1KB"}), splits, TeacherCache(tmp_path / "b"))
    assert_same(unlimited, limited)
    assert unlimited[2] == []
    # The first epoch's maps go beyond the limit; those of the second find it reached.
    assert len(list((tmp_path / "b").rglob("maps-*-[0-9].rec"))) == 3
    assert ["reached its limit" in note for note in limited[2]] == [True]


def test_a_limit_of_nothing_keeps_nothing(splits, undamaged, tmp_path):
    kept = undamaged[0]
    none = trained(varied(teachers={"cache_limit": 0}), splits, TeacherCache(tmp_path / "b"))
    assert_same(kept, none)
    assert not list((tmp_path / "b").rglob("maps-*"))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        (flip, "expert.rec"),
        (cut, "logits-*-0001.rec"),
        (Path.unlink, "maps-*-0000-2.rec"),
        (cut, "expert.rec"),
        (Path.unlink, "logits-*-0001.rec"),
        (flip, "maps-*-0000-2.rec"),
        (flip, "*.rec"),
        (cut, "*.rec"),
        (Path.unlink, "*.rec"),
    ],
)
def test_damaged_records_are_recorded_anew_and_nothing_changes(damage, pattern, splits, undamaged, tmp_path):
    before, directory = undamaged
    shutil.copytree(directory, tmp_path / "cache")
    cache = TeacherCache(tmp_path / "cache", "a test")
    contents = {path: path.read_bytes() for path in cache.directory.rglob("*.rec")}
    chosen = list(cache.directory.rglob(pattern))
    assert chosen
    for path in chosen:
        damage(path)
    assert_same(before, trained(varied(), splits, cache))
    # An expert whose maps are all kept is not needed again.
    assert {path: path.read_bytes() for path in cache.directory.rglob("*.rec")} == contents


def test_a_trajectory_that_is_damaged_between_preparation_and_trial_is_recorded_again(splits, cache):
    before = trained(varied(), splits, cache)
    trainer = make_trainer(varied(), splits, cache, CPU)
    for path in cache.directory.rglob("logits-*.rec"):
        cut(path)
    steps = [
        trainer.step(lesson)["loss"].item() for epoch in range(EPOCHS) for lesson in trainer.teachers.lessons(epoch)
    ]
    assert steps == before[0]
    assert any("recorded again" in note for note in trainer.teachers.notes())


def test_preparation_goes_on_from_its_last_finished_epoch(splits, tmp_path):
    config = dataclasses.replace(varied(), epochs=4)
    undisturbed, stopped = TeacherCache(tmp_path / "a"), TeacherCache(tmp_path / "b")
    run = scratch_run(config, splits.fingerprint, CPU, len(splits.train))
    assert [progress.epoch for progress in prepare(run, splits, undisturbed, CPU, Wanted("float16"))] == [1, 2, 3, 4, 4]
    going = prepare(run, splits, stopped, CPU, Wanted("float16"))
    assert [next(going).epoch, next(going).epoch] == [1, 2]
    going.close()
    assert [progress.epoch for progress in prepare(run, splits, stopped, CPU, Wanted("float16"))] == [3, 4, 4]
    entries = [
        {p.name: p.read_bytes() for p in (c.directory / run.entry).glob("*.rec")} for c in (undisturbed, stopped)
    ]
    assert entries[0] == entries[1]
    assert len(entries[0]) == 5


def prepared(run, splits, cache, epochs=None):
    """Prepares a teacher, or so many epochs of it; returns what describes its last weights, if they are kept."""
    going = prepare(run, splits, cache, CPU, Wanted("float16"))
    for _ in itertools.islice(going, epochs):
        pass
    going.close()
    return cache.about(run.expert())


def test_a_teachers_accuracy_is_noted_after_every_epoch(splits, cache):
    run = scratch_run(varied(), splits.fingerprint, CPU, len(splits.train))
    teacher, stream = start_teacher(run, splits, CPU), make_stream(splits, run.augment, run.stream_seed, CPU)
    expected = []
    for epoch in range(run.epochs):
        for _ in teacher.train(plain_lessons(stream, stream.plan(epoch), run.recipe.batch_size), epoch, 1):
            pass
        expected.append(evaluate(teacher.network, splits.validation, stream.normalise, CPU)["accuracy"])
    about = prepared(run, splits, cache)
    assert about["validation_accuracies"] == expected
    assert about["validation_accuracy"] == expected[-1]
    for name, value in cache.read_state(run.expert()).items():
        assert torch.equal(teacher.network.state_dict()[name], value)


def test_a_preparation_that_goes_on_has_the_accuracy_and_the_seconds_of_every_epoch(splits, tmp_path):
    run = scratch_run(dataclasses.replace(varied(), epochs=4), splits.fingerprint, CPU, len(splits.train))
    undisturbed, stopped = TeacherCache(tmp_path / "a"), TeacherCache(tmp_path / "b")
    assert prepared(run, splits, stopped, epochs=2) is None
    before = stopped.index.seconds(run.entry)
    assert list(before) == [0, 1]
    about = prepared(run, splits, stopped)
    assert about["validation_accuracies"] == prepared(run, splits, undisturbed)["validation_accuracies"]
    after = stopped.index.seconds(run.entry)
    assert sorted(after) == [0, 1, 2, 3]
    assert {epoch: after[epoch] for epoch in before} == before
    assert all(seconds > 0 for seconds in after.values())


@pytest.mark.parametrize("done", [1, 2])
def test_a_state_that_knows_no_accuracies_is_taken_up(done, splits, cache):
    run = scratch_run(varied(), splits.fingerprint, CPU, len(splits.train))
    prepared(run, splits, cache, epochs=done)
    kept = cache.read_state(run.state())
    cache.write_state(run.state(), {"epoch": done, "teacher": kept["teacher"]})
    accuracies = prepared(run, splits, cache)["validation_accuracies"]
    assert len(accuracies) == EPOCHS
    assert [accuracy is None for accuracy in accuracies[:-1]] == [True] * (EPOCHS - 1)
    assert 0 < accuracies[-1] < 1


def test_where_no_images_are_held_out_no_accuracy_is_noted(splits, cache):
    everything = splits.with_validation()
    about = prepared(scratch_run(varied(), everything.fingerprint, CPU, len(everything.train)), everything, cache)
    assert about["validation_accuracies"] == [None] * EPOCHS
    assert about["validation_accuracy"] is None


def test_a_trial_that_is_resumed_equals_one_that_never_stopped(splits, cache):
    config = dataclasses.replace(varied(17), epochs=4)
    prepare_all(config, splits, cache)
    whole = make_trainer(config, splits, cache, CPU)
    for _ in range(4):
        whole.run_epoch()
    first = make_trainer(config, splits, cache, CPU)
    first.run_epoch()
    second = make_trainer(config, splits, cache, CPU)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        last = second.run_epoch()
    assert last["epoch"] == 4
    for name, value in whole.student.state_dict().items():
        assert torch.equal(second.student.state_dict()[name], value)


def test_an_expert_with_a_seed_of_its_own_is_another_network(splits, undamaged, cache):
    config = varied(teachers={"expert": ExpertConfig(seed=5)})
    assert len(teacher_runs(config, splits.fingerprint, CPU, Needs(scratch=True, network=True), len(splits.train))) == 2
    assert expert_runs(config, splits.fingerprint, CPU, len(splits.train))[0] != scratch_run(
        config, splits.fingerprint, CPU, len(splits.train)
    )
    own = trained(config, splits, cache)
    assert own[0] != undamaged[0][0]
    assert_same(own, trained(live(config), splits, cache))


def test_an_expert_of_the_users_own_is_used_as_it_is(splits, undamaged, cache, tmp_path):
    path = tmp_path / "own.pt"
    torch.save(build("wrn-10-1", splits.geometry, seed=9).state_dict(), path)
    config = varied(teachers={"expert": ExpertConfig(checkpoint=str(path))})
    one = trained(config, splits, cache)
    assert one[0] != undamaged[0][0]
    assert_same(one, trained(live(config), splits, cache))
    torch.save(build("wrn-10-1", splits.geometry, seed=10).state_dict(), path)
    assert trained(config, splits, cache)[0] != one[0]


def test_an_expert_of_another_architecture_is_refused(splits, cache, tmp_path):
    path = tmp_path / "own.pt"
    torch.save(build("resnet8", splits.geometry, seed=9).state_dict(), path)
    config = varied(teachers={"expert": ExpertConfig(checkpoint=str(path))})
    with pytest.raises(UserError, match=r"own.pt do not fit wrn-10-1: these are weights of resnet8"):
        trained(config, splits, cache)
