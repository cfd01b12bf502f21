"""TESKD: branches and loss against the formulas in NumPy, what is detached and what is not, the published sizes."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from support.methods import with_values
from support.oracles import numpy_kl, softmax
from support.tiny import CPU, TINY, assert_same_bits, copied, tiny_splits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.branches import Branched, Branches
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.engine import place
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import Needs
from ctkd_search.distill.step import StudentStep
from ctkd_search.distill.training_network import Context
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe
from ctkd_search.models.architecture import Architecture, Tap
from ctkd_search.recipe import Recipe

pytestmark = pytest.mark.usefixtures("single_thread")

WEIGHTS = {"label_weight": 0.3, "branch_weight": 0.6, "distill_weight": 0.7, "feature_weight": 0.01}
TESKD = MethodConfig("teskd", {"temperature": 3.0, **WEIGHTS})
WITHOUT = {"branch_weight": 0.0, "distill_weight": 0.0, "feature_weight": 0.0}
RECIPE = Recipe(batch_size=12, lr=0.05, precision="float32")
RANDOM = np.random.default_rng(0)
LABELS = np.array([0, 3, 1, 1, 2])


def taught(name, geometry, seed=0, **values):
    """A method, and its training network."""
    method = make_method(with_values(TESKD, **values))
    student = place(build(name, geometry, seed=0), CPU)
    context = Context(describe("resnet8"), describe(name), geometry, seed, lambda: pytest.fail("no expert"))
    return method, place(method.training_network(student, context), CPU)


def numpy_state(network):
    return {key: value.detach().double().numpy() for key, value in network.state_dict().items()}


def activated(features, state, norm):
    """BN with the batch's own statistics, and ReLU."""
    mean, variance = features.mean(axis=(0, 2, 3), keepdims=True), features.var(axis=(0, 2, 3), keepdims=True)
    scale, shift = (state[f"{norm}.{key}"].reshape(1, -1, 1, 1) for key in ("weight", "bias"))
    return np.maximum((features - mean) / np.sqrt(variance + 1e-5) * scale + shift, 0)


def convolved(features, weight, bias=0.0):
    """A convolution whose stride is its kernel's size."""
    step = weight.shape[-1]
    rows, columns = (side // step for side in features.shape[-2:])
    cut = features[:, :, : rows * step, : columns * step]
    patches = cut.reshape(*features.shape[:2], rows, step, columns, step)
    return np.einsum("ncriqj,ocij->norq", patches, weight) + np.reshape(bias, (1, -1, 1, 1))


def pointwise(features, state, name):
    return activated(convolved(features, state[f"{name}.0.weight"]), state, f"{name}.1")


def stretched(features, size):
    """Bilinear interpolation in which corners stay corners."""

    def weights(old, new):
        places = np.arange(new) * ((old - 1) / (new - 1) if new > 1 else 0)
        return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)[None]))

    rows, columns = (weights(old, new) for old, new in zip(features.shape[-2:], size, strict=True))
    return np.einsum("rh,nchw,qw->ncrq", rows, features, columns)


def written_out(state, maps):
    """Logits and features of the branches, the deepest first."""
    top = pointwise(maps[-1], state, f"laterals.{len(maps) - 1}")
    logits, features = [], []
    for stage in range(len(maps) - 2, -1, -1):
        up = pointwise(stretched(top, maps[stage].shape[-2:]), state, f"ups.{stage}")
        both = np.concatenate([up + pointwise(maps[stage], state, f"laterals.{stage}"), up], axis=1)
        top = pointwise(both, state, f"fuses.{stage}")
        head = top
        for number in (0, 3):
            of_layer = [state[f"heads.{stage}.{number}.{key}"] for key in ("weight", "bias")]
            head = activated(convolved(head, *of_layer), state, f"heads.{stage}.{number + 1}")
        features.append(head.mean(axis=(2, 3)))
        logits.append(features[-1] @ state[f"classifiers.{stage}.weight"].T + state[f"classifiers.{stage}.bias"])
    return logits, features


@pytest.mark.parametrize(
    ("name", "side", "kernels", "values"),
    [
        ("wrn-10-1", 8, [4, 2], {}),
        ("resnet8", 13, [3, 1], {"branch_width": 0.25}),
        ("mobilenetv2-0.25", 16, [8, 4, 2], {}),
        ("vgg8", 8, [4, 2, 1], {"branch_width": 0.125}),
    ],
    ids=["three-stages", "odd-sizes", "four-stages", "two-stages-of-one-size"],
)
def test_branches_are_those_of_the_formulas(name, side, kernels, values):
    _, network = taught(name, Geometry(4, 1, side), **values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.randn(5, 1, side, side)
    # Wide maps in float64, so that what BN divides by a small deviation agrees.
    network.double()
    logits, maps, said = network(images.double())
    assert [head[0].kernel_size[0] for head in network.heads] == kernels
    widths = {lateral[0].out_channels for lateral in network.laterals}
    assert widths == {int(describe(name).taps[-1].channels * values.get("branch_width", 1))}
    expected = written_out(numpy_state(network), [features.detach().numpy() for features in maps])
    for found, wanted in zip((said.logits, said.features), expected, strict=True):
        assert len(found) == len(wanted) == len(maps) - 1
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one.detach().numpy(), other, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(network.student.classifier(said.backbone), logits)


def test_published_sizes_of_backbone_and_branches():
    backbone, geometry = describe("resnet18"), Geometry(100, 3, 32)
    with torch.device("meta"):
        student = build("resnet18", geometry, seed=0)
        context = Context(backbone, backbone, geometry, 0, lambda: student)
        network = make_method(MethodConfig("teskd")).training_network(student, context)
    counts = {"backbone": 0, "branches": 0}
    for key, parameter in network.named_parameters():
        counts["backbone" if key.startswith("student.") else "branches"] += parameter.numel()
    assert counts == {"backbone": 11_220_132, "branches": 25_830_700}


def test_a_network_that_was_made_elsewhere_has_branches_too():
    method, network = taught("torchvision/resnet18", Geometry(10, 3, 32), branch_width=0.125)
    images = torch.zeros(4, 3, 32, 32)
    logits, maps, said = network(images)
    assert [tuple(head.shape) for head in said.logits] == [(4, 10)] * 3
    assert torch.equal(said.backbone, maps[-1].mean(dim=(2, 3)))
    lesson = Lesson(images, torch.arange(4))
    sum(method.terms(StudentOutput(logits, maps, said), lesson).values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def drawn(*shape):
    return RANDOM.normal(size=shape)


LOGITS, BRANCH_LOGITS = drawn(5, 4), [drawn(5, 4) * 2 for _ in range(3)]
FEATURES, BRANCH_FEATURES = np.abs(drawn(5, 6)) * (drawn(5, 6) > 0), [drawn(5, 6) for _ in range(3)]


def terms(**values):
    """The terms, and the tensors that they are made of."""
    own, pooled = (torch.tensor(value, requires_grad=True) for value in (LOGITS, FEATURES))
    said, features = (
        [torch.tensor(value, requires_grad=True) for value in made] for made in (BRANCH_LOGITS, BRANCH_FEATURES)
    )
    output = StudentOutput(own, [], Branched(said, features, pooled))
    found = make_method(with_values(TESKD, **values)).terms(
        output, Lesson(torch.zeros(5, 1, 8, 8), torch.tensor(LABELS))
    )
    return found, own, pooled, said, features


def cross_entropy(logits):
    return -np.log(softmax(logits)[np.arange(5), LABELS]).mean()


def test_the_loss_is_the_published_one():
    found, *_ = terms()
    distances = [
        sum(
            (branch[i, j] - FEATURES[i, j]) ** 2
            for i in range(5)
            for j in range(6)
            if branch[i, j] > 0 or FEATURES[i, j] > 0
        )
        for branch in BRANCH_FEATURES
    ]
    expected = {
        "loss_ce": 0.3 * cross_entropy(LOGITS),
        "loss_branches": 0.6 * sum(map(cross_entropy, BRANCH_LOGITS)),
        # numpy_kl(a, b, T) is T² · KL(softmax(b / T) ‖ softmax(a / T)).
        "loss_distill": 0.7 * sum(numpy_kl(branch, LOGITS, 3.0) for branch in BRANCH_LOGITS),
        "loss_feature": 0.01 * sum(distances),
    }
    assert {name: term.item() for name, term in found.items()} == pytest.approx(expected, rel=1e-5)
    # Somewhere neither is positive, and that does not count.
    assert sum(distances) < sum(((branch - FEATURES) ** 2).sum() for branch in BRANCH_FEATURES) - 0.1


def test_defaults_are_the_published_weights():
    values = make_method(MethodConfig("teskd")).values
    assert values == {
        "label_weight": 0.2,
        "branch_weight": 0.2,
        "distill_weight": 0.8,
        "temperature": 4.0,
        "standardised": False,
        "feature_weight": 1e-7,
        "branch_width": 1.0,
    }


def test_the_network_is_taught_by_the_divergence_too():
    found, own, pooled, said, _ = terms()
    found["loss_distill"].backward()
    p = softmax(LOGITS / 3.0)
    expected = np.zeros_like(LOGITS)
    for branch in BRANCH_LOGITS:
        ratio = np.log(p / softmax(branch / 3.0))
        expected += 0.7 * 9.0 / 5 / 3.0 * p * (ratio - (p * ratio).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(own.grad.numpy(), expected, rtol=1e-5, atol=1e-7)
    for tensor, branch in zip(said, BRANCH_LOGITS, strict=True):
        np.testing.assert_allclose(
            tensor.grad.numpy(), 0.7 * 9.0 / 5 / 3.0 * (softmax(branch / 3.0) - p), rtol=1e-5, atol=1e-7
        )
    assert pooled.grad is None


def test_the_network_s_features_are_a_target_and_no_more():
    found, own, pooled, said, features = terms()
    found["loss_feature"].backward()
    assert own.grad is None
    assert pooled.grad is None
    assert [tensor.grad for tensor in said] == [None] * 3
    for tensor, branch in zip(features, BRANCH_FEATURES, strict=True):
        expected = 0.01 * 2 * (branch - FEATURES) * ((branch > 0) | (FEATURES > 0))
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("term", ["loss_branches", "loss_distill", "loss_feature"])
def test_every_term_of_the_branches_reaches_every_stage_of_the_backbone_through_the_laterals(term):
    method, network = taught("resnet8", Geometry(10, 1, 8))
    lesson = lesson_of(0)
    logits, maps, said = network(lesson.images)
    # As if the backbone's own logits taught nothing: what is left comes through its maps.
    found = method.terms(StudentOutput(logits.detach(), maps, said), lesson)
    found[term].backward()
    for stage in network.student.stages:
        assert all(parameter.grad.abs().max() > 0 for parameter in stage.parameters())
    assert network.student.classifier.weight.grad is None


def lesson_of(number, count=12):
    generator = torch.Generator().manual_seed(number)
    return Lesson(torch.randn(count, 1, 8, 8, generator=generator), torch.arange(count) % 10)


def trained(network, method, steps=4):
    step = StudentStep(network, method, RECIPE, CPU)
    losses = [step(lesson_of(number))["loss"].item() for number in range(steps)]
    kept = step.state_dict()
    return [losses, kept["student"], kept["optimizer"]]


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet8"])
def test_without_the_branches_weights_it_is_the_backbone_alone_bit_for_bit(name):
    method, network = taught(name, Geometry(10, 1, 8), **WITHOUT, label_weight=1.0)
    alone = place(build(name, Geometry(10, 1, 8), seed=0), CPU)
    assert network.state_dict().keys() == alone.state_dict().keys()
    assert method.canonical() == MethodConfig("none")
    assert_same_bits(trained(network, method), trained(alone, make_method(MethodConfig("none"))))


def test_branches_that_nothing_asks_of_the_backbone_leave_it_alone_bit_for_bit():
    # The branches are there, and see its maps; what they are asked reaches none of its weights.
    method, network = taught("wrn-10-1", Geometry(10, 1, 8), **WITHOUT | {"feature_weight": 1e-30}, label_weight=1.0)
    assert isinstance(network, Branches)
    alone = place(build("wrn-10-1", Geometry(10, 1, 8), seed=0), CPU)
    found, expected = trained(network, method), trained(alone, make_method(MethodConfig("none")))
    # Running statistics too: the last map is pooled once.
    assert_same_bits(found[1], expected[1])


def test_another_weight_of_the_labels_is_another_method_than_none():
    told = make_method(with_values(TESKD, **WITHOUT)).canonical()
    assert told == MethodConfig("teskd", {"label_weight": 0.3, **WITHOUT})
    assert make_method(told).canonical() == told


def test_it_needs_no_teacher_and_the_student_alone_is_kept_and_deployed(tmp_path):
    splits = tiny_splits()
    config = dataclasses.replace(TINY, method=TESKD)
    assert make_method(TESKD).needs == Needs()
    assert teacher_runs(config, splits.fingerprint, CPU, Needs(), len(splits.train)) == {}
    cache = TeacherCache(tmp_path, "a test")
    whole, first, second = (make_trainer(config, splits, cache, CPU) for _ in range(3))
    for _ in range(2):
        expected = whole.run_epoch()
    first.run_epoch()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.run_epoch()["loss"] == expected["loss"]
    assert_same_bits(copied(second.step.network), copied(whole.step.network))
    assert list(tmp_path.iterdir()) == []
    alone = build("resnet8", splits.geometry, seed=0)
    assert whole.state_dict()["student"].keys() == alone.state_dict().keys()
    assert sum(map(torch.Tensor.numel, whole.student.parameters())) == sum(map(torch.Tensor.numel, alone.parameters()))


def test_branches_are_the_same_for_the_same_seed_whatever_their_student():
    one, again, other = (taught("resnet8", Geometry(10, 1, 8), seed)[1].laterals for seed in (1, 1, 2))
    assert_same_bits(copied(one), copied(again))
    assert not torch.equal(one[0][0].weight, other[0][0].weight)


def test_a_network_with_one_map_is_refused():
    single = Architecture("someone's-net", (Tap(64, 8),))
    fault = make_method(TESKD).fault(describe("resnet8"), single)
    assert fault == "someone's-net has one feature map, and the branches of teskd need two or more"
    assert make_method(TESKD).fault(single, describe("resnet8")) is None
