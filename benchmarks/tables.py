"""Tables of real trainings: for each config of a space, its signals after every epoch.

`record_tables.py` records them into `benchmarks/tables/`, from which searches are simulated. Each trial of a space
holds out two sets of images: one that the search sees, and one for its regret, which it never sees.
"""

from __future__ import annotations

import functools
import gzip
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from PIL import Image

from ctkd_search.data import Images, Splits
from ctkd_search.files import atomic
from ctkd_search.space.definition import Space
from ctkd_search.space.reader import space_of

DIRECTORY = Path(__file__).with_name("tables")
# Horizons of the running averages of the weights, in epochs.
HORIZONS = (0.5, 1.0)
# What is kept after each epoch, in this order, on the images of the search.
SIGNALS = (
    *("accuracy", "loss", "averaged_0.5_accuracy", "averaged_0.5_loss", "averaged_1_accuracy", "averaged_1_loss"),
    "seconds",
)
# What is kept of the end, on the images that the search never sees.
ENDS = ("accuracy", "averaged_1_accuracy")
_RECIPE = """
  lr: {float: [0.01, 0.5], log: true}
  schedule: {choice: [milestones, cosine, linear]}
  warmup: {float: [0, 4]}
  label_smoothing: {float: [0, 0.1]}
"""


def _photographs(size: int, held: float, precision: str) -> str:
    """The sections of a space of photographs before its search.

    Args:
        size: Side of an image, in pixels.
        held: Share of the images that is held out.
        precision: In which networks compute.
    """
    return f"""
dataset: {{name: folder, root: ROOT, image_size: {size}, channels: 3, validation: {held}}}
budget: {{epochs: 18}}
teachers: {{recipe: {{schedule: cosine, nesterov: true, precision: {precision}}}, storage: float16}}
train: {{precision: {precision}}}
"""


@dataclass(frozen=True)
class Plan:
    """The space, and the numbers of configs, that a table is recorded of.

    Attributes:
        space: The space as YAML; ROOT stands for the directory of the photographs.
        configs: Number of configs, drawn at random.
        repeated: Number of them that are trained with a second seed too.
        per_class: Photographs of each class; 0 where the data set has images of its own.
    """

    space: str
    configs: int
    repeated: int
    per_class: int = 0

    def mapping(self, root: Path | None = None) -> dict[str, Any]:
        """The space as a mapping, in which simulated searches replace sections.

        Args:
            root: The directory of the photographs; none is needed to simulate.
        """
        found: dict[str, Any] = yaml.safe_load(self.space.replace("ROOT", str(root or Path(_no_photographs().name))))
        return found

    def read(self, root: Path | None = None) -> Space:
        """The space."""
        return space_of(self.mapping(root))


@functools.cache
def _no_photographs() -> tempfile.TemporaryDirectory[str]:
    """A directory of ten classes with two black images each: all that reading a space of photographs looks at."""
    directory = tempfile.TemporaryDirectory()
    for number in range(10):
        images = Path(directory.name, "train", f"class{number}")
        images.mkdir(parents=True)
        for image in ("first.png", "second.png"):
            Image.new("RGB", (32, 32)).save(images / image)
    return directory


PLANS = {
    "cifar": Plan(
        f"""name: cifar{_photographs(32, 0.4444, "bfloat16")}search:
  pair: resnet20/resnet8
  step_loss: {{choice: [kl, mse]}}
  temperature: {{float: [1, 20], log: true, when: {{step_loss: kl}}}}
  alpha: {{float: [0.01, 10], log: true}}
  beta: {{float: [10, 10000], log: true}}
  attention_layers: {{subsets: [1, 2, 3]}}{_RECIPE}""",
        configs=400,
        repeated=60,
        per_class=900,
    ),
    "logits": Plan(
        # A quarter of the multiply-adds of images of 32 px; and not every processor has bfloat16 of its own.
        f"""name: logits{_photographs(16, 0.5, "float32")}search:
  pair: resnet20/resnet8
  method: {{choice: [kd, dkd]}}
  kd: {{temperature: {{float: [1, 20], log: true}}, weight: {{float: [0.1, 1]}}}}
  dkd: {{beta: {{float: [0.5, 8], log: true}}, temperature: {{float: [1, 20], log: true}}}}{_RECIPE}""",
        configs=240,
        repeated=30,
        per_class=600,
    ),
    "digits": Plan(
        """name: digits-table
dataset: {name: digits, validation: 0.4}
augment: {crop: 1, flip: false}
budget: {epochs: 18}
teachers: {recipe: {batch_size: 64, lr: 0.05, schedule: milestones, precision: float32}}
train: {batch_size: 64, precision: float32}
search:
  pair: wrn-16-1/resnet8
  step_loss: {choice: [kl, mse]}
  temperature: {float: [1, 20], log: true, when: {step_loss: kl}}
  alpha: {float: [0.01, 5], log: true}
  beta: {float: [0.3, 60], log: true}
  attention_layers: {subsets: [1, 2, 3]}
  lr: {float: [0.01, 0.5], log: true}
  schedule: {choice: [milestones, cosine, linear]}
  warmup: {float: [0, 4]}
""",
        configs=400,
        repeated=60,
    ),
}


def points(space: Space, plan: Plan) -> list[tuple[dict[str, Any], int]]:
    """The configs, as Optuna stores their values, each with the number of its seed; the default settings first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(space.paper_point())
    drawn = []
    for _ in range(plan.configs):
        trial = study.ask()
        space.suggest(trial)
        drawn.append(dict(trial.params))
    # After every third config a second seed of an earlier one, so that a part of the table tells the noise too.
    order = []
    for number, point in enumerate(drawn, 1):
        order.append((point, 0))
        if number % 3 == 0 and number // 3 <= plan.repeated:
            order.append((drawn[number // 3 - 1], 1))
    return order


def halves(splits: Splits) -> tuple[Images, Images]:
    """The images that are held out, in two halves of equal classes: for the search, and for its regret."""
    images = splits.validation.held()
    order = np.argsort(images.labels, kind="stable")
    return images[np.sort(order[::2])], images[np.sort(order[1::2])]


def load(name: str, trainings: int | None = None) -> dict[str, Any]:
    """The recorded content of a table; empty if there is none yet.

    Args:
        name: Its name.
        trainings: Only so many of its first trainings, so that a table that is still being recorded does not change.
    """
    path = DIRECTORY / f"{name}.json.gz"
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return {**content, **{key: content[key][:trainings] for key in ("points", "rows", "ends")}}


def recorded(name: str) -> int:
    """The number of trainings of a table before the first one that is not recorded yet."""
    rows = load(name)["rows"]
    return next((number for number, row in enumerate(rows) if row is None), len(rows))


def save(name: str, content: Mapping[str, Any]) -> None:
    """Writes a table in one step."""
    DIRECTORY.mkdir(exist_ok=True)
    text = json.dumps(content, separators=(",", ":")).encode()
    with atomic(DIRECTORY / f"{name}.json.gz") as written:
        written.write_bytes(gzip.compress(text, 9, mtime=0))
