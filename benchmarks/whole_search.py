"""A whole search on real CIFAR-10 images, recorded against live: wall-clock, best accuracy, ranking.

    python benchmarks/whole_search.py IMAGES [--per-class 200] [--trials 12] [--epochs 4] [--pair wrn-40-2/wrn-16-1]

Both searches have the same configs and seeds, one trial at a time, and no early stopping; each begins with an empty
teacher cache, so that the preparation of teachers counts. Float32 throughout, with lessons stored in float32, so that
both must come to the same numbers.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import yaml
from cifar_search import command, link_subset, space
from common import header

from ctkd_search.records.store import SearchFolder, TrialRecord, ranked


def searched(work: Path, mode: str, options: argparse.Namespace) -> tuple[float, list[TrialRecord]]:
    """Runs one search; returns its seconds and its trials."""
    content = space(work / "images", options.trials, options.epochs)
    content["search"] = {**content["search"], "pair": options.pair}  # type: ignore[dict-item]
    content["budget"] = {"trials": options.trials, "epochs": options.epochs, "grace_period": options.epochs}
    content["train"] = {"batch_size": 128, "precision": "float32"}
    content["teachers"] = {"mode": mode, "recipe": {"batch_size": 128, "precision": "float32"}}
    if mode == "recorded":
        content["teachers"]["storage"] = "float32"  # type: ignore[index]
    directory = work / mode
    directory.mkdir()
    (directory / "space.yaml").write_text(yaml.safe_dump(content))
    seconds = command("run", "space.yaml", "--concurrent", "1", cwd=directory)
    return seconds, SearchFolder(directory / "trials", "cifar10-subset").trials()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pair", default="wrn-40-2/wrn-16-1")
    options = parser.parse_args()
    header(f"{options.trials} trials of {options.epochs} epochs of {options.pair} on {10 * options.per_class} images")
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        link_subset(options.images, work / "images", options.per_class, 20)
        results = {mode: searched(work, mode, options) for mode in ("recorded", "live")}
    for mode, (seconds, trials) in results.items():
        best = ranked(trials)[0]
        print(f"{mode:9} {seconds:7.0f} s, best {100 * best.accuracy:.2f} % (trial {best.number})")
    rankings = {mode: [trial.number for trial in ranked(trials)] for mode, (_, trials) in results.items()}
    configs = {mode: [trial.values for trial in trials] for mode, (_, trials) in results.items()}
    print(f"live over recorded: {results['live'][0] / results['recorded'][0]:.1f} (n = 1)")
    print(f"same configs: {configs['live'] == configs['recorded']}, ranking: {rankings['recorded']}")
    print(f"same ranking: {rankings['live'] == rankings['recorded']}")


if __name__ == "__main__":
    main()
