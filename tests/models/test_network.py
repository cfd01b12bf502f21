"""The blocks and the frame against the papers' formulas, written with functions alone."""

import pytest
import torch
import torch.nn.functional as F

from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.network import PostActivationBlock, PreActivationBlock

# Inputs, outputs and stride: an identity shortcut, a wider one, and one that shrinks the map.
SHAPES = [(8, 8, 1), (6, 10, 1), (4, 8, 2), (8, 8, 2)]
MODES = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def randomised(module, training):
    """The module in double precision, with random weights, norms and running statistics."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator) * 0.5
                tensor.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return module.double().train(training)


def random_images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def norm(features, state, name, training):
    """Batch normalisation by its formula."""
    if training:
        mean, variance = features.mean(dim=(0, 2, 3)), features.var(dim=(0, 2, 3), unbiased=False)
    else:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    column = (1, -1, 1, 1)
    standard = (features - mean.view(column)) / (variance.view(column) + 1e-5).sqrt()
    return standard * state[f"{name}.weight"].view(column) + state[f"{name}.bias"].view(column)


def pre_activation(x, state, stride, training):
    """arXiv 1605.07146: BN, ReLU, 3x3, BN, ReLU, 3x3, plus the input or a projection of the activated input."""
    activated = F.relu(norm(x, state, "norm1", training))
    hidden = F.conv2d(activated, state["conv1.weight"], stride=stride, padding=1)
    hidden = F.relu(norm(hidden, state, "norm2", training))
    residual = F.conv2d(hidden, state["conv2.weight"], padding=1)
    projected = "shortcut.weight" in state
    return residual + (F.conv2d(activated, state["shortcut.weight"], stride=stride) if projected else x)


def post_activation(x, state, stride, training):
    """arXiv 1512.03385: 3x3, BN, ReLU, 3x3, BN, plus the input or its normalised projection, ReLU."""
    hidden = F.conv2d(x, state["conv1.weight"], stride=stride, padding=1)
    hidden = F.relu(norm(hidden, state, "norm1", training))
    residual = norm(F.conv2d(hidden, state["conv2.weight"], padding=1), state, "norm2", training)
    shortcut = x
    if "shortcut.0.weight" in state:
        shortcut = norm(F.conv2d(x, state["shortcut.0.weight"], stride=stride), state, "shortcut.1", training)
    return F.relu(residual + shortcut)


@MODES
@pytest.mark.parametrize(("inputs", "outputs", "stride"), SHAPES)
@pytest.mark.parametrize(
    ("kind", "formula"), [(PreActivationBlock, pre_activation), (PostActivationBlock, post_activation)]
)
def test_block_computes_its_paper_s_formula(kind, formula, inputs, outputs, stride, training):
    block = randomised(kind(inputs, outputs, stride), training)
    state = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    x = random_images(3, inputs, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(block(x), formula(x, state, stride, training))


@pytest.mark.parametrize("kind", [PreActivationBlock, PostActivationBlock])
def test_only_a_change_of_shape_needs_a_projection(kind):
    def projections(*shape):
        return [name for name in kind(*shape).state_dict() if name.startswith("shortcut")]

    assert projections(8, 8, 1) == []
    assert all(projections(*shape) for shape in SHAPES[1:])


@MODES
@pytest.mark.parametrize(
    ("name", "formula", "has_head"), [("wrn-10-2", pre_activation, True), ("resnet8", post_activation, False)]
)
def test_network_is_stem_three_stages_and_head(name, formula, has_head, training):
    network = randomised(build(name, Geometry(5, 3, 12), seed=0), training)
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    images = random_images(4, 3, 12, 12)
    stem = "stem.weight" if has_head else "stem.0.weight"
    x = F.conv2d(images, state[stem], padding=1)
    if not has_head:
        x = F.relu(norm(x, state, "stem.1", training))
    expected = []
    for stage, stride in enumerate((1, 2, 2)):
        prefix = f"stages.{stage}.0."
        block = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        x = formula(x, block, stride, training)
        expected.append(x)
    if has_head:
        x = F.relu(norm(x, state, "head.0", training))
    logits = F.linear(x.mean(dim=(2, 3)), state["classifier.weight"], state["classifier.bias"])
    with torch.no_grad():
        found_logits, found_maps = network(images)
    for found, wanted in zip([found_logits, *found_maps], [logits, *expected], strict=True):
        torch.testing.assert_close(found, wanted)
