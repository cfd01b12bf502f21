"""The expert's predictions replayed by view, by image, and computed live: test accuracy of students on photographs.

    python benchmarks/replay.py IMAGES [--epochs 30] [--seeds 5] [--seconds 3600]

A student, wrn-16-1, learns by KD from a wrn-40-2. *By view*: what the expert says of the very view that the student
sees, recorded along the stream, as trials have it. *By image*: what it says of the image as it is, kept once; of mixed
images, the blend of both. *Live*: the expert computes in every step. With weak augmentation (crops and flips) and with
a strong one (RandAugment, random erasing, mixup or cutmix too). Every training that has ended is kept in
`benchmarks/replay.json`; begun again, the rest is trained. Prints the table of what there is.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from trainings import Training, arguments, by_key, config, run, table, title, with_interval

from ctkd_search.config import Augment, Erasing, RandAugment, TrialConfig
from ctkd_search.data import Splits
from ctkd_search.data.stream import Plan, Stream
from ctkd_search.distill.build import load_expert
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.lesson import Lesson, plain_lessons
from ctkd_search.distill.requests import LOGITS
from ctkd_search.distill.teachers import RecordedTeachers
from ctkd_search.distill.trainer import Trainer
from ctkd_search.recipe import Recipe

FILE = Path(__file__).with_name("replay.json")
RECIPE = Recipe(schedule="cosine", nesterov=True)
AUGMENTATIONS = {
    "weak": Augment(),
    "strong": Augment(randaugment=RandAugment(2, 9), erasing=Erasing(0.25), mixup=0.2, cutmix=1.0),
}


class ByImage(RecordedTeachers):
    """An expert whose logits were kept once for each image.

    Args:
        stream: The stream.
        batch_size: The student's batch size.
        logits: The expert's logits of each image, shape (images, classes).
    """

    def __init__(self, stream: Stream, batch_size: int, logits: Tensor) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.kept = logits

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """Yields the lessons of an epoch."""
        plan = self.stream.plan(epoch)
        spans = self.stream.spans(self.batch_size)
        for (start, stop), lesson in zip(spans, plain_lessons(self.stream, plan, self.batch_size), strict=True):
            yield dataclasses.replace(lesson, expert_outputs={LOGITS: self._logits(plan, start, stop)})

    def _logits(self, plan: Plan, start: int, stop: int) -> Tensor:
        own = self.kept[plan.order[start:stop]]
        if plan.mixing is None:
            return own
        part = plan.mixing.at(start, stop)
        share = part.shares.to(own.device)[:, None]
        return share * own + (1 - share) * self.kept[plan.order[part.partners.to(plan.order.device)]]

    def spent(self) -> dict[str, float]:
        """Returns nothing."""
        return {}

    def notes(self) -> list[str]:
        """Returns no notes."""
        return []


def by_image(trainer: Trainer, asked: TrialConfig, splits: Splits, cache: TeacherCache) -> None:
    """Has the expert's logits kept once for each image."""
    stream: Stream = trainer.teachers.stream  # type: ignore[attr-defined]
    expert = load_expert(asked, splits, cache, stream.device)
    found: list[Tensor] = []

    def keep(images: Tensor) -> Any:
        logits, features = expert.network(images)
        found.append(logits)
        return logits, features

    network = torch.nn.Module()
    network.forward = keep
    evaluate(network, splits.train, stream.normalise, stream.device)
    trainer.teachers = ByImage(stream, asked.train.batch_size, torch.cat(found).clone())


ARMS = {"by view": ("recorded", None), "by image": ("recorded", by_image), "live": ("live", None)}


def trainings(epochs: int, seeds: int) -> list[Training]:
    """The trainings, those of one seed after those of another."""
    return [
        Training(
            (name, arm, epochs, seed), config(RECIPE, "kd", epochs, seed, augment=augment, mode=mode), change=change
        )
        for seed in range(seeds)
        for name, augment in AUGMENTATIONS.items()
        for arm, (mode, change) in ARMS.items()
    ]


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    title("the expert's predictions by view, by image and live", options)
    run(options, {FILE: trainings(options.epochs, options.seeds)})
    table(FILE, "test_accuracy", ("augmentation", "predictions", "epochs"))
    found = by_key(json.loads(FILE.read_text()), "test_accuracy")
    for name in AUGMENTATIONS:
        view = found.get((name, "by view", options.epochs), {})
        for arm in ("by image", "live"):
            other = found.get((name, arm, options.epochs), {})
            if differences := [accuracy - other[seed] for seed, accuracy in view.items() if seed in other]:
                print(f"{name}: by view minus {arm}, of the same seeds: {with_interval(differences)} points")


if __name__ == "__main__":
    main()
