"""Route constrained optimization: which anchor teaches when, and that it is the teacher as it was then."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from support.methods import with_values
from support.oracles import draw, numpy_kl, softmax
from support.tiny import CPU, TINY, assert_same_bits, copied, prepared_trainer

from ctkd_search.config import MethodConfig
from ctkd_search.distill.build import anchor_epoch, anchor_of, make_trainer
from ctkd_search.distill.lesson import Lesson, StudentOutput, plain_lessons
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import make_stream, scratch_run, start_teacher
from ctkd_search.distill.requests import LOGITS
from ctkd_search.errors import UserError

pytestmark = pytest.mark.usefixtures("single_thread")

CONFIG = dataclasses.replace(
    TINY,
    epochs=6,
    method=MethodConfig("rco", {"temperature": 3.0, "weight": 0.7, "anchors": 3}),
    teachers=dataclasses.replace(TINY.teachers, mode="recorded", storage="float32"),
)


def test_the_loss_is_kd_s_with_what_the_lesson_s_expert_says():
    student, expert, labels = draw(5, 4), draw(5, 4, seed=1), np.array([0, 3, 1, 1, 2])
    lesson = Lesson(torch.zeros(5, 1, 8, 8), torch.tensor(labels), None, {LOGITS: torch.tensor(expert)})
    terms = make_method(CONFIG.method).terms(StudentOutput(torch.tensor(student), []), lesson)
    assert {key: term.item() for key, term in terms.items()} == pytest.approx(
        {
            "loss_ce": 0.3 * -np.log(softmax(student)[np.arange(5), labels]).mean(),
            "loss_kd": 0.7 * numpy_kl(student, expert, 3.0),
        },
        rel=1e-9,
    )


@pytest.mark.parametrize(
    ("anchors", "epochs"), [(2, [30, 60]), (4, [15, 30, 45, 60]), (7, [9, 17, 26, 34, 43, 51, 60])]
)
def test_anchors_stand_at_equal_distances_to_the_end(anchors, epochs):
    needs = make_method(MethodConfig("rco", {"anchors": anchors})).needs
    assert [anchor_epoch(share, 60) for share in needs.anchors] == epochs
    assert needs.expert == (LOGITS,)
    assert make_method(MethodConfig("rco", {"weight": 0.0})).needs.anchors == ()


@pytest.mark.parametrize(
    ("anchors", "epochs", "heard"),
    [
        (2, 2, [1, 2]),
        (2, 3, [2, 2, 3]),
        (3, 3, [1, 2, 3]),
        (3, 4, [1, 1, 3, 4]),
        (4, 6, [2, 2, 3, 4, 4, 6]),
        (4, 9, [2, 2, 2, 4, 4, 7, 7, 9, 9]),
    ],
)
def test_each_epoch_hears_one_anchor_and_the_last_hears_the_end(anchors, epochs, heard):
    method = make_method(MethodConfig("rco", {"anchors": anchors}))
    assert method.epochs_fault(epochs) is None
    found = [anchor_of(epoch, epochs, method.needs.anchors, epochs) for epoch in range(epochs)]
    assert found == heard


def test_whatever_the_numbers_no_anchor_is_left_out_and_none_comes_twice():
    for epochs in range(2, 40):
        for anchors in range(2, epochs + 1):
            shares = make_method(MethodConfig("rco", {"anchors": anchors})).needs.anchors
            found = [anchor_of(epoch, epochs, shares, epochs) for epoch in range(epochs)]
            assert found == sorted(found)
            assert (len(set(found)), found[-1]) == (anchors, epochs)


@pytest.mark.parametrize(("anchors", "epochs"), [(4, 3), (3, 2), (10, 9)])
def test_more_anchors_than_epochs_are_refused(anchors, epochs, splits, cache):
    method = MethodConfig("rco", {"anchors": anchors, "temperature": 3.0, "weight": 0.7})
    said = f"anchors must be at most the epochs {epochs}, .* but got {anchors}"
    assert re.match(said, make_method(method).epochs_fault(epochs))
    assert make_method(with_values(method, weight=0.0)).epochs_fault(epochs) is None
    with pytest.raises(
        UserError, match=f"each teaches for one epoch at least, but got {anchors} anchors and epochs {epochs}"
    ):
        make_trainer(dataclasses.replace(CONFIG, epochs=epochs, method=method), splits, cache, CPU)


def teacher_after(epochs, splits):
    """The teacher as it is after so many epochs of its training, trained here once more."""
    run = scratch_run(CONFIG, splits.fingerprint, CPU, len(splits.train))
    stream = make_stream(splits, CONFIG.augment, CONFIG.seed, CPU)
    teacher = start_teacher(run, splits, CPU)
    for epoch in range(epochs):
        for _ in teacher.train(plain_lessons(stream, stream.plan(epoch), run.recipe.batch_size), epoch, 1):
            pass
    return teacher.network.eval()


@pytest.mark.parametrize("mode", ["recorded", "live"])
def test_each_stretch_of_epochs_hears_its_own_anchor(mode, splits, cache):
    config = dataclasses.replace(CONFIG, teachers=dataclasses.replace(CONFIG.teachers, mode=mode))
    trainer = prepared_trainer(config, splits, cache)
    anchors = {after: teacher_after(after, splits) for after in (2, 4, 6)}
    for epoch, after in enumerate([2, 2, 4, 4, 6, 6]):
        for lesson in trainer.teachers.lessons(epoch):
            with torch.no_grad():
                expected = anchors[after](lesson.images)[0]
            torch.testing.assert_close(lesson.expert_outputs[LOGITS], expected, rtol=1e-4, atol=1e-5)


def test_replayed_anchors_teach_what_live_ones_do(splits, cache):
    ends = []
    for mode in ("recorded", "live", "recorded"):
        config = dataclasses.replace(CONFIG, teachers=dataclasses.replace(CONFIG.teachers, mode=mode))
        trainer = prepared_trainer(config, splits, cache)
        ends.append(([trainer.run_epoch()["loss"] for _ in range(6)], copied(trainer.student)))
    assert_same_bits(ends[1], ends[0])
    assert_same_bits(ends[2], ends[0])


def test_a_trial_that_goes_on_hears_the_anchor_of_its_epoch(splits, cache):
    whole, first, second = (prepared_trainer(CONFIG, splits, cache) for _ in range(3))
    expected = [whole.run_epoch()["loss"] for _ in range(6)]
    found = [first.run_epoch()["loss"] for _ in range(3)]
    second.load_state_dict(first.state_dict())
    assert found + [second.run_epoch()["loss"] for _ in range(3)] == expected


def test_anchors_are_not_the_expert_at_its_end(splits, cache):
    kd = dataclasses.replace(CONFIG, method=MethodConfig("kd", {"temperature": 3.0, "weight": 0.7}))
    losses = [prepared_trainer(config, splits, cache).run_epoch()["loss"] for config in (CONFIG, kd)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
