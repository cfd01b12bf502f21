"""A whole search and the final training on a few thousand real CIFAR-10 images, through the command line.

    python benchmarks/cifar_search.py IMAGES [--per-class 300] [--epochs 9] [--trials 12]

IMAGES is a directory laid out as IMAGES/train/<class>/* and IMAGES/test/<class>/*. The first images of each class
are linked into a directory of their own, which the search then reads as a `folder` data set.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import yaml
from common import command, header

PAIR = "wrn-40-1/wrn-16-1"


def link_subset(images: Path, target: Path, per_class: int, test_per_class: int) -> None:
    """Links the first images of each class."""
    for split, count in (("train", per_class), ("test", test_per_class)):
        for directory in sorted((images / split).iterdir()):
            into = target / split / directory.name
            into.mkdir(parents=True)
            for path in sorted(directory.iterdir())[:count]:
                os.symlink(path.resolve(), into / path.name)


def space(root: Path, trials: int, epochs: int) -> dict[str, object]:
    """The space that is searched."""
    return {
        "name": "cifar10-subset",
        "dataset": {"name": "folder", "root": str(root), "image_size": 32, "validation": 0.15},
        "budget": {"trials": trials, "epochs": epochs, "grace_period": max(1, epochs // 9), "reduction_factor": 3},
        "search": {
            "pair": PAIR,
            "step_loss": {"choice": ["kl", "mse"]},
            "temperature": {"float": [1, 20], "log": True, "when": {"step_loss": "kl"}},
            "alpha": {"float": [0.01, 5], "log": True},
            "beta": {"float": [10, 5000], "log": True},
            "attention_layers": {"subsets": [1, 2, 3]},
            "lr": {"float": [0.02, 0.3], "log": True},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--per-class", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--trials", type=int, default=12)
    options = parser.parse_args()
    header(f"search of {PAIR} on {10 * options.per_class} CIFAR-10 images")
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        link_subset(options.images, work / "images", options.per_class, 100)
        (work / "space.yaml").write_text(yaml.safe_dump(space(work / "images", options.trials, options.epochs)))
        searched = command("run", "space.yaml", cwd=work)
        command("export", "cifar10-subset", "-o", "best.yaml", cwd=work)
        trained = command("train", "best.yaml", cwd=work)
        result = json.loads((work / "trials" / "cifar10-subset" / "final-1" / "result.json").read_text())
    print(f"search {searched:.0f} s, final training {trained:.0f} s")
    print(f"test accuracy {100 * result['test_accuracy']:.2f} % on {result['test_images']} images (n = 1)")


if __name__ == "__main__":
    main()
