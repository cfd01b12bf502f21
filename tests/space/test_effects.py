"""What of a space has no effect with its pairs, images or epochs is refused with its line."""

import re

import numpy as np
import pytest
from PIL import Image

from ctkd_search.errors import UserError
from ctkd_search.final.baselines import choose_baselines
from ctkd_search.records.config_file import with_changes
from ctkd_search.space.reader import read_space

HEAD = """\
name: x
dataset: {{name: folder, root: {root}, image_size: 8, channels: 1, validation: 0.3}}
augment: {{crop: 1, flip: false}}
budget: {{trials: 4, epochs: {epochs}, grace_period: 1}}
{more}search:
{search}"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two classes of a few grey images."""
    directory = tmp_path_factory.mktemp("two")
    draws = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (directory / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = draws.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(directory / split / name / f"{number}.png")
    return directory


def read(root, tmp_path, search, epochs=4, more=""):
    path = tmp_path / "space.yaml"
    lines = "".join(f"  {line}\n" for line in search)
    path.write_text(HEAD.format(root=root, epochs=epochs, more=more, search=lines))
    return read_space(path)


LR = "lr: {float: [0.01, 0.3]}"
SUBSETS = "attention_layers: {subsets: [1, 2, 3]}"
LOSS = "attention_loss: {choice: [square, cosine]}"
STEP = "step_loss: {choice: [kl, mse]}"
WHEN = "when: {attention_layers: ['1,2', '1,3', '2,3', '1,2,3']}}"
SEVERAL = re.escape(WHEN[:-1])
VGG = "pair: vgg11/vgg8"
BOTH = "pair: {choice: [vgg11/vgg8, wrn-16-1/resnet8]}"


@pytest.mark.parametrize(
    ("search", "epochs", "said"),
    [
        # Two classes: nothing is to be told among the wrong one.
        (["method: dkd", "dkd: {beta: {float: [1, 10]}}"], 4, "line 8: search.dkd.beta has no effect with"),
        (["method: dkd", "dkd: {beta: 2}", LR], 4, "search.dkd.beta has no effect with .*of two classes only one is"),
        (["method: dkd", "dkd: {alpha: {float: [1, 10]}}"], 4, None),
        (["method: dkd", "dkd: {warmup_share: {float: [0.01, 0.2]}}"], 4, "search.dkd.warmup_share has no effect"),
        # Maps of one position.
        ([VGG, "attention_layers: [3]", LR], 4, "search.attention_layers has no effect .*; layers with more: 1, 2; "),
        ([VGG, "attention_layers: {subsets: [1, 2, 4]}"], 4, "map of layer 4 has one position"),
        ([VGG, "attention_layers: {subsets: [1, 2]}"], 4, None),
        ([BOTH, "attention_layers: {choice: [[1], [3]]}"], 4, r"add when: {pair: \[wrn-16-1/resnet8\]}"),
        ([BOTH, "attention_layers: {choice: [[1], [3]], when: {pair: wrn-16-1/resnet8}}"], 4, None),
        # Single layers among the subsets.
        (
            [SUBSETS, LOSS],
            4,
            "attention_loss has no effect with .* where attention_layers is 1: the compared maps have",
        ),
        ([SUBSETS, LOSS], 4, f"add {SEVERAL}, or leave it out"),
        ([SUBSETS, "first_weight: {float: [0.5, 2]}"], 4, f"first_weight has .*one layer is compared.*add {SEVERAL}"),
        ([SUBSETS, LOSS.replace("}", ", " + WHEN)], 4, None),
        ([SUBSETS, LOSS.replace("}", ", " + WHEN.replace("['1,2'", "['1', '1,2'"))], 4, f"replace .* by {SEVERAL}"),
        ([SUBSETS, STEP, LOSS.replace("}", ", when: {step_loss: kl}}")], 4, "by when: {step_loss: .kl., attention_lay"),
        ([SUBSETS, LOSS.replace("}", ", when: {attention_layers: ['1', '2']}}")], 4, "one size, .* same; leave it out"),
        ([SUBSETS, "attention_loss: cosine", "first_weight: 2"], 4, None),
        (["attention_layers: [2]", "attention_loss: cosine", LR], 4, "attention_loss has no effect .*; leave it out"),
        # A condition of the layers admits what the loss is searched with.
        (
            [SUBSETS.replace("}", ", when: {step_loss: mse}}"), STEP, LOSS.replace("}", ", when: {step_loss: kl}}")],
            4,
            None,
        ),
        ([BOTH, SUBSETS, LOSS], 4, "attention_layers has no effect with vgg11/vgg8: .*add when: {pair: "),
        # One epoch, and few.
        (["alpha_schedule: {choice: [constant, linear]}"], 1, "search.alpha_schedule has no effect .* one epoch"),
        (["method: iakd", "iakd: {schedule: review, cycles: {int: [2, 5]}}"], 5, "search.iakd.cycles has no effect"),
        (["method: iakd", "iakd: {schedule: review, cycles: {int: [2, 5]}}"], 6, None),
        # One architecture, and blocks that fit.
        (["pair: resnet8/resnet8", "method: dml", "dml: {peer: {choice: [teacher, student]}}"], 4, "dml.peer has no"),
        (
            ["pair: resnet14/resnet8", "method: iakd", "iakd: {bridge: {choice: [false, true]}}"],
            4,
            "iakd.bridge has",
        ),
        # More anchors than epochs.
        (["method: rco", "rco: {anchors: {int: [2, 5]}}"], 4, "search.rco.anchors rco: anchors must be at most the"),
        (["method: rco", "rco: {anchors: {int: [2, 4]}}"], 4, None),
        (["method: rco", LR], 3, "search.method rco: anchors must be at most the epochs 3, .* but got 4"),
    ],
)
def test_what_has_no_effect_is_refused_with_its_line(search, epochs, said, root, tmp_path):
    if not any(line.startswith("pair") for line in search):
        search = ["pair: wrn-16-1/resnet8", *search]
    if said is None:
        read(root, tmp_path, search, epochs)
        return
    with pytest.raises(UserError, match=said):
        read(root, tmp_path, search, epochs)


@pytest.mark.parametrize(
    ("baselines", "epochs", "said"),
    [
        ("[at, dkd, ctkd-paper]", 4, None),
        ("[kd, rco]", 3, "baselines.1 rco cannot be used with so few epochs: anchors must be at most the epochs 3"),
    ],
)
def test_a_baseline_that_cannot_be_is_refused(baselines, epochs, said, root, tmp_path):
    search, more = ["pair: wrn-16-1/resnet8", LR], f"baselines: {baselines}\n"
    if said is None:
        read(root, tmp_path, search, epochs, more)
        return
    with pytest.raises(UserError, match=said):
        read(root, tmp_path, search, epochs, more)


def test_a_final_training_has_as_many_epochs_as_anchors(root, tmp_path):
    chosen = read(root, tmp_path, ["pair: wrn-16-1/resnet8", "method: rco", LR])
    (config,) = chosen.pair_configs()
    with pytest.raises(UserError, match="--epochs 3 is too few for method rco: anchors must be at most"):
        with_changes(config, 3, None)
    (other,) = read(root, tmp_path, ["pair: wrn-16-1/resnet8", LR], epochs=3).pair_configs()
    with pytest.raises(UserError, match="--baselines: rco cannot be used with so few epochs"):
        choose_baselines(["rco"], other, 2)
