"""The logits that the step loss follows: the scratch teacher's, its running average's, the expert's, or a schedule."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from support.methods import with_values
from support.oracles import draw, numpy_gradient, numpy_kl
from support.recorded import BASE, assert_same, live
from support.tiny import CPU, TINY, prepared_trainer

from ctkd_search.config import MethodConfig
from ctkd_search.distill import optimizers
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.lesson import Lesson, StudentOutput, plain_lessons
from ctkd_search.distill.losses import cross_entropy
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import Wanted, is_prepared, make_stream, prepare, scratch_run, start_teacher
from ctkd_search.distill.requests import LOGITS, Needs
from ctkd_search.geometry import Geometry
from ctkd_search.space.effects import setting_of

pytestmark = pytest.mark.usefixtures("single_thread")

STUDENT, SCRATCH, AVERAGE, EXPERT = (draw(6, 5, seed=seed) for seed in range(4))
LABELS = np.array([0, 3, 1, 1, 2, 4])
TEACHERS = ("scratch", "average", "expert", "to-expert")


def mse(student, teacher, _):
    return ((student - teacher) ** 2).sum(axis=1).mean()


def step_term(values, epoch=0, epochs=5):
    """The step loss's term for fixed logits, and its gradient."""
    method = make_method(MethodConfig("ctkd", {"beta": 0.0, "alpha": 0.5, "temperature": 3.0, **values}))
    method.begin_epoch(epoch, epochs)
    lesson = Lesson(
        torch.zeros(6),
        torch.tensor(LABELS),
        torch.tensor(SCRATCH),
        {LOGITS: torch.tensor(EXPERT)},
        average_logits=torch.tensor(AVERAGE),
    )
    logits = torch.tensor(STUDENT, requires_grad=True)
    term = method.terms(StudentOutput(logits, []), lesson)["loss_step"]
    return term.item(), torch.autograd.grad(term, logits)[0].numpy()


@pytest.mark.parametrize(("loss", "oracle"), [("kl", numpy_kl), ("mse", mse)])
@pytest.mark.parametrize("teacher", TEACHERS)
def test_the_step_loss_is_that_of_the_logits_that_it_follows(teacher, loss, oracle):
    for epoch in range(5):
        share = epoch / 4
        parts = {
            "scratch": [(1.0, SCRATCH)],
            "average": [(1.0, AVERAGE)],
            "expert": [(1.0, EXPERT)],
            "to-expert": [(1 - share, SCRATCH), (share, EXPERT)],
        }[teacher]

        def expected(student, parts=parts):
            return 0.5 * sum(weight * oracle(student, logits, 3.0) for weight, logits in parts)

        found, gradient = step_term({"step_teacher": teacher, "step_loss": loss}, epoch)
        assert found == pytest.approx(expected(STUDENT), rel=1e-9)
        assert gradient == pytest.approx(numpy_gradient(expected, STUDENT), abs=1e-5)


def test_only_the_followed_teachers_are_needed():
    needs = {
        teacher: make_method(MethodConfig("ctkd", {"beta": 0.0, "step_teacher": teacher})).needs for teacher in TEACHERS
    }
    assert needs == {
        "scratch": Needs(scratch=True),
        "average": Needs(average=True),
        "expert": Needs(expert=(LOGITS,)),
        "to-expert": Needs(scratch=True, expert=(LOGITS,)),
    }
    assert [needs[teacher].any_scratch for teacher in TEACHERS] == [True, True, False, True]
    assert needs["scratch"] | needs["average"] == Needs(scratch=True, average=True)
    # Without weight nobody is followed.
    off = make_method(MethodConfig("ctkd", {"beta": 0.0, "alpha": 0.0, "step_teacher": "average"}))
    assert off.needs == Needs()
    both = make_method(MethodConfig("ctkd", {"beta": 0.0, "step_teacher": "expert", "expert_kd": 1.0}))
    assert both.needs == Needs(expert=(LOGITS,))


def test_the_paper_s_teacher_is_the_default_and_the_simplest_name_is_kept():
    assert make_method(MethodConfig("ctkd")).values["step_teacher"] == "scratch"
    names = {
        teacher: make_method(MethodConfig("ctkd", {"beta": 0.0, "step_teacher": teacher})).canonical().name
        for teacher in TEACHERS
    }
    assert names == {"scratch": "scratch-only", "average": "scratch-only", "expert": "ctkd", "to-expert": "ctkd"}
    for teacher in TEACHERS:
        config = MethodConfig("ctkd", {"beta": 0.0, "step_teacher": teacher})
        again = make_method(make_method(config).canonical())
        assert again.needs == make_method(config).needs
        assert again.canonical() == make_method(config).canonical()


def test_a_schedule_over_one_epoch_is_idle():
    one, two = (setting_of("wrn-16-1/resnet8", Geometry(10, 1, 8), epochs) for epochs in (1, 2))
    method = make_method(MethodConfig("ctkd", {"step_teacher": "to-expert"}))
    assert "step_teacher" in method.idle(one)
    assert "step_teacher" not in method.idle(two)
    assert "step_teacher" not in make_method(MethodConfig("ctkd", {"step_teacher": "average"})).idle(one)


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("average", "At every step it follows the logits of the scratch teacher's running average"),
        ("expert", "At every step it follows the expert's logits"),
        ("to-expert", "At every step it follows the scratch teacher's logits at first and the expert's in the end"),
    ],
)
def test_it_says_whom_it_follows(teacher, said):
    sentences = make_method(MethodConfig("ctkd", {"step_teacher": teacher})).describe()
    assert sentences[0].startswith(said)
    assert ("It has no scratch teacher." in sentences) == (teacher == "expert")


def trained_by_hand(run, splits, steps):
    """A teacher's training written out: its logits, and those of the mean of its weights after each step so far."""
    teacher = start_teacher(run, splits, CPU)
    network, optimizer = teacher.network.train(), teacher.optimizer
    stream = make_stream(splits, run.augment, run.stream_seed, CPU)
    lessons = list(plain_lessons(stream, stream.plan(0), run.recipe.batch_size))
    kept, logits, averages = [], [], []
    for number, lesson in enumerate(lessons[:steps]):
        mean = copy.deepcopy(network)
        if kept:
            mean.load_state_dict({name: sum(state[name] for state in kept) / len(kept) for name in kept[0]})
        with torch.no_grad():
            averages.append(mean.train()(lesson.images)[0])
        optimizers.set_lr(optimizer, run.recipe.lr_at(0, run.epochs, number, len(lessons)))
        found = network(lesson.images)[0]
        logits.append(found.detach())
        optimizer.zero_grad()
        cross_entropy(found, lesson).backward()
        optimizer.step()
        kept.append({name: value.clone().double() for name, value in network.state_dict().items()})
    return logits, averages


def test_the_average_is_the_mean_of_the_weights_so_far_and_changes_nothing(splits):
    run = scratch_run(TINY, splits.fingerprint, CPU, len(splits.train))
    stream = make_stream(splits, run.augment, run.stream_seed, CPU)
    size = run.recipe.batch_size
    teacher, plain = start_teacher(run, splits, CPU, averaged=True), start_teacher(run, splits, CPU)
    found, without = (
        list(one.train(plain_lessons(stream, stream.plan(0), size), 0, stream.steps(size))) for one in (teacher, plain)
    )
    logits, averages = trained_by_hand(run, splits, stream.steps(size))
    for (own, average), (alone,), expected, mean in zip(found, without, logits, averages, strict=True):
        assert torch.equal(own, alone)
        assert torch.allclose(own, expected, atol=1e-5)
        assert torch.allclose(average, mean, atol=1e-4)
    # Before the first step both are one network; later they are not.
    assert torch.equal(*found[0])
    assert not torch.allclose(*found[-1], atol=1e-3)
    for name, value in teacher.network.state_dict().items():
        assert torch.equal(value, plain.network.state_dict()[name])


def config_of(teacher, batch_size=24, **values):
    method = with_values(BASE.method, step_teacher=teacher, **values)
    return dataclasses.replace(BASE, method=method, train=dataclasses.replace(BASE.train, batch_size=batch_size))


def outcome(config, splits, cache):
    """The loss of every step and the student's last weights."""
    needs = make_method(config.method).needs
    for run, wanted in teacher_runs(config, splits.fingerprint, CPU, needs, len(splits.train)).items():
        for _ in prepare(run, splits, cache, CPU, wanted):
            pass
    trainer = make_trainer(config, splits, cache, CPU)
    steps = []
    for epoch in range(config.epochs):
        trainer.step.begin_epoch(epoch, config.epochs)
        steps += [trainer.step(lesson)["loss"].item() for lesson in trainer.teachers.lessons(epoch)]
    return steps, [value.clone() for value in trainer.student.state_dict().values()], trainer.teachers.notes()


@pytest.mark.parametrize(
    ("teacher", "batch_size", "values"),
    [
        ("average", 24, {"beta": 0.0}),
        ("average", 17, {"step_loss": "mse", "alpha": 0.01}),
        ("expert", 24, {}),
        ("to-expert", 17, {"beta": 0.0}),
        ("to-expert", 40, {"expert_kd": 0.3, "standardised": True}),
    ],
)
def test_recorded_equals_live_step_by_step(teacher, batch_size, values, splits, tmp_path):
    config = config_of(teacher, batch_size, **values)
    recorded, living = (outcome(one, splits, TeacherCache(tmp_path, "a test")) for one in (config, live(config)))
    assert_same(recorded, living)


def test_a_live_trial_goes_on_with_its_average(splits, tmp_path):
    config = live(config_of("average", beta=0.0))
    whole = prepared_trainer(config, splits, TeacherCache(tmp_path, "a test"))
    losses = [whole.run_epoch()["loss"] for _ in range(2)]
    first, second = (prepared_trainer(config, splits, TeacherCache(tmp_path, "a test")) for _ in range(2))
    assert first.run_epoch()["loss"] == losses[0]
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.run_epoch()["loss"] == losses[1]


WANTED = Wanted("float16", average=True)


@pytest.fixture(scope="module")
def run(splits):
    return scratch_run(dataclasses.replace(BASE, epochs=3), splits.fingerprint, CPU, len(splits.train))


def records(cache, run):
    return {path.name: path.read_bytes() for path in (cache.directory / run.entry).glob("*.rec")}


def test_the_average_is_recorded_beside_the_same_logits_and_expert(splits, run, tmp_path):
    plain, averaged = TeacherCache(tmp_path / "a"), TeacherCache(tmp_path / "b")
    for cache, wanted in ((plain, Wanted("float16")), (averaged, WANTED)):
        for _ in prepare(run, splits, cache, CPU, wanted):
            pass
    own, both = records(plain, run), records(averaged, run)
    assert both.keys() - own.keys() == {f"average-float16-{epoch:04d}.rec" for epoch in range(3)}
    assert {name: both[name] for name in own} == own
    assert is_prepared(run, averaged, WANTED)
    assert is_prepared(run, averaged, Wanted("float16"))
    # One that was recorded without it is trained again.
    assert not is_prepared(run, plain, WANTED)
    for _ in prepare(run, splits, plain, CPU, WANTED):
        pass
    assert records(plain, run) == both


@pytest.mark.parametrize("first", [WANTED, Wanted("float16")], ids=["with it", "without it"])
def test_a_training_that_was_interrupted_comes_to_the_same_records(first, splits, run, tmp_path):
    undisturbed, stopped = TeacherCache(tmp_path / "a"), TeacherCache(tmp_path / "b")
    for _ in prepare(run, splits, undisturbed, CPU, WANTED):
        pass
    going = prepare(run, splits, stopped, CPU, first)
    assert [next(going).epoch, next(going).epoch] == [1, 2]
    going.close()
    epochs = [progress.epoch for progress in prepare(run, splits, stopped, CPU, WANTED)]
    # Without the average of the first two epochs it begins anew.
    assert epochs == ([3, 3] if first == WANTED else [1, 2, 3, 3])
    assert records(stopped, run) == records(undisturbed, run)


def test_a_state_without_an_average_is_not_gone_on_with(splits, run, tmp_path):
    cache, other = TeacherCache(tmp_path / "a"), TeacherCache(tmp_path / "b")
    for _ in prepare(run, splits, other, CPU, WANTED):
        pass
    going = prepare(run, splits, cache, CPU, Wanted("float16"))
    next(going)
    going.close()
    kept = other.directory / run.entry / "average-float16-0000.rec"
    (cache.directory / run.entry / kept.name).write_bytes(kept.read_bytes())
    assert [progress.epoch for progress in prepare(run, splits, cache, CPU, WANTED)] == [1, 2, 3, 3]
    assert records(cache, run) == records(other, run)


def test_a_record_of_the_average_that_is_removed_is_recorded_again(splits, tmp_path):
    config, cache = config_of("average", beta=0.0), TeacherCache(tmp_path, "a test")
    before = outcome(config, splits, cache)
    removed = sorted(tmp_path.glob("teacher-*/average-*.rec"))
    assert len(removed) == config.epochs
    trainer = make_trainer(config, splits, cache, CPU)
    removed[1].unlink()
    steps = []
    for epoch in range(config.epochs):
        trainer.step.begin_epoch(epoch, config.epochs)
        steps += [trainer.step(lesson)["loss"].item() for lesson in trainer.teachers.lessons(epoch)]
    assert steps == before[0]
    assert any("recorded again" in note for note in trainer.teachers.notes())
    assert removed[1].exists()
