"""IAKD: the hybrid against a forward pass written out, schedules against closed forms, what a swap leaves alone."""

import dataclasses
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.methods import with_values
from support.tiny import CPU, TINY, assert_same_bits, changed, copied, prepared_trainer

from ctkd_search.config import MethodConfig
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.engine import place
from ctkd_search.distill.hybrid import Hybrid, segments
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import Needs
from ctkd_search.distill.step import StudentStep
from ctkd_search.distill.training_network import Context
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe
from ctkd_search.recipe import Recipe

pytestmark = pytest.mark.usefixtures("single_thread")

GEOMETRY = Geometry(10, 1, 8)
IAKD = MethodConfig("iakd", {"schedule": "constant", "start_probability": 0.5, "stages": (1, 2, 3), "bridge": False})
RECIPE = Recipe(batch_size=12, lr=0.05, precision="float32")
# By hand: which of the teacher's blocks stand in for each block of the student.
CUTS = {
    ("resnet20", "resnet8"): [[0, 1, 2]],
    ("resnet20", "resnet14"): [[0], [1, 2]],
    ("resnet44", "resnet20"): [[0, 1], [2, 3], [4, 5, 6]],
    ("wrn-16-1", "wrn-10-1"): [[0, 1]],
}


def networks(teacher, student):
    # The expert as it was built: it is the hybrid that must freeze its blocks.
    return build(teacher, GEOMETRY, seed=1), place(build(student, GEOMETRY, seed=0), CPU)


def taught(teacher="resnet20", student="resnet8", seed=0, **values):
    """A method, its training network, and the expert whose blocks it swaps."""
    method = make_method(with_values(IAKD, **values))
    assert method.fault(describe(teacher), describe(student)) is None
    expert, network = networks(teacher, student)
    context = Context(describe(teacher), describe(student), GEOMETRY, seed, lambda: expert)
    return method, place(method.training_network(network, context), CPU), expert


def lesson(number=0, count=12):
    generator = torch.Generator().manual_seed(number)
    return Lesson(torch.randn(count, 1, 8, 8, generator=generator), torch.arange(count) % 10)


def pattern(hybrid, count, probability):
    """Which blocks the next step swaps, drawn from a generator in the same state."""
    generator = torch.Generator()
    generator.set_state(hybrid.draws.get_extra_state())
    return [chance < probability for chance in torch.rand(count, generator=generator, dtype=torch.float64).tolist()]


def written_out(student, expert, cuts, swapped, images):
    """The hybrid's logits and maps."""
    features, maps, swapped = student.stem(images), [], iter(swapped)
    for ours, theirs in zip(student.stages, expert.stages, strict=True):
        for block, numbers in zip(ours, cuts, strict=True):
            if next(swapped):
                for number in numbers:
                    features = theirs[number](features)
            else:
                features = block(features)
        maps.append(features)
    return student.classifier(student.head(features).mean(dim=(2, 3))), maps


@pytest.mark.parametrize("pair", CUTS, ids="/".join)
def test_loss_maps_and_gradients_are_those_of_the_hybrid_written_out(pair):
    method, hybrid, expert = taught(*pair)
    swaps = []
    for number in range(6):
        other = networks(*pair)[1]
        other.load_state_dict(hybrid.student.state_dict())
        swapped = pattern(hybrid, 3 * len(CUTS[pair]), 0.5)
        logits, maps = written_out(other, expert, CUTS[pair], swapped, lesson(number).images)
        expected = F.cross_entropy(logits, lesson().labels)
        output = StudentOutput(*hybrid(lesson(number).images))
        terms = method.terms(output, lesson(number))
        assert terms.keys() == {"loss_ce"}
        assert terms["loss_ce"].item() == expected.item()
        assert all(torch.equal(one, two) for one, two in zip(output.maps, maps, strict=True))
        expected.backward()
        hybrid.zero_grad()
        terms["loss_ce"].backward()
        for (key, one), two in zip(hybrid.student.named_parameters(), other.parameters(), strict=True):
            assert (one.grad is None) == (two.grad is None), key
            assert one.grad is None or torch.equal(one.grad, two.grad), key
        # The statistics of blocks that were swapped out stay, those of the others move.
        assert_same_bits(copied(hybrid.student), copied(other))
        swaps += swapped
    assert {True, False} == set(swaps)


@pytest.mark.parametrize(("blocks", "parts"), [(1, 1), (7, 3), (5, 4), (18, 3), (9, 9), (23, 4)])
def test_segments_are_consecutive_and_as_even_as_can_be(blocks, parts):
    cut = [list(range(blocks))[part] for part in segments(blocks, parts)]
    assert [block for part in cut for block in part] == list(range(blocks))
    assert {len(part) for part in cut} <= {blocks // parts, -(-blocks // parts)}
    assert len(cut) == parts


@pytest.mark.parametrize(
    ("values", "epochs", "expected"),
    [
        ({"schedule": "constant", "start_probability": 0.3}, 4, [0.3, 0.3, 0.3, 0.3]),
        ({"schedule": "linear", "start_probability": 0.0, "end_probability": 0.8}, 5, [0.0, 0.2, 0.4, 0.6, 0.8]),
        ({"schedule": "linear", "start_probability": 0.9, "end_probability": 0.0}, 4, [0.9, 0.6, 0.3, 0.0]),
        ({"schedule": "linear", "start_probability": 0.4, "end_probability": 0.8}, 1, [0.4]),
        (
            {"schedule": "review", "start_probability": 0.2, "end_probability": 0.6, "cycles": 2},
            6,
            [0.2, 0.4, 0.6, 0.2, 0.4, 0.6],
        ),
        (
            {"schedule": "review", "start_probability": 1.0, "end_probability": 0.0, "cycles": 3},
            8,
            [1.0, 0.5, 0.0, 1.0, 0.5, 0.0, 1.0, 0.0],
        ),
        ({"schedule": "review", "start_probability": 0.2, "end_probability": 0.6, "cycles": 9}, 3, [0.2, 0.2, 0.2]),
    ],
    ids=["constant", "growing", "falling", "one-epoch", "review", "review-falling", "more-cycles-than-epochs"],
)
def test_probability_goes_on_over_the_epochs_as_its_schedule_says(values, epochs, expected):
    method = make_method(with_values(IAKD, **values))
    assert method.probability_now == values["start_probability"]
    found = []
    for epoch in range(epochs):
        method.begin_epoch(epoch, epochs)
        found.append(method.probability_now)
    assert found == pytest.approx(expected, abs=1e-12)


def swaps_of(hybrid, steps):
    """Which blocks each step swaps, as seen from outside: those of the student's that are not called."""
    called = []
    blocks = [block for stage in hybrid.student.stages for block in stage]
    for number, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, number=number: called[-1].add(number))
    with torch.no_grad():
        for _ in range(steps):
            called.append(set())
            hybrid(torch.zeros(2, 1, 8, 8))
    return np.array([[number not in seen for number in range(len(blocks))] for seen in called])


@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_each_block_is_swapped_as_often_as_its_probability_says_and_on_its_own(probability):
    _, hybrid, _ = taught("resnet14", "resnet14", start_probability=probability)
    swapped = swaps_of(hybrid, 400)
    assert swapped.shape == (400, 6)
    error = (probability * (1 - probability) / 400) ** 0.5
    assert swapped.mean(axis=0) == pytest.approx(probability, abs=4 * error)
    together = np.corrcoef(swapped.T)[~np.eye(6, dtype=bool)]
    assert np.abs(together).max() < 4 / 400**0.5


def test_swaps_depend_on_the_seed_alone():
    first, again, other = (swaps_of(taught(seed=seed)[1], 30) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("stages", [(2,), (3, 1), (1, 2, 3)], ids=str)
def test_where_every_block_is_swapped_the_student_s_get_no_gradient_and_stay_as_they_are(stages):
    method, hybrid, _ = taught(start_probability=1.0, stages=stages)
    step = StudentStep(hybrid, method, RECIPE, CPU)
    before = copied(hybrid.student)
    for number in range(3):
        step(lesson(number))
    after = copied(hybrid.student)
    for key, parameter in hybrid.student.named_parameters():
        inside = any(key.startswith(f"stages.{stage - 1}.") for stage in stages)
        # What stands before the frozen blocks learns through them.
        assert (parameter.grad is None) == inside, key
        assert inside or parameter.grad.abs().max() > 0, key
    for key, value in after.items():
        inside = any(key.startswith(f"stages.{stage - 1}.") for stage in stages)
        assert torch.equal(value, before[key]) == inside, key


def test_a_block_that_comes_back_goes_on_with_its_momentum_and_was_not_decayed_meanwhile():
    method, hybrid, _ = taught(start_probability=0.0, schedule="linear", end_probability=1.0)
    step = StudentStep(hybrid, method, RECIPE, CPU)
    weight = hybrid.student.stages[1][0].conv1.weight
    method.begin_epoch(0, 2)
    step(lesson(0))
    kept, momentum = weight.detach().clone(), step.optimizer.state[weight]["momentum_buffer"].clone()
    assert momentum.abs().max() > 0
    method.begin_epoch(1, 2)
    step(lesson(1))
    assert torch.equal(weight, kept)
    assert torch.equal(step.optimizer.state[weight]["momentum_buffer"], momentum)
    method.begin_epoch(0, 2)
    step(lesson(2))
    expected = 0.9 * momentum + weight.grad + RECIPE.weight_decay * kept
    torch.testing.assert_close(step.optimizer.state[weight]["momentum_buffer"], expected)


def trained(network, method, steps=5):
    step = StudentStep(network, method, RECIPE, CPU)
    losses = [step(lesson(number))["loss"].item() for number in range(steps)]
    kept = step.state_dict()
    return [losses, kept["student"], kept["optimizer"]]


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_probability_zero_is_the_student_alone_bit_for_bit(schedule):
    # In the linear schedule it is 0 in the first epoch alone, with the hybrid built.
    method, network, _ = taught(schedule=schedule, start_probability=0.0, end_probability=0.5)
    assert isinstance(network, Hybrid) == (schedule == "linear")
    assert method.needs == Needs(network=schedule == "linear")
    assert_same_bits(
        trained(network, method), trained(networks("resnet20", "resnet8")[1], make_method(MethodConfig("none")))
    )


def test_what_never_swaps_is_the_student_alone_and_what_never_changes_is_constant():
    assert make_method(with_values(IAKD, start_probability=0.0)).canonical() == MethodConfig("none")
    same = {"schedule": "review", "start_probability": 0.4, "end_probability": 0.4}
    assert (
        make_method(with_values(IAKD, **same)).canonical()
        == make_method(with_values(IAKD, start_probability=0.4)).canonical()
    )
    assert make_method(with_values(IAKD, **same | {"end_probability": 0.3})).canonical().values["schedule"] == "review"


def test_student_s_own_blocks_are_back_after_every_step_and_alone_in_evaluation():
    _, hybrid, expert = taught(start_probability=1.0)
    blocks = [list(stage) for stage in hybrid.student.stages]
    hybrid(lesson().images)
    assert [list(stage) for stage in hybrid.student.stages] == blocks
    with pytest.raises(RuntimeError):
        hybrid(torch.zeros(2, 5, 8, 8))
    assert [list(stage) for stage in hybrid.student.stages] == blocks
    hybrid.eval()
    assert torch.equal(hybrid(lesson().images)[0], hybrid.student(lesson().images)[0])
    assert not torch.equal(hybrid(lesson().images)[0], expert(lesson().images)[0])


def test_the_expert_stays_frozen_and_is_no_part_of_the_state():
    method, hybrid, expert = taught()
    before = copied(expert)
    trained(hybrid, method)
    assert_same_bits(copied(expert), before)
    assert not any(module.training for stage in expert.stages for block in stage for module in block.modules())
    assert not any(parameter.requires_grad for stage in expert.stages for parameter in stage.parameters())
    assert hybrid.state_dict().keys() == {
        "draws._extra_state",
        *(f"student.{key}" for key in hybrid.student.state_dict()),
    }


def test_bridges_join_blocks_of_other_widths_and_are_trained_but_not_deployed():
    assert "bridge: true" in make_method(IAKD).fault(describe("wrn-10-2"), describe("wrn-10-1"))
    method, hybrid, expert = taught("wrn-10-2", "wrn-10-1", start_probability=1.0, bridge=True)
    images = lesson().images
    features = hybrid.student.stem(images)
    shapes = []
    for stage, parts in zip(expert.stages, hybrid.segments, strict=True):
        enter, leave = parts[0].enter, parts[0].leave
        shapes += [getattr(bridge, "weight", torch.empty(0)).shape for bridge in (enter, leave)]
        if shapes[-2] != (0,):
            features = F.conv2d(features, enter.weight)
        features = F.conv2d(stage[0](features), leave.weight)
    # The stems are of the same width.
    assert [tuple(shape[:2]) for shape in shapes] == [(0,), (16, 32), (32, 16), (32, 64), (64, 32), (64, 128)]
    logits = hybrid.student.classifier(hybrid.student.head(features).mean(dim=(2, 3)))
    torch.testing.assert_close(hybrid(images)[0], logits)
    bridges = [value.clone() for key, value in hybrid.named_parameters() if not key.startswith("student.")]
    assert len(bridges) == 5
    trained(hybrid, method)
    after = [value for key, value in hybrid.named_parameters() if not key.startswith("student.")]
    assert not any(torch.equal(one, two) for one, two in zip(bridges, after, strict=True))
    assert hybrid.student.state_dict().keys() == build("wrn-10-1", GEOMETRY, seed=0).state_dict().keys()


def test_bridges_are_the_same_for_the_same_seed_and_leave_torch_s_random_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = (taught("wrn-10-2", "wrn-10-1", seed, bridge=True)[1].segments for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_bits(copied(one), copied(again))
    assert not torch.equal(one[0][0].leave.weight, other[0][0].leave.weight)


def test_widths_that_agree_get_no_bridge():
    _, hybrid, _ = taught(bridge=True)
    assert not list(hybrid.segments.parameters())


@pytest.mark.parametrize(
    ("pair", "values", "words"),
    [
        (("wrn-40-2", "wrn-16-1"), {}, ["stage 1", "32 channels of 16 in wrn-40-2", "16 channels of 16 in wrn-16-1"]),
        (("resnet8", "resnet20"), {}, ["stage 1 of resnet8", "at least as many", "resnet20, 3, but has 1"]),
        (
            ("mobilenetv2-0.5", "vgg8"),
            {"stages": (4,), "bridge": True},
            ["stage 4", "1/16 of the image's side from 1/8 in m", "1/8 of the image's side from 1/8 in v"],
        ),
        (("resnet20", "resnet8"), {"stages": (2, 4)}, ["resnet20 has no stage 4; it has 1,2,3"]),
        (("resnet18", "resnet8"), {"stages": (4,)}, ["resnet8 has no stage 4; it has 1,2,3"]),
        (("wrn-16-4", "resnet8x4"), {}, ["stage 1", "64 channels of 16 in wrn-16-4", "64 channels of 32 in resnet8x4"]),
    ],
    ids=["width", "blocks", "stride", "stage-of-teacher", "stage-of-student", "stem"],
)
def test_pairs_whose_blocks_do_not_fit_are_refused(pair, values, words):
    fault = make_method(with_values(IAKD, **values)).fault(*map(describe, pair))
    assert all(word in fault for word in words), fault
    assert "\n" not in fault
    assert make_method(with_values(IAKD, **values | {"start_probability": 0.0})).fault(*map(describe, pair)) is None


def test_networks_that_are_not_cut_into_blocks_are_refused():
    other = describe("torchvision/resnet18")
    for pair in ((other, describe("resnet8")), (describe("resnet20"), other)):
        assert make_method(IAKD).fault(*pair) == "torchvision/resnet18 does not consist of blocks that iakd could swap"


@pytest.mark.parametrize(
    ("pair", "values"),
    [
        (("wrn-16-4", "resnet8x4"), {"bridge": False}),
        (("mobilenetv2-0.5", "vgg8"), {"bridge": True}),
        (("resnet18", "resnet8"), {"bridge": True, "stages": (4,)}),
    ],
    ids=["widths", "sizes", "no-such-stage"],
)
def test_what_the_names_do_not_tell_is_refused_when_the_hybrid_is_built(pair, values):
    expert, student = networks(*pair)
    before = copied(student)
    with pytest.raises(UserError, match="stage"):
        Hybrid(
            student,
            expert,
            geometry=GEOMETRY,
            stages=values.get("stages", (1,)),
            bridge=values["bridge"],
            probability=lambda: 0.5,
            seed=0,
        )
    # It was looked at, and left as it was.
    assert student.training
    assert_same_bits(copied(student), before)


TRIAL = dataclasses.replace(
    TINY, teacher="resnet14", student="resnet8", method=with_values(IAKD, schedule="linear", end_probability=0.9)
)


def state(trainer):
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("mode", ["live", "recorded"])
def test_a_trial_that_goes_on_from_a_checkpoint_is_the_same_bit_for_bit(splits, tmp_path, mode):
    config = changed(TRIAL, "teachers.mode", mode)
    cache = TeacherCache(tmp_path, "a test")
    whole, first, second = (prepared_trainer(config, splits, cache) for _ in range(3))
    for _ in range(2):
        expected = whole.run_epoch()
    first.run_epoch()
    second.load_state_dict(state(first))
    found = second.run_epoch()
    assert found["loss"] == expected["loss"]
    assert found["loss_ce"] == found["loss"]
    assert_same_bits(state(second), state(whole))
    # It was drawn in both epochs.
    assert not torch.equal(state(first)["around"]["draws._extra_state"], state(second)["around"]["draws._extra_state"])


def test_recorded_trials_are_those_of_live_teachers(splits, tmp_path):
    ends = []
    for mode in ("live", "recorded"):
        trainer = prepared_trainer(changed(TRIAL, "teachers.mode", mode), splits, TeacherCache(tmp_path, "a test"))
        ends.append([[trainer.run_epoch()["loss"] for _ in range(2)], copied(trainer.student)])
    assert_same_bits(*ends)
