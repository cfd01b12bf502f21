"""The commands: parse, call one function, print. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctkd_search import __version__, cli_help
from ctkd_search.errors import UserError, WorkFailed

if TYPE_CHECKING:
    from rich.console import Console

_EXIT_FAILED, _EXIT_USER, _EXIT_INTERRUPTED = 1, 2, 130

# The formats in which a student is exported, and how their files are called.
_STUDENT_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}


# Options that stand for keys of a space, wherever there is no space.
_RESOURCES = {
    "gpus_per_trial": "resources.gpus_per_trial",
    "trials_per_gpu": "resources.trials_per_gpu",
    "cpus_per_trial": "resources.cpus_per_trial",
    "concurrent": "resources.concurrent_trials",
    "address": "resources.address",
    "tracking_uri": "tracking.uri",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: The words after ``ctkd-search``; None for the process's own.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    options.words = words
    try:
        with _reading_shown() if options.command in (_check, _run, _train, _report) else contextlib.nullcontext():
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
    except BrokenPipeError:
        # The reader, `head` say, has gone; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctkd-search",
        description="Finds the best way to distil an image classifier with two teachers (CTKD, arXiv 1907.09643).",
        epilog=cli_help.PROGRAM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ctkd-search {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    check = _command(commands, "check", "show what a space would search and cost; trains nothing", _check)
    _space_arguments(check)
    check.add_argument(
        "--no-measure",
        action="store_true",
        help="do not time a few steps on this machine to estimate the search's time",
    )
    _resource_arguments(check, tracking=False)
    _trials_dir(check)

    run = _command(commands, "run", "search a space", _run)
    _space_arguments(run)
    run.add_argument("--name", help="name of the search (default: the space's name)")
    run.add_argument("--resume", action="store_true", help="go on with an interrupted search")
    run.add_argument(
        "--warm-start", metavar="NAME", help="begin from the results of an earlier search, where the spaces overlap"
    )
    run.add_argument("--time-budget", metavar="TIME", help="stop after this long, as in 2h or 1h30m")
    _resource_arguments(run)
    _trials_dir(run)

    show = _command(commands, "show", "list the searches, or one search's leaderboard", _show)
    show.add_argument("name", nargs="?", metavar="NAME", help="the search; without it, all searches are listed")
    show.add_argument("--limit", type=_count, default=30, metavar="N", help="rows at most (default: 30)")
    _trials_dir(show)

    export = _command(commands, "export", "write a trial's config, or its student, to a file", _export)
    export.add_argument("name", metavar="NAME", help="the search")
    export.add_argument(
        "--format",
        choices=("yaml", *_STUDENT_SUFFIXES),
        help="what to write: yaml, the config; onnx or torch (a graph of torch.export), the student (default: by the "
        "name of FILE, and yaml without one)",
    )
    export.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to (default: standard output for yaml, NAME.onnx or NAME.pt2 for a student)",
    )
    which = export.add_mutually_exclusive_group()
    which.add_argument("--trial", metavar="N", help="number of the trial (default: the best)")
    which.add_argument("--final", action="store_true", help="the student of the newest final training of NAME")
    _trials_dir(export)

    predict = _command(commands, "predict", "classify image files with a student", _predict)
    predict.add_argument(
        "model",
        metavar="MODEL",
        help="a file that export wrote, a final training's student.pt, or models:/NAME@champion or runs:/... in MLflow",
    )
    predict.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="image files, and directories of them, however deep",
    )
    predict.add_argument("--top", type=_count, default=1, metavar="K", help="classes to name for each (default: 1)")
    predict.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    _tracking_uri(predict)
    _trials_dir(predict)

    report = _command(commands, "report", "write a search up: one HTML page and its pictures", _report)
    report.add_argument("name", metavar="NAME", help="the search, finished or not")
    report.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="directory to write to (default: report in the search's own)"
    )
    _trials_dir(report)

    train = _command(commands, "train", "final training of a config; reads the test images once, at the end", _train)
    train.add_argument("config", type=Path, metavar="CONFIG", help="a config written by export")
    train.add_argument("--epochs", type=_count, metavar="N", help="epochs (default: the config's)")
    train.add_argument(
        "--seed", type=_seed, metavar="N", help="seed of the stream and the first student (default: the config's)"
    )
    train.add_argument(
        "--seeds",
        type=_count,
        default=1,
        metavar="N",
        help="students, each with a seed of its own (default: 1)",
    )
    train.add_argument(
        "--new-streams", action="store_true", help="give every seed a stream and teachers of its own too"
    )
    train.add_argument(
        "--baselines",
        metavar="NAMES",
        help="baselines to train beside it, as in student-alone,dkd, or none (default: student-alone, kd, at, "
        "scratch-only and ctkd-paper where there are several seeds, none where there is one)",
    )
    train.add_argument("--resume", action="store_true", help="go on with the newest final training of this config")
    train.add_argument("--device", choices=("cpu", "cuda"), help="where to compute (default: a GPU if there is one)")
    _resource_arguments(train)
    _trials_dir(train)

    cache = _command(commands, "cache", "list or remove what is kept of teachers", _cache)
    cache.add_argument("action", nargs="?", choices=("list", "remove"), default="list")
    cache.add_argument("ids", nargs="*", metavar="ID", help="what to remove, by the name that the list shows")
    cache.add_argument("--unused-for", metavar="TIME", help="remove what no search has used for this long, as in 30d")
    cache.add_argument("--all", action="store_true", help="remove everything")
    _trials_dir(cache)

    ui = _command(commands, "ui", "open MLflow's UI on the searches, on 127.0.0.1", _ui)
    ui.add_argument("--port", type=_count, default=5000, metavar="N", help="port (default: 5000)")
    _tracking_uri(ui)
    _trials_dir(ui)

    schema = _command(commands, "schema", "print every key that a space may have, as JSON Schema or as tables", _schema)
    schema.add_argument("--markdown", action="store_true", help="Markdown tables instead of JSON Schema")
    schema.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to (default: standard output); of a Markdown file that has a place for the tables, only that is "
        "written anew",
    )
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, summary: str, function: object
) -> argparse.ArgumentParser:
    text, end = cli_help.COMMANDS.get(name, (f"{summary[0].upper()}{summary[1:]}.", cli_help.EXIT_CODES))
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=text,
        epilog=end,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=function)
    return command


def _space_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("space", type=Path, metavar="SPACE", help="a YAML file, such as spaces/digits.yaml")
    command.add_argument("--trials", metavar="N", help="trials in all")
    command.add_argument("--epochs", metavar="N", help="epochs of a trial that is not stopped early")
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override any key of the space, as in train.batch_size=64; may be repeated",
    )


def _resource_arguments(command: argparse.ArgumentParser, tracking: bool = True) -> None:
    command.add_argument("--gpus-per-trial", metavar="N", help="GPUs, or a fraction of one; 0 for the CPU")
    command.add_argument("--trials-per-gpu", metavar="N", help="trials that share a GPU, or auto")
    command.add_argument("--cpus-per-trial", metavar="N", help="CPU cores, and threads")
    command.add_argument("--concurrent", metavar="N", help="trials at once")
    command.add_argument(
        "--address", metavar="RAY", help="join the Ray cluster at this address ('auto' for this machine's)"
    )
    if tracking:
        _tracking_uri(command)


def _trials_dir(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trials-dir",
        type=Path,
        default=Path("trials"),
        metavar="DIR",
        help="directory of the searches (default: trials)",
    )


def _tracking_uri(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="MLflow (default: MLFLOW_TRACKING_URI, or a SQLite file in the directory of searches)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, but got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, but got {text!r}")
    return int(text)


def _overrides(options: argparse.Namespace) -> list[str]:
    """Every option that stands for a key of the space, as KEY=VALUE; --set comes last and wins."""
    keys = {
        "trials": "budget.trials",
        "epochs": "budget.epochs",
        "time_budget": "budget.time_budget",
    }
    return [*_given(options, {**keys, **_RESOURCES}), *options.overrides]


def _given(options: argparse.Namespace, keys: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for name, key in keys.items() if (value := getattr(options, name, None)) is not None]


def _console() -> Console:
    from rich.console import Console

    class Plain(Console):
        """Prints text as it is, brackets and colons included, and leaves a broken pipe to `main`."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Plain(markup=False, emoji=False)
    # A pipe or a file has no width; tables need not be cut to 80 columns there.
    return console if console.is_terminal else Plain(width=160, markup=False, emoji=False)


def _reading_shown() -> contextlib.AbstractContextManager[None]:
    """For the commands that read many images: shows on standard error how far they are."""
    from rich.console import Console

    from ctkd_search.results.reading import shown_on

    return shown_on(Console(stderr=True))


def _check(options: argparse.Namespace) -> None:
    from ctkd_search.check.overview import print_overview
    from ctkd_search.space_file import read_with_lines

    console = _console()
    space, document = read_with_lines(options.space, _overrides(options))
    print_overview(space, console)
    # Torch is imported only now, when all that is wrong with the file has been said.
    from ctkd_search.check.report import print_check

    print_check(space, document, options.trials_dir, not options.no_measure, console)


def _run(options: argparse.Namespace) -> None:
    from ctkd_search.search.run import Request, run_search
    from ctkd_search.space_file import check_name, read_with_lines

    space, document = read_with_lines(options.space, _overrides(options))
    name = check_name(options.name) if options.name is not None else space.name
    ask = _ask if sys.stdin.isatty() and sys.stdout.isatty() else None
    request = Request(
        space, name, options.trials_dir, options.resume, _again(options), options.warm_start, ask, document
    )
    run_search(request, _console())


def _ask(question: str) -> bool:
    """Asks something that is answered with yes or no; yes where only Enter is pressed."""
    try:
        answer = input(f"{question} [Y/n] ").strip().lower()
    except EOFError:
        return False
    return answer in ("", "y", "yes")


def _show(options: argparse.Namespace) -> None:
    from ctkd_search.results.overview import print_search, print_searches

    if options.name is None:
        print_searches(options.trials_dir, _console())
    else:
        print_search(options.trials_dir, options.name, options.limit, _console())


def _export(options: argparse.Namespace) -> None:
    formats = {suffix: form for form, suffix in _STUDENT_SUFFIXES.items()}
    form = options.format or formats.get(options.output.suffix if options.output else "", "yaml")
    if form == "yaml":
        _export_config(options)
    elif options.output == Path("-"):
        raise UserError(f"--format {form} writes a file that no terminal shows; give its name with -o FILE")
    else:
        from ctkd_search.results.export import export_student

        path = options.output or Path(f"{options.name}{_STUDENT_SUFFIXES[form]}")
        print(export_student(options.trials_dir, options.name, options.trial, options.final, form, path))


def _export_config(options: argparse.Namespace) -> None:
    from ctkd_search.files import write_text
    from ctkd_search.results.overview import exported

    if options.final:
        raise UserError("--final exports a student: add --format onnx or --format torch")
    if options.output and options.output.suffix in _STUDENT_SUFFIXES.values():
        raise UserError(f"--format yaml writes a config, which {options.output} is not by its name")
    text = exported(options.trials_dir, options.name, options.trial)
    if options.output in (None, Path("-")):
        print(text, end="")
    else:
        write_text(options.output, text)
        print(f"wrote {options.output}; train it with: ctkd-search train {options.output}")


def _predict(options: argparse.Namespace) -> None:
    from ctkd_search.mlflow_store import store_uri
    from ctkd_search.results.predict import as_json, image_files, predict, print_predictions
    from ctkd_search.results.predictor import open_model

    files = image_files(options.images)
    predictor = open_model(options.model, store_uri(options.tracking_uri, options.trials_dir))
    predictions = list(predict(predictor, files, options.top))
    if options.json:
        print(as_json(predictions))
    else:
        print_predictions(predictions, _console())


def _report(options: argparse.Namespace) -> None:
    from ctkd_search.results.report.page import write_report

    print(f"wrote {write_report(options.trials_dir, options.name, options.output)}; open it in a browser")


def _train(options: argparse.Namespace) -> None:
    from ctkd_search.results.config_file import read_config, with_changes
    from ctkd_search.results.final_plan import make_plan
    from ctkd_search.search.machine import on_device
    from ctkd_search.space_file import read_resources

    read = read_config(options.config)
    config = with_changes(read.config, options.epochs, options.seed)
    plan, notes = make_plan(read.name, config, options.seeds, options.new_streams, options.baselines)
    resources, tracking = read_resources(_given(options, _RESOURCES))
    tracking = dataclasses.replace(tracking, experiment=read.experiment)
    resources = on_device(resources, options.device)
    from ctkd_search.search.final import FinalRequest, train_final

    console = _console()
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    trials_dir, again = options.trials_dir, _again(options)
    train_final(FinalRequest(plan, read.fingerprint, trials_dir, options.resume, again, resources, tracking), console)


def _again(options: argparse.Namespace) -> str:
    """The command that goes on with what this one begins."""
    return shlex.join(["ctkd-search", *options.words, *([] if options.resume else ["--resume"])])


def _cache(options: argparse.Namespace) -> None:
    from ctkd_search.results.cache_table import print_cache, remove_from_cache

    if options.action == "remove":
        remove_from_cache(options.trials_dir, options.ids, options.unused_for, options.all, _console())
    elif options.ids or options.unused_for or options.all:
        raise UserError("--unused-for, --all and IDs go with: ctkd-search cache remove")
    else:
        print_cache(options.trials_dir, _console())


def _schema(options: argparse.Namespace) -> None:
    from ctkd_search.schema.writing import write_reference

    print(write_reference(options.markdown, options.output), end="")


def _ui(options: argparse.Namespace) -> None:
    from ctkd_search.mlflow_store import store_uri, without_secrets
    from ctkd_search.results.ui_links import links

    uri = store_uri(options.tracking_uri, options.trials_dir)
    if uri.startswith("sqlite:") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise UserError(f"there is nothing in {options.trials_dir} yet; run a search first")
    if uri.startswith(("http://", "https://")):
        server = without_secrets(uri)
        print(f"{server} is a server with a UI of its own; open it in a browser")
        print("\n".join(links(options.trials_dir, uri, server)))
        return
    server = f"http://127.0.0.1:{options.port}"
    print(f"MLflow's UI on {server}; Ctrl-C ends it")
    print("\n".join(links(options.trials_dir, uri, server)), flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(options.port)]
    # Not as an argument, which every user of the machine can read: it may hold a password.
    code = subprocess.call(command, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": uri})
    if code:
        raise WorkFailed(
            f"MLflow's UI ended with exit code {code}; is port {options.port} taken? choose another --port"
        )
