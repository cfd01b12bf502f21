"""Every method in one search, on equal budgets, the best of each confirmed with fresh seeds: the grouped table.

    python benchmarks/methods.py                      the digits that come with scikit-learn
    python benchmarks/methods.py --images IMAGES      the first images of each class of IMAGES/train/<class>/
    python benchmarks/methods.py --methods ctkd,kd    these alone

The table is that of `ctkd-search show`: the best config of each method, mean validation accuracy over the seeds, 95 %
interval, and the paired difference to the winner. A search that DIRECTORY has already goes on where it stopped.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from cifar_search import link_subset
from common import command, header

PAIR = "resnet20/resnet8"
# What is searched of each method beside the learning rate: one or two numbers, so that budgets are comparable.
SEARCHED: dict[str, dict[str, Any]] = {
    "none": {"label_smoothing": {"float": [0.0, 0.2]}},
    "kd": {"temperature": {"float": [1, 20], "log": True}, "weight": {"float": [0.1, 0.9]}},
    "at": {"beta": {"float": [10, 3000], "log": True}},
    "fitnets": {"hint_weight": {"float": [0.1, 100], "log": True}},
    "dml": {"weight": {"float": [0.3, 3], "log": True}},
    "rco": {"temperature": {"float": [1, 20], "log": True}},
    "dkd": {"beta": {"float": [0.5, 8], "log": True}},
    "dist": {"gamma": {"float": [0.5, 8], "log": True}},
    "wttm": {"weight": {"float": [1, 20], "log": True}},
    "rld": {"beta": {"float": [0.5, 8], "log": True}},
    "sp": {"weight": {"float": [300, 10000], "log": True}},
    "pkt": {"weight": {"float": [3000, 100000], "log": True}},
    "rkd": {"angle_weight": {"float": [5, 200], "log": True}},
    "crd": {"weight": {"float": [0.1, 3], "log": True}},
    "reviewkd": {"weight": {"float": [0.5, 10], "log": True}},
    "fs": {"weight": {"float": [0.01, 1], "log": True}},
    "iakd": {"start_probability": {"float": [0.02, 0.3]}},
    "teskd": {"label_weight": {"float": [0.2, 1]}},
    "scratch-only": {"temperature": {"float": [1, 20], "log": True}, "alpha": {"float": [0.01, 2], "log": True}},
    "expert-only": {"beta": {"float": [1, 1000], "log": True}},
    "ctkd-as-released": {"alpha": {"float": [0.001, 1], "log": True}, "beta": {"float": [1, 1000], "log": True}},
}
CTKD = {
    "temperature": {"float": [1, 20], "log": True},
    "alpha": {"float": [0.01, 2], "log": True},
    "beta": {"float": [1, 1000], "log": True},
}


def space(
    names: Sequence[str], each: int, epochs: int, seeds: int, dataset: dict[str, Any], augment: dict[str, Any]
) -> dict[str, Any]:
    """The space of these methods that is searched."""
    return {
        "name": "methods",
        "dataset": dataset,
        "augment": augment,
        "budget": {"trials": each * len(names), "epochs": epochs, "grace_period": max(1, epochs // 3)},
        "confirm": {"best": 1, "seeds": seeds, "per_method": True},
        "teachers": {"recipe": {"batch_size": 64, "lr": 0.05, "schedule": "milestones"}},
        "train": {"batch_size": 64, "schedule": "milestones"},
        "search": {
            "pair": PAIR,
            "method": {"choice": list(names)},
            "lr": {"float": [0.02, 0.2], "log": True},
            **(CTKD if "ctkd" in names else {}),
            **{name: searched for name, searched in SEARCHED.items() if name in names},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--methods", default=",".join(["ctkd", *SEARCHED]), help="the methods, with commas between")
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--each", type=int, default=3, help="trials of each method")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where to work and keep all of it (default: a temporary one)")
    options = parser.parse_args()
    names = options.methods.split(",")
    header(f"{len(names)} methods, {PAIR}, {options.each} trials of {options.epochs} epochs each")
    with tempfile.TemporaryDirectory() as directory:
        work = (options.directory or Path(directory)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        dataset: dict[str, Any] = {"name": "digits", "validation": 0.2}
        augment: dict[str, Any] = {"crop": 1, "flip": False}
        if options.images:
            if not (work / "images").exists():
                link_subset(options.images, work / "images", options.per_class, 1)
            dataset = {"name": "folder", "root": str(work / "images"), "image_size": 32, "validation": 0.2}
            augment = {"crop": 4, "flip": True}
        content = space(names, options.each, options.epochs, options.seeds, dataset, augment)
        (work / "space.yaml").write_text(yaml.safe_dump(content))
        begun = (work / "trials" / "methods" / "search.json").is_file()
        searched = command("run", "space.yaml", *(["--resume"] if begun else []), cwd=work)
        command("show", "methods", cwd=work)
        command("report", "methods", cwd=work)
    print(f"search {searched:.0f} s")


if __name__ == "__main__":
    main()
