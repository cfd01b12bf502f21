"""After how many trials, epochs and minutes a search had passed its baselines, and each method's first and best trial.

    python benchmarks/search_worth.py cifar10-methods --trials-dir DIRECTORY/trials [--method ctkd]

A method's first trial is that of its default settings. They are passed where a finished trial is better. With --method,
trials of that method alone count, and their epochs. All values are of one seed on the validation images. Minutes are
those since the first epoch of a trial ended. Prints the table in Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas
from common import header

import ctkd_search

JUDGE = "validation_accuracy"


def targets(trials: pandas.DataFrame) -> dict[str, float]:
    """Returns the values that are to be passed, by what they are of: those of the lowest value first."""
    baselines = trials[(trials["kind"] == "baseline")]
    found = {str(row.baseline): float(row.validation_accuracy) for row in baselines.itertuples()}
    tried = trials[trials["kind"] == "trial"]
    for row in tried.drop_duplicates("method").itertuples():
        found[f"the first trial of {row.method}"] = float(row.validation_accuracy)
    finished = tried[tried["status"] == "finished"]
    for name, value in finished.groupby("method")[JUDGE].max().items():
        found[f"the best trial of {name}"] = float(value)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def course(search: ctkd_search.Search, method: str | None) -> pandas.DataFrame:
    """Returns the finished trials in the order in which they ended, with the best value and the epochs until then."""
    trials = search.trials
    counted = trials[(trials["kind"] == "trial") & ((trials["method"] == method) if method else True)]
    epochs = search.epochs[search.epochs["trial"].isin(counted["trial"])]
    ended = epochs.groupby("trial")["at"].max().rename("ended")
    found = counted[counted["status"] == "finished"].merge(ended, on="trial").sort_values("ended")
    found["best"] = found[JUDGE].cummax()
    found["epochs_until"] = [int((epochs["at"] <= at).sum()) for at in found["ended"]]
    found["begun"] = [int((epochs.groupby("trial")["at"].min() <= at).sum()) for at in found["ended"]]
    found["minutes"] = (found["ended"] - epochs["at"].min()).dt.total_seconds() / 60
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--trials-dir", type=Path, default=Path("trials"))
    parser.add_argument("--method", help="count the trials of this method alone")
    options = parser.parse_args()
    search = ctkd_search.load(options.name, trials_dir=options.trials_dir)
    header(f"search {options.name}: {options.method or 'every method'}, until the best trial so far passes")
    found = course(search, options.method)
    print("| passed | its accuracy | trials begun | epochs | minutes | best so far |")
    print("|---|---|---|---|---|---|")
    for name, value in targets(search.trials).items():
        passed = found[found["best"] > value].head(1)
        cells = ["-"] * 4
        if len(passed):
            row = passed.iloc[0]
            cells = [str(row["begun"]), str(row["epochs_until"]), f"{row['minutes']:.0f}", f"{100 * row['best']:.2f}"]
        print(f"| {name} | {100 * value:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
