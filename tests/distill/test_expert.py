"""The expert: trained once, and kept under a name of all that determines it."""

import dataclasses

import pytest
from support.tiny import CPU, TINY, assert_same_bits, changed, copied, prepare_teachers

from ctkd_search.distill import recording
from ctkd_search.distill.build import load_expert, make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.recording import expert_runs
from ctkd_search.distill.top_logits import pack_logits
from ctkd_search.errors import WorkFailed

pytestmark = pytest.mark.usefixtures("single_thread")

OTHER_RECIPE = {
    "batch_size": 8,
    "lr": 0.05,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.05,
    "milestones": (0.4,),
    "gamma": 0.5,
    "precision": "bfloat16",
    "optimizer": "adamw",
    "optimizer_options": {"betas": (0.8, 0.9)},
    "decay": "weights",
    "clip": 0.01,
    "schedule": "cosine",
    "warmup": 1.0,
    "cooldown": 0.5,
    "average": 1.0,
    "label_smoothing": 0.2,
    "class_weights": "balanced",
    "effective_beta": 0.9,
}
DETERMINES = {
    "teacher": "wrn-16-1",
    "epochs": 3,
    "seed": 1,
    "augment.crop": 2,
    "augment.flip": False,
    "teachers.seed": 1,
    **{f"teachers.recipe.{key}": value for key, value in OTHER_RECIPE.items()},
}
DOES_NOT_MATTER = {
    "student": "wrn-10-1",
    "method.alpha": 0.5,
    "method.beta": 0.0,
    "method.step_loss": "mse",
    "method.temperature": 1.0,
    "method.attention_layers": (2,),
    **{f"train.{key}": value for key, value in OTHER_RECIPE.items()},
}


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path / "teachers")


@pytest.fixture
def kept(splits, cache):
    """The file of an expert that has just been trained."""
    assert len(prepare_teachers(TINY, splits, cache)) == TINY.epochs + 1
    return cache.directory / f"{record(TINY, splits.fingerprint)}.rec"


def record(config, data):
    """The name under which an expert is kept."""
    [run] = expert_runs(config, data, CPU, 0)
    return run.expert()


def network_of(splits, cache):
    return load_expert(TINY, splits, cache, CPU).network


def test_expert_is_the_scratch_teacher_at_the_end_of_its_training(splits, cache, kept):
    trainer = make_trainer(changed(TINY, "train.batch_size", 7), splits, cache, CPU)
    for _ in range(TINY.epochs):
        trainer.run_epoch()
    assert_same_bits(copied(trainer.teachers.expert(0).network), copied(trainer.teachers.scratch.network))


def test_progress_is_told_after_each_epoch_and_the_accuracy_at_the_end(splits, cache):
    told = prepare_teachers(TINY, splits, cache)
    assert [(one.epoch, one.epochs, one.done) for one in told] == [(1, 2, False), (2, 2, False), (2, 2, True)]
    normalise = make_trainer(TINY, splits, cache, CPU).normalise
    expected = evaluate(network_of(splits, cache), splits.validation, normalise, CPU)["accuracy"]
    assert [one.accuracy for one in told] == [None, None, expected]
    assert cache.about(record(TINY, splits.fingerprint))["validation_accuracy"] == expected


def test_expert_without_validation_images_has_no_accuracy(splits, cache):
    final = splits.with_validation()
    assert prepare_teachers(TINY, final, cache)[-1].accuracy is None
    assert cache.about(record(TINY, final.fingerprint))["validation_accuracy"] is None


def test_kept_expert_is_used_again(splits, cache, kept):
    before = kept.read_bytes(), kept.stat().st_mtime_ns
    assert prepare_teachers(TINY, splits, TeacherCache(cache.directory)) == []
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, "about.json", "took.json"}


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [_truncate, _alter, lambda path: path.write_bytes(b""), lambda path: path.unlink()],
    ids=["cut off", "altered", "emptied", "removed"],
)
def test_damaged_expert_is_noticed_and_trained_anew(splits, cache, kept, damage):
    expected = copied(network_of(splits, cache))
    damage(kept)
    assert record(TINY, splits.fingerprint) not in cache
    assert_same_bits(copied(network_of(splits, cache)), expected)
    assert record(TINY, splits.fingerprint) in cache
    damage(kept)
    assert len(prepare_teachers(TINY, splits, cache)) == TINY.epochs + 1
    assert_same_bits(copied(network_of(splits, cache)), expected)


def test_two_writers_write_the_same_bytes(splits, cache, kept, tmp_path):
    other = TeacherCache(tmp_path / "other")
    prepare_teachers(TINY, splits, other)
    # But for how long it took.
    for path in (path for path in kept.parent.iterdir() if path.name != "took.json"):
        assert (other.directory / kept.parent.name / path.name).read_bytes() == path.read_bytes()


def test_logits_are_packed_some_batches_at_a_time(splits, tmp_path, monkeypatch):
    config, packed = changed(TINY, "teachers.mode", "recorded"), []
    whole, parts = TeacherCache(tmp_path / "whole"), TeacherCache(tmp_path / "parts")
    prepare_teachers(config, splits, whole)

    def noted(logits, storage):
        packed.append(len(logits))
        return pack_logits(logits, storage)

    monkeypatch.setattr(recording, "pack_logits", noted)
    monkeypatch.setattr(recording, "_PACKED_AT_ONCE", 1)
    prepare_teachers(config, splits, parts)
    assert max(packed) == TINY.teachers.recipe.batch_size
    assert sum(packed) == len(splits.train) * TINY.epochs
    files = [path.relative_to(whole.directory) for path in whole.directory.rglob("*logits*.rec")]
    assert len(files) == TINY.epochs
    for name in files:
        assert (parts.directory / name).read_bytes() == (whole.directory / name).read_bytes()


def test_teacher_that_diverges_is_not_kept(splits, cache):
    wild = changed(TINY, "teachers.recipe.lr", 1e12)
    with pytest.raises(WorkFailed, match=r"wrn-10-1 diverged in epoch \d of its training; lower teachers.recipe.lr"):
        prepare_teachers(wild, splits, cache)
    assert record(wild, splits.fingerprint) not in cache


@pytest.mark.parametrize("key", DETERMINES)
def test_name_changes_with_all_that_determines_the_weights(key):
    assert record(changed(TINY, key, DETERMINES[key]), "data") != record(TINY, "data")


@pytest.mark.parametrize("key", DOES_NOT_MATTER)
def test_name_does_not_change_with_anything_of_the_student_s(key):
    assert record(changed(TINY, key, DOES_NOT_MATTER[key]), "data") == record(TINY, "data")


def test_name_changes_with_the_images_and_their_split(splits):
    fewer = dataclasses.replace(splits, fingerprint=splits.with_validation().fingerprint)
    assert record(TINY, fewer.fingerprint) != record(TINY, splits.fingerprint)


def test_every_part_of_the_recipe_is_tried():
    assert set(OTHER_RECIPE) == {field.name for field in dataclasses.fields(TINY.train)}
