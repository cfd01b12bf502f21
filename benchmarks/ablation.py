"""The worth of each part of a CTKD config: the config beside itself without that part, on the test images.

    python benchmarks/ablation.py CONFIG [--seeds 5] [--alone] [--trials-dir trials]

CONFIG is a file of `ctkd-search export`. Its parts are those of its weights that are not 0: the step loss (alpha), the
attention loss (beta), and the loss of the expert's predictions (expert_kd). Each is left out; with --alone, all but
each are left out too. All are trained by one final training, with the recipe of CONFIG, whose table is the result;
their configs are written into a directory beside CONFIG.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from common import command, header

PARTS = {"alpha": "step-loss", "beta": "attention", "expert_kd": "predictions"}


def variants(method: dict[str, Any], alone: bool) -> dict[str, dict[str, Any]]:
    """Returns the methods with a part left out, and those with one part alone, by their names."""
    there = [key for key in PARTS if method.get(key)]
    found = {f"without-{PARTS[key]}": {**method, key: 0.0} for key in there}
    if alone and len(there) > 2:
        others = {key: {other: 0.0 for other in there if other != key} for key in there}
        found |= {f"{PARTS[key]}-alone": {**method, **others[key]} for key in there}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="each part alone, too")
    parser.add_argument("--trials-dir", type=Path, default=Path("trials"))
    parser.add_argument("--resume", action="store_true", help="go on with the one that was begun")
    options = parser.parse_args()
    content = yaml.safe_load(options.config.read_text())
    made = variants(content["method"], options.alone)
    header(f"{options.config.name} without its parts, {options.seeds} seeds")
    directory = options.config.with_name(f"{options.config.stem}-parts")
    directory.mkdir(exist_ok=True)
    for name, method in made.items():
        (directory / f"{name}.yaml").write_text(yaml.safe_dump({**content, "method": method}))
    files = ",".join(str(directory / f"{name}.yaml") for name in made)
    words = ["--seeds", str(options.seeds), "--baselines", files, "--trials-dir", str(options.trials_dir)]
    command("train", str(options.config), *words, *(["--resume"] if options.resume else []), cwd=Path.cwd())


if __name__ == "__main__":
    main()
