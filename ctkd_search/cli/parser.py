"""The parser of the command line, and the entry point. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ctkd_search import __version__
from ctkd_search.api.exporting import FORMATS
from ctkd_search.cli import commands
from ctkd_search.cli import help as cli_help
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.fields import LARGEST_SEED
from ctkd_search.paths import user_path

_LAST_PORT = 65535
_EXIT_FAILED, _EXIT_USER, _EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after ``ctkd-search``; None for the process's own.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            return _run(words)
        finally:
            # A broken pipe is noticed when the output is written; at Python's own end nobody could catch it. Unlike the
            # file's own flush, print may be called where there is no output at all.
            print(end="", flush=True)
    except BrokenPipeError:
        # The reader (`head`, for example) has closed the pipe; the rest of the output is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: list[str]) -> int:
    """Runs the command of some words; returns the exit code."""
    options = make_parser().parse_args(words)
    options.words = words
    shown = (commands.check, commands.run, commands.train, commands.report)
    try:
        with commands.reading_shown() if options.command in shown else contextlib.nullcontext():
            options.command(options)
    except UserError as error:
        print(f"ctkd-search: {error}", file=sys.stderr)
        return _EXIT_USER
    except WorkFailed as error:
        print(f"ctkd-search: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except KeyboardInterrupt:
        print("ctkd-search: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="ctkd-search",
        description="Finds the best way to distil an image classifier with two teachers (CTKD, arXiv 1907.09643).",
        epilog=cli_help.PROGRAM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ctkd-search {__version__}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    check = _command(parsers, "check", "show what a space would search and cost; trains nothing", commands.check)
    _space_arguments(check)
    check.add_argument(
        "--no-measure",
        action="store_true",
        help="do not time a few steps on this machine to estimate the search's time",
    )
    _resource_arguments(check, tracking=False)
    _trials_dir(check)

    method = _command(parsers, "check-method", "check a method of your own; trains nothing", commands.check_method)
    method.add_argument("method", metavar="METHOD", help="its module and class, as in my_code:MyMethod")
    method.add_argument("--pair", metavar="PAIR", help="teacher and student to try it with (default: wrn-16-1/resnet8)")

    run = _command(parsers, "run", "search a space", commands.run)
    _space_arguments(run)
    run.add_argument("--resume", action="store_true", help="go on with an interrupted search")
    _search_arguments(run)
    _resource_arguments(run)
    _trials_dir(run)

    slurm = _command(parsers, "slurm", "write the script of a search for Slurm's sbatch", commands.slurm)
    _space_arguments(slurm)
    _job_arguments(slurm)
    _search_arguments(slurm)
    _resource_arguments(slurm, address=False)
    _trials_dir(slurm)

    show = _command(parsers, "show", "list the searches, or one search's leaderboard", commands.show)
    show.add_argument("name", nargs="?", metavar="NAME", help="name of the search; without it, all searches are listed")
    show.add_argument("--limit", type=_count, default=30, metavar="N", help="maximum number of rows (default: 30)")
    _trials_dir(show)

    export = _command(parsers, "export", "write a trial's config, or its student, to a file", commands.export)
    export.add_argument("name", metavar="NAME", help="name of the search")
    export.add_argument(
        "--format",
        choices=FORMATS,
        help="yaml writes the config; configs the best configs, for run --warm-start FILE; onnx or torch (a graph of "
        "torch.export) the student (default: by the suffix of FILE, or yaml without FILE)",
    )
    export.add_argument(
        "-o",
        "--output",
        type=user_path,
        metavar="FILE",
        help="file to write (default: standard output for yaml and configs, NAME.onnx or NAME.pt2 for a student)",
    )
    which = export.add_mutually_exclusive_group()
    which.add_argument("--trial", metavar="N", help="number of the trial (default: the best)")
    which.add_argument("--final", action="store_true", help="the student of the newest final training of NAME")
    export.add_argument(
        "--int8",
        action="store_true",
        help="quantise the student to int8, calibrated on training images; with --format onnx",
    )
    export.add_argument(
        "--max-drop",
        type=_points,
        metavar="POINTS",
        help="with --int8: refuse to write a student that loses more percentage points of validation accuracy "
        "(default: 2)",
    )
    export.add_argument(
        "--tune-epochs",
        type=_count,
        metavar="N",
        help="with --int8: fine-tune the quantised student with the lessons of the last N epochs of its trial",
    )
    export.add_argument(
        "--register",
        action="store_true",
        help="with --int8: also register the student in MLflow, to be served as models:/ctkd-NAME@int8",
    )
    _trials_dir(export)

    predict = _command(parsers, "predict", "classify image files with a student", commands.predict)
    predict.add_argument(
        "model",
        metavar="MODEL",
        help="a file that export wrote, a final training's student.pt, or models:/NAME@champion or runs:/... in MLflow",
    )
    predict.add_argument(
        "images",
        nargs="+",
        type=user_path,
        metavar="IMAGE",
        help="image files, and directories that are searched for them recursively",
    )
    predict.add_argument(
        "--top", type=_count, default=1, metavar="K", help="number of classes to name for each image (default: 1)"
    )
    predict.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    _tracking_uri(predict)
    _trials_dir(predict)

    report = _command(
        parsers, "report", "write the report of a search: one HTML page and its pictures", commands.report
    )
    report.add_argument("name", metavar="NAME", help="name of the search, finished or not")
    report.add_argument(
        "-o",
        "--output",
        type=user_path,
        metavar="DIR",
        help="directory to write to (default: report in the search's own)",
    )
    _trials_dir(report)

    train = _command(
        parsers, "train", "final training of a config; reads the test images once, at the end", commands.train
    )
    train.add_argument("config", type=user_path, metavar="CONFIG", help="a config written by export")
    train.add_argument("--epochs", type=_count, metavar="N", help="number of epochs (default: the config's)")
    train.add_argument(
        "--seed", type=_seed, metavar="N", help="seed of the stream and the first student (default: the config's)"
    )
    train.add_argument(
        "--seeds",
        type=_count,
        default=1,
        metavar="N",
        help="number of students, each with its own seed (default: 1)",
    )
    train.add_argument("--new-streams", action="store_true", help="use a new stream and new teachers for every seed")
    train.add_argument(
        "--baselines",
        metavar="NAMES",
        help="baselines to compare with, by name or as files of configs, as in student-alone,tuned-kd.yaml, or none "
        "(default: student-alone, kd, at, scratch-only and ctkd-paper with several seeds, none with one seed)",
    )
    train.add_argument("--test-share", help=argparse.SUPPRESS)
    train.add_argument("--resume", action="store_true", help="go on with the newest final training of this config")
    train.add_argument(
        "--champion", action="store_true", help="make the student the champion even if there is one already"
    )
    train.add_argument("--device", choices=("cpu", "cuda"), help="device to train on (default: a GPU if there is one)")
    _resource_arguments(train)
    _trials_dir(train)

    cache = _command(parsers, "cache", "list or remove recordings and weights of teachers", commands.cache)
    cache.add_argument("action", nargs="?", choices=("list", "remove"), default="list")
    cache.add_argument("ids", nargs="*", metavar="ID", help="entries to remove, by the names in the list")
    cache.add_argument(
        "--unused-for", metavar="TIME", help="remove entries that no search has used for this long, as in 30d"
    )
    cache.add_argument("--all", action="store_true", help="remove every entry")
    _trials_dir(cache)

    ui = _command(parsers, "ui", "open MLflow's UI on the searches, on 127.0.0.1", commands.ui)
    ui.add_argument("--port", type=_port, default=5000, metavar="N", help="port (default: 5000)")
    _tracking_uri(ui)
    _trials_dir(ui)

    schema = _command(
        parsers, "schema", "print every key that a space may have, as JSON Schema or as tables", commands.schema
    )
    schema.add_argument("--markdown", action="store_true", help="write Markdown tables instead of JSON Schema")
    schema.add_argument(
        "-o",
        "--output",
        type=user_path,
        metavar="FILE",
        help="file to write (default: standard output); in a Markdown file that has a place for the tables, only "
        "that part is replaced",
    )
    return parser


def _command(parsers: argparse._SubParsersAction, name: str, summary: str, function: object) -> argparse.ArgumentParser:
    text, end = cli_help.COMMANDS.get(name, (f"{summary[0].upper()}{summary[1:]}.", cli_help.EXIT_CODES))
    command: argparse.ArgumentParser = parsers.add_parser(
        name,
        help=summary,
        description=text,
        epilog=end,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=function)
    return command


def _space_arguments(command: argparse.ArgumentParser) -> None:
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


def _search_arguments(command: argparse.ArgumentParser) -> None:
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


def _job_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--time", required=True, metavar="TIME", help="time limit of the job, as in 8h or 1d12h")
    command.add_argument("--nodes", type=_count, default=1, metavar="N", help="number of machines (default: 1)")
    command.add_argument(
        "--gpus-per-node", type=_number, default=0, metavar="N", help="number of GPUs of each machine (default: 0)"
    )
    command.add_argument("--cpus-per-node", type=_count, metavar="N", help="number of CPU cores of each machine")
    command.add_argument("--memory-per-node", metavar="SIZE", help="memory of each machine, as in 64G")
    command.add_argument(
        "--grace",
        default="5m",
        metavar="TIME",
        help="time before the limit at which the search is interrupted and the job requeued (default: 5m)",
    )
    command.add_argument(
        "--requeues", type=_number, default=20, metavar="N", help="times that the job is requeued (default: 20)"
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


def _resource_arguments(command: argparse.ArgumentParser, tracking: bool = True, address: bool = True) -> None:
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
        _tracking_uri(command)


def _trials_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trials-dir",
        type=user_path,
        default=Path("trials"),
        metavar="DIR",
        help="directory of the searches (default: trials)",
    )


def _tracking_uri(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="URI of MLflow (default: MLFLOW_TRACKING_URI, or a SQLite file in the directory of searches)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 100, but got {text!r}")
    return points


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, but got {text!r}")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {_LAST_PORT}, but got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {LARGEST_SEED}, but got {text!r}")
    return int(text)
