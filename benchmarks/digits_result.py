"""The result in README and the documentation: the shipped digits space searched, its winner trained to the end.

    python benchmarks/digits_result.py [--seeds 5] [--new-streams]

Prints a Markdown table of test accuracies: mean, 95 % interval, n, and the paired difference of the winner to each
baseline.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from common import command, header

SPACE = Path(__file__).resolve().parents[1] / "spaces" / "digits.yaml"


def row(name: str, line: dict[str, Any], gap: dict[str, Any] | None) -> str:
    """One line of the table, in percent and percentage points."""
    mean, half = (100 * line[key] for key in ("test_accuracy", "test_accuracy_half_width"))
    ahead = "" if gap is None else f"{100 * gap['mean']:+.2f} ± {100 * gap['half_width']:.2f}"
    return f"| {name} | {mean:.2f} ± {half:.2f} | {line['test_accuracy_n']} | {ahead} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--new-streams", action="store_true")
    options = parser.parse_args()
    more = ["--new-streams"] if options.new_streams else []
    header("the digits searched, and the winner's final training")
    with tempfile.TemporaryDirectory() as directory:
        cwd = Path(directory)
        searched = command("run", str(SPACE), cwd=cwd)
        command("export", "digits", "-o", "best.yaml", cwd=cwd)
        trained = command("train", "best.yaml", "--seeds", str(options.seeds), *more, cwd=cwd)
        result = json.loads((cwd / "trials" / "digits" / "final-1" / "result.json").read_text())
    print(f"\nsearch {searched:.0f} s, final training {trained:.0f} s, {result['test_images']} test images\n")
    print("| | test accuracy | n | winner minus baseline |\n|---|---|---|---|")
    print(row("the search's winner", result, None))
    for name, line in result["baselines"].items():
        print(row(name, line, line["config_minus_baseline"]["accuracy"]))


if __name__ == "__main__":
    main()
