"""The loss of recording only the largest logits of the teachers, on a made-up task of 200 classes.

    python benchmarks/top_logits.py [--epochs 10] [--seeds 5] [--images 7500] [--teachers DIRECTORY]

An image shows two of scikit-learn's digits side by side, dark on light or light on dark: 10 x 10 x 2 classes. A
wrn-16-1 teaches a resnet8. Prints the error of the divergence and of its gradient with the largest K logits beside all
of them in float32, at several temperatures, in the teacher's first epoch and in its last; then the accuracies of
students that are taught by either, whose seeds and views are the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import header
from torch import Tensor

from ctkd_search.analysis.intervals import estimate
from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.data import OwnData, Splits, load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.losses import softened_divergence
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare, scratch_run
from ctkd_search.distill.top_logits import KeptLogits, pack_logits, unpack_logits
from ctkd_search.recipe import Recipe
from ctkd_search.storage import Storage, TopLogits

CPU = torch.device("cpu")
# Number of test images.
TESTED = 2000
TOPS, TEMPERATURES = (2, 4, 8, 16, 32, 64), (1.0, 4.0, 10.0, 20.0)
METHODS = {
    "kd": MethodConfig("kd", {"temperature": 4.0, "weight": 0.9}),
    "scratch-only": MethodConfig("scratch-only", {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0}),
}


def digit_pairs(images: int) -> OwnData:
    """Pairs of digits, drawn at random with a seed."""
    from sklearn.datasets import load_digits

    digits = load_digits()

    def drawn(seed: int, images: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        chosen, inverted = random.integers(0, len(digits.images), (images, 2)), random.integers(0, 2, images)
        pixels = np.zeros((images, 16, 16, 1), np.uint8)
        pixels[:, 4:12, :8, 0] = 15 * digits.images[chosen[:, 0]]
        pixels[:, 4:12, 8:, 0] = 15 * digits.images[chosen[:, 1]]
        pixels = np.where(inverted[:, None, None, None], 255 - pixels, pixels)
        labels = 20 * digits.target[chosen[:, 0]] + 2 * digits.target[chosen[:, 1]] + inverted
        return pixels, labels

    names = [f"{left}{right}{tone}" for left in range(10) for right in range(10) for tone in ("dark", "light")]
    return OwnData(
        classes=names, image_size=16, channels=1, train=lambda: drawn(0, images), test=lambda: drawn(1, TESTED)
    )


def config(method: str, storage: Storage, epochs: int, images: int, seed: int) -> TrialConfig:
    """A training."""
    recipe = Recipe(schedule="linear", lr=0.2, warmup=1.0, nesterov=True)
    return TrialConfig(
        dataset=DatasetConfig("top_logits:digit_pairs", options={"images": images}, validation=1 / 3),
        epochs=epochs,
        teacher="wrn-16-1",
        student="resnet8",
        method=METHODS[method],
        augment=Augment(crop=2, flip=False),
        train=recipe,
        teachers=TeachersConfig(mode="recorded", recipe=recipe, storage=storage),
        student_seed=seed,
    )


def errors(teacher: Tensor, student: Tensor, temperature: float, top: int) -> tuple[float, float]:
    """Relative errors of the divergence and of its gradient with the largest logits."""
    kept = TopLogits(top)
    rows = torch.from_numpy(pack_logits(teacher, kept))

    def loss(given: Tensor | KeptLogits) -> tuple[float, Tensor]:
        own = student.clone().requires_grad_()
        value = softened_divergence(own, given, temperature)
        return value.item(), torch.autograd.grad(value, own)[0]

    (whole, gradient), (found, other) = loss(teacher), loss(unpack_logits(rows, kept))
    return abs(found - whole) / whole, ((other - gradient).norm() / gradient.norm()).item()


def print_errors(made: TrialConfig, splits: Splits, cache: TeacherCache) -> None:
    """Prints the errors for the recorded logits of the first and the last epoch."""
    run = scratch_run(made, splits.fingerprint, CPU, len(splits.train))
    # The student's logits of an epoch: those that a smaller network has at the same positions.
    other = dataclasses.replace(made, teacher="resnet8")
    small = scratch_run(other, splits.fingerprint, CPU, len(splits.train))
    _prepare(other, splits, cache)
    print(f"\n{'epoch':>5} {'T':>4}" + "".join(f"{f'top {top}':>16}" for top in TOPS) + "   (loss, gradient)")
    for epoch in (0, made.epochs - 1):
        taught, learned = (
            torch.from_numpy(np.array(cache.read_array(each.logits(epoch, "float32")))) for each in (run, small)
        )
        for temperature in TEMPERATURES:
            found = [errors(taught, learned, temperature, top) for top in TOPS]
            cells = "".join(f"{100 * loss:7.2f} {100 * gradient:6.2f} %" for loss, gradient in found)
            print(f"{epoch + 1:5} {temperature:4g}{cells}", flush=True)


def _prepare(made: TrialConfig, splits: Splits, cache: TeacherCache) -> None:
    needs = make_method(made.method).needs
    for run, wanted in teacher_runs(made, splits.fingerprint, CPU, needs, len(splits.train)).items():
        for _ in prepare(run, splits, cache, CPU, wanted):
            pass


def print_students(epochs: int, images: int, seeds: int, splits: Splits, cache: TeacherCache) -> None:
    """Prints the accuracies of students, and the differences by seed."""
    storages: list[Storage] = ["float16", TopLogits(16), TopLogits(4)]
    print(
        f"\n{'method':14} {'logits':10} {'accuracy %':>18} {'beside float16':>18}   (n = {seeds} seeds, 95 % intervals)"
    )
    for method in METHODS:
        reached: dict[str, list[float]] = {}
        for storage in storages:
            for seed in range(seeds):
                made = config(method, storage, epochs, images, seed)
                _prepare(made, splits, cache)
                trainer = make_trainer(made, splits, cache, CPU)
                accuracies = [trainer.run_epoch()["validation_accuracy"] for _ in range(epochs)]
                reached.setdefault(str(storage), []).append(100 * accuracies[-1])
            own, all_of_them = reached[str(storage)], reached["float16"]
            differences = [one - other for one, other in zip(own, all_of_them, strict=True)]
            beside = _interval(differences) if storage != "float16" else ""
            print(f"{method:14} {storage!s:10} {_interval(own):>18} {beside:>18}", flush=True)


def _interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{statistics.mean(values):.2f}"
    found = estimate(values)
    return f"{found.mean:.2f} ± {found.half_width:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=7500, help="images in all, a third of which is held out")
    parser.add_argument("--teachers", type=Path, help="keep the teachers here")
    parser.add_argument("--no-students", action="store_true", help="print the errors alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    header(f"the largest logits of 200 classes, {options.images} images, {options.epochs} epochs")
    with tempfile.TemporaryDirectory() as directory:
        cache = TeacherCache(options.teachers or Path(directory))
        made = config("scratch-only", "float32", options.epochs, options.images, 0)
        splits = load_train(made.dataset)
        _prepare(made, splits, cache)
        print_errors(made, splits, cache)
        if not options.no_students:
            print_students(options.epochs, options.images, options.seeds, splits, cache)


if __name__ == "__main__":
    main()
