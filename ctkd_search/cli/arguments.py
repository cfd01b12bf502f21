"""Arguments of the commands, those that several commands share among them, and the types of their values."""

from __future__ import annotations

import argparse
from pathlib import Path

from ctkd_search.api.exporting import FORMATS
from ctkd_search.fields import LARGEST_SEED
from ctkd_search.paths import directory_fault, user_path

_LAST_PORT = 65535


def space_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the space and what overrides it."""
    command.add_argument("space", type=user_path, metavar="SPACE", help="a YAML file, such as spaces/digits.yaml")
    command.add_argument("--trials", metavar="N", help="number of trials")
    command.add_argument("--epochs", metavar="N", help="number of epochs of a trial that is not stopped early")
    command.add_argument(
        "--test-share",
        metavar="SHARE",
        help="share of the images kept apart from the search for the test of the final training, as in 0.2; for your "
        "own images without test images",
    )
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override any key of the space, as in train.batch_size=64; may be repeated",
    )


def search_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of a search."""
    command.add_argument("--name", help="name of the search (default: the space's name)")
    command.add_argument(
        "--champion",
        action="store_true",
        help="make the student the champion even if it is not better than the present one",
    )
    command.add_argument(
        "--warm-start",
        action="append",
        default=[],
        metavar="NAME",
        help="begin from an earlier search: with its results where they can be compared, else with its best configs as "
        "first trials; also a FILE of export --format configs, or 'published' for those of this package; may be "
        "repeated",
    )
    command.add_argument("--time-budget", metavar="TIME", help="stop after this long, as in 2h or 1h30m")


def job_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of a batch job."""
    command.add_argument("--time", required=True, metavar="TIME", help="time limit of the job, as in 8h or 1d12h")
    command.add_argument("--nodes", type=count, default=1, metavar="N", help="number of machines (default: 1)")
    command.add_argument(
        "--gpus-per-node", type=number, default=0, metavar="N", help="number of GPUs of each machine (default: 0)"
    )
    command.add_argument("--cpus-per-node", type=count, metavar="N", help="number of CPU cores of each machine")
    command.add_argument("--memory-per-node", metavar="SIZE", help="memory of each machine, as in 64G")
    command.add_argument(
        "--grace",
        default="5m",
        metavar="TIME",
        help="time before the limit at which the search is interrupted and the job requeued (default: 5m)",
    )
    command.add_argument(
        "--requeues", type=number, default=20, metavar="N", help="times that the job is requeued (default: 20)"
    )
    command.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="another option of sbatch, as in --sbatch=--partition=gpu; may be repeated",
    )
    command.add_argument(
        "--setup",
        action="append",
        default=[],
        metavar="COMMAND",
        help="a line of shell to run before the search, as in 'module load cuda'; may be repeated",
    )
    command.add_argument(
        "-o", "--output", type=user_path, metavar="FILE", help="file to write (default: standard output)"
    )


def resource_arguments(command: argparse.ArgumentParser, tracking: bool = True, address: bool = True) -> None:
    """Adds the resources of a search."""
    command.add_argument(
        "--gpus-per-trial", metavar="N", help="number of GPUs of a trial, or a fraction of one; 0 for the CPU"
    )
    command.add_argument("--trials-per-gpu", metavar="N", help="number of trials that share a GPU, or auto")
    command.add_argument("--cpus-per-trial", metavar="N", help="number of CPU cores, and of threads, of a trial")
    command.add_argument("--concurrent", metavar="N", help="maximum number of trials at once")
    if address:
        command.add_argument(
            "--address", metavar="RAY", help="join the Ray cluster at this address ('auto' for this machine's)"
        )
    if tracking:
        tracking_uri(command)


def trials_dir(command: argparse.ArgumentParser) -> None:
    """Adds the directory of the searches."""
    command.add_argument(
        "--trials-dir",
        type=directory,
        default=Path("trials"),
        metavar="DIR",
        help="directory of the searches (default: trials)",
    )


def tracking_uri(command: argparse.ArgumentParser) -> None:
    """Adds the URI of MLflow."""
    command.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="URI of MLflow (default: MLFLOW_TRACKING_URI, or a SQLite file in the directory of searches)",
    )


def export_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what is exported, where to, and in which precision."""
    command.add_argument("name", type=search_name, metavar="NAME", help="name of the search")
    command.add_argument(
        "--format",
        choices=FORMATS,
        help="yaml writes the config; configs the best configs, for run --warm-start FILE; onnx or torch (a graph of "
        "torch.export) the student (default: by the suffix of FILE, or yaml without FILE)",
    )
    command.add_argument(
        "-o",
        "--output",
        type=user_path,
        metavar="FILE",
        help="file to write (default: standard output for yaml and configs, NAME.onnx or NAME.pt2 for a student)",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument("--trial", metavar="N", help="number of the trial (default: the best)")
    which.add_argument("--final", action="store_true", help="the student of the newest final training of NAME")
    command.add_argument(
        "--int8",
        action="store_true",
        help="quantise the student to int8, calibrated on training images; with --format onnx",
    )
    command.add_argument(
        "--half",
        action="store_true",
        help="convert the student to half precision (float16), with --format onnx or --format torch",
    )
    command.add_argument(
        "--max-drop",
        type=points,
        metavar="POINTS",
        help="with --int8 or --half: refuse to write a student that loses more percentage points of validation "
        "accuracy (default: 2 in int8, 0.5 in half precision)",
    )
    command.add_argument(
        "--tune-epochs",
        type=count,
        metavar="N",
        help="with --int8: fine-tune the quantised student with the lessons of the last N epochs of its trial",
    )
    command.add_argument(
        "--register",
        action="store_true",
        help="with --int8: also register the student in MLflow, to be served as models:/ctkd-NAME@int8",
    )


def train_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of a final training."""
    command.add_argument("config", type=user_path, metavar="CONFIG", help="a config written by export")
    command.add_argument("--epochs", type=count, metavar="N", help="number of epochs (default: the config's)")
    command.add_argument(
        "--seed", type=seed, metavar="N", help="seed of the stream and the first student (default: the config's)"
    )
    command.add_argument(
        "--seeds",
        type=count,
        default=1,
        metavar="N",
        help="number of students, each with its own seed (default: 1)",
    )
    command.add_argument("--new-streams", action="store_true", help="use a new stream and new teachers for every seed")
    command.add_argument(
        "--baselines",
        action="append",
        metavar="NAMES",
        help="baselines to compare with, by name or as files of configs, as in student-alone,tuned-kd.yaml, or none; "
        "may be repeated (default: student-alone, kd, at, scratch-only and ctkd-paper with several seeds, none with "
        "one seed)",
    )
    command.add_argument("--test-share", help=argparse.SUPPRESS)
    command.add_argument("--resume", action="store_true", help="go on with the newest final training of this config")
    command.add_argument(
        "--champion", action="store_true", help="make the student the champion even if there is one already"
    )
    command.add_argument(
        "--device", choices=("cpu", "cuda"), help="device to train on (default: a GPU if there is one)"
    )


def directory(text: str) -> Path:
    """Returns the path of a directory, which need not exist.

    Raises:
        ArgumentTypeError: It is something else.
    """
    path = user_path(text)
    if fault := directory_fault(path):
        raise argparse.ArgumentTypeError(fault)
    return path


def search_name(text: str) -> str:
    """Returns the name of a search without the slash that a shell completes it with."""
    return text.rstrip("/") or text


def count(text: str) -> int:
    """Returns a whole number of at least 1.

    Raises:
        ArgumentTypeError: The text is none.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def points(text: str) -> float:
    """Returns a number of percentage points.

    Raises:
        ArgumentTypeError: The text is none.
    """
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 100, but got {text!r}")
    return points


def number(text: str) -> int:
    """Returns a whole number.

    Raises:
        ArgumentTypeError: The text is none.
    """
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, but got {text!r}")
    return int(text)


def port(text: str) -> int:
    """Returns the number of a port.

    Raises:
        ArgumentTypeError: The text is none.
    """
    if not text.isdecimal() or not 1 <= int(text) <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_LAST_PORT}, but got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Returns a seed.

    Raises:
        ArgumentTypeError: The text is none.
    """
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {LARGEST_SEED}, but got {text!r}")
    return int(text)
