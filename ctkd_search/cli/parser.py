"""The parser of the command line, and the entry point. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence

from ctkd_search import __version__
from ctkd_search.cli import commands
from ctkd_search.cli import help as cli_help
from ctkd_search.cli.arguments import (
    count,
    export_arguments,
    job_arguments,
    port,
    resource_arguments,
    search_arguments,
    search_name,
    space_arguments,
    tracking_uri,
    train_arguments,
    trials_dir,
)
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.paths import user_path

# Errors of an output on a full disk, above a quota, or on a disk that fails.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_EXIT_FAILED, _EXIT_USER, _EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after ``ctkd-search``; None for the process's own.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _print_anything()
    try:
        try:
            return _run(words)
        finally:
            # A broken pipe is noticed when the output is written; at Python's own end nobody could catch it. Unlike the
            # file's own flush, print may be called where there is no output at all.
            print(end="", flush=True)
    except BrokenPipeError:
        # The reader (`head`, for example) has closed the pipe; the rest of the output is discarded.
        _discard_output()
        return 0
    except OSError as error:
        # Files are named in errors about them; the output has no name.
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        _discard_output()
        print(f"ctkd-search: cannot write the output: {error.strerror}", file=sys.stderr)
        return _EXIT_FAILED


def _discard_output() -> None:
    """Discards the rest of the output, which Python would try to write at its own end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_anything() -> None:
    """Lets standard output escape what its encoding has not, such as the name of a file that is not in UTF-8."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


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
    space_arguments(check)
    check.add_argument(
        "--no-measure",
        action="store_true",
        help="do not time a few steps on this machine to estimate the search's time",
    )
    resource_arguments(check, tracking=False)
    trials_dir(check)

    method = _command(parsers, "check-method", "check a method of your own; trains nothing", commands.check_method)
    method.add_argument("method", metavar="METHOD", help="its module and class, as in my_code:MyMethod")
    method.add_argument("--pair", metavar="PAIR", help="teacher and student to try it with (default: wrn-16-1/resnet8)")

    run = _command(parsers, "run", "search a space", commands.run)
    space_arguments(run)
    run.add_argument("--resume", action="store_true", help="go on with an interrupted search")
    search_arguments(run)
    resource_arguments(run)
    trials_dir(run)

    slurm = _command(parsers, "slurm", "write the script of a search for Slurm's sbatch", commands.slurm)
    space_arguments(slurm)
    job_arguments(slurm)
    search_arguments(slurm)
    resource_arguments(slurm, address=False)
    trials_dir(slurm)

    show = _command(parsers, "show", "list the searches, or one search's leaderboard", commands.show)
    show.add_argument(
        "name",
        nargs="?",
        type=search_name,
        metavar="NAME",
        help="name of the search; without it, all searches are listed",
    )
    show.add_argument("--limit", type=count, metavar="N", help="maximum number of NAME's rows (default: 30)")
    trials_dir(show)

    export = _command(parsers, "export", "write a trial's config, or its student, to a file", commands.export)
    export_arguments(export)
    trials_dir(export)

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
        "--top", type=count, default=1, metavar="K", help="number of classes to name for each image (default: 1)"
    )
    predict.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    tracking_uri(predict)
    trials_dir(predict)

    report = _command(
        parsers, "report", "write the report of a search: one HTML page and its pictures", commands.report
    )
    report.add_argument("name", type=search_name, metavar="NAME", help="name of the search, finished or not")
    report.add_argument(
        "-o",
        "--output",
        type=user_path,
        metavar="DIR",
        help="directory to write to (default: report in the search's own)",
    )
    trials_dir(report)

    train = _command(
        parsers, "train", "final training of a config; reads the test images once, at the end", commands.train
    )
    train_arguments(train)
    resource_arguments(train)
    trials_dir(train)

    cache = _command(parsers, "cache", "list or remove recordings and weights of teachers", commands.cache)
    cache.add_argument("action", nargs="?", choices=("list", "remove"), default="list")
    cache.add_argument("ids", nargs="*", metavar="ID", help="entries to remove, by the names in the list")
    cache.add_argument(
        "--unused-for", metavar="TIME", help="remove entries that no search has used for this long, as in 30d"
    )
    cache.add_argument("--all", action="store_true", help="remove every entry")
    trials_dir(cache)

    ui = _command(parsers, "ui", "open MLflow's UI on the searches, on 127.0.0.1", commands.ui)
    ui.add_argument("--port", type=port, default=5000, metavar="N", help="port (default: 5000)")
    tracking_uri(ui)
    trials_dir(ui)

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
