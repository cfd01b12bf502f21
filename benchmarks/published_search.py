"""A search that the documentation shows, from its space in `benchmarks/published/`; with --seeds, its test too.

    python benchmarks/published_search.py IMAGES cifar10-methods
    python benchmarks/published_search.py IMAGES cifar10-methods --directory DIRECTORY --seeds 5 --without dist

IMAGES is a directory laid out as IMAGES/train/<class>/* and IMAGES/test/<class>/*, of which the first 1,000 of each
class are used. The final training is of the best config of CTKD, beside the best ones of the other methods and the
baselines of the space; --without leaves methods out of it. What is in DIRECTORY already is not done again: the search
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cifar_search import link_subset
from common import command, header

import ctkd_search

SPACES = Path(__file__).parent / "published"
PER_CLASS = 1000
# The earlier searches that a search began from.
WARM_STARTS = {"cifar10-wide": ["published/cifar10-deep"]}


def run(name: str, images: Path, work: Path, seeds: int, without: Sequence[str]) -> None:
    """Searches, shows the leaderboard, writes the best configs and all trials, and with seeds tests the best."""
    if not (work / "images").exists():
        link_subset(images, work / "images", PER_CLASS, PER_CLASS)
    begun = (work / "trials" / name / "search.json").is_file()
    start = ["--resume"] if begun else [f"--warm-start={earlier}" for earlier in WARM_STARTS.get(name, [])]
    seconds = command("run", str(SPACES / f"{name}.yaml"), *start, cwd=work)
    command("show", name, cwd=work)
    command("report", name, cwd=work)
    command("export", name, "--format", "configs", "-o", f"{name}.yaml", cwd=work)
    search = ctkd_search.load(name, trials_dir=work / "trials")
    search.trials.drop(columns="run_id").to_csv(work / f"{name}-trials.csv", index=False)
    print(f"search {seconds / 60:.0f} min")
    if seeds:
        print(f"final training {test(name, work, seeds, without) / 60:.0f} min")


def best_trials(search: ctkd_search.Search) -> dict[str, int]:
    """Returns the best trial of each method: of those that were confirmed, that with the highest mean."""
    tried = search.trials[search.trials["kind"] == "trial"]
    ordered = tried.sort_values(["confirmed_mean", "validation_accuracy"], ascending=False, na_position="last")
    return {str(row.method): int(row.trial) for row in ordered.drop_duplicates("method").itertuples()}


def test(name: str, work: Path, seeds: int, without: Sequence[str]) -> float:
    """Trains the best config of CTKD, beside those of the other methods, and tests them; returns the seconds."""
    search = ctkd_search.load(name, trials_dir=work / "trials")
    files = {}
    for method, trial in best_trials(search).items():
        if method in without:
            continue
        files[method] = f"tuned-{method}.yaml"
        command("export", name, "--trial", str(trial), "-o", files[method], cwd=work)
    first = files.pop("ctkd")
    baselines = ",".join([*search.trials["baseline"].dropna().unique(), *files.values()])
    return command("train", first, "--seeds", str(seeds), "--baselines", baselines, cwd=work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("name", choices=sorted(path.stem for path in SPACES.glob("*.yaml")))
    parser.add_argument("--directory", type=Path, help="where to work and keep all of it (default: a temporary one)")
    parser.add_argument("--seeds", type=int, default=0, help="of the final training; 0 leaves it out")
    parser.add_argument("--without", nargs="+", default=[], metavar="METHOD", help="left out of the final training")
    options = parser.parse_args()
    header(f"search {options.name}, {10 * PER_CLASS:,} images")
    with tempfile.TemporaryDirectory() as directory:
        work = options.directory or Path(directory)
        work.mkdir(parents=True, exist_ok=True)
        run(options.name, options.images, work.resolve(), options.seeds, options.without)


if __name__ == "__main__":
    main()
