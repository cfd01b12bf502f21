"""The commands, each a function of its options. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ctkd_search.errors import UserError
from ctkd_search.paths import is_file

if TYPE_CHECKING:
    from rich.console import Console

    from ctkd_search.api.exporting import Precision

# Options that set keys of a space, also in commands that read no space.
_RESOURCES = {
    "gpus_per_trial": "resources.gpus_per_trial",
    "trials_per_gpu": "resources.trials_per_gpu",
    "cpus_per_trial": "resources.cpus_per_trial",
    "concurrent": "resources.concurrent_trials",
    "address": "resources.address",
    "tracking_uri": "tracking.uri",
}


def _overrides(options: argparse.Namespace) -> list[str]:
    """Returns the options that set keys of the space, as KEY=VALUE; --set comes last and takes precedence."""
    keys = {
        "trials": "budget.trials",
        "epochs": "budget.epochs",
        "time_budget": "budget.time_budget",
        "test_share": "dataset.test",
    }
    return [*_given(options, {**keys, **_RESOURCES}), *options.overrides]


def _given(options: argparse.Namespace, keys: Mapping[str, str]) -> list[str]:
    given = {key: getattr(options, name, None) for name, key in keys.items()}
    # Texts in quotes, because YAML reads some URIs and addresses otherwise; an empty one stands for none.
    texts = {_RESOURCES["address"], _RESOURCES["tracking_uri"]}
    return [
        f"{key}={json.dumps(value, ensure_ascii=False) if key in texts and value else value}"
        for key, value in given.items()
        if value is not None
    ]


def _console(lasting: bool = False) -> Console:
    from ctkd_search.display.consoles import standard_console

    return standard_console(lasting)


def reading_shown() -> contextlib.AbstractContextManager[None]:
    """Shows the progress of reading images on standard error, for the commands that read many."""
    from rich.console import Console

    from ctkd_search.display.reading import shown_on

    return shown_on(Console(stderr=True, markup=False, emoji=False))


def check(options: argparse.Namespace) -> None:
    """Shows what a space would search and cost."""
    from ctkd_search.api.running import check_space
    from ctkd_search.api.spaces import open_space

    space, document = open_space(options.space, _overrides(options))
    check_space(space, document, options.trials_dir, not options.no_measure, _console())


def check_method(options: argparse.Namespace) -> None:
    """Checks a method against the contract of every method."""
    from ctkd_search.checks.contract_report import DEFAULT_PAIR, print_contract

    print_contract(options.method, DEFAULT_PAIR if options.pair is None else options.pair, _console())


def run(options: argparse.Namespace) -> None:
    """Runs a search."""
    from ctkd_search.api.running import run_space
    from ctkd_search.api.spaces import open_space
    from ctkd_search.display.overview import print_next

    space, document = open_space(options.space, _overrides(options))
    console = _console(lasting=True)
    search = run_space(
        space,
        document,
        console,
        _again(options),
        name=options.name,
        trials_dir=options.trials_dir,
        resume=options.resume,
        warm_start=options.warm_start,
        champion=options.champion,
        ask=_ask if sys.stdin.isatty() and sys.stdout.isatty() else None,
    )
    print_next(options.trials_dir, search.name, console)


def slurm(options: argparse.Namespace) -> None:
    """Writes the script of a search for Slurm."""
    from ctkd_search.batch.slurm import Job, notes, slurm_script
    from ctkd_search.files import write_text
    from ctkd_search.names import check_name
    from ctkd_search.space.reader import read_with_lines

    job = Job(
        options.nodes,
        options.gpus_per_node,
        options.time,
        options.cpus_per_node,
        options.memory_per_node,
        options.grace,
        options.requeues,
        options.sbatch,
        options.setup,
    )
    space, _ = read_with_lines(options.space, _overrides(options))
    options.name = check_name(options.name) if options.name is not None else space.name
    script = slurm_script(job, options.name, _run_words(options), options.trials_dir, Path.cwd())
    for note in notes(job, space):
        print(note, file=sys.stderr)
    if options.output in (None, Path("-")):
        print(script, end="")
    else:
        write_text(options.output, script)
        print(f"wrote {options.output}; submit it with: {shlex.join(['sbatch', str(options.output)])}")


def _run_words(options: argparse.Namespace) -> list[str]:
    """Returns the command that runs a search with the options of another command that has them too."""
    words = ["ctkd-search", "run", str(options.space)]
    single = ("name", "trials", "epochs", "test_share", "time_budget", *_RESOURCES, "trials_dir")
    repeated = {"overrides": "--set", "warm_start": "--warm-start"}
    for name in single:
        value = getattr(options, name, None)
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    for name, option in repeated.items():
        words += [word for value in getattr(options, name) for word in (option, value)]
    return [*words, *(["--champion"] if options.champion else [])]


def _ask(question: str) -> bool:
    """Asks a question that is answered with yes or no; Enter alone means yes."""
    try:
        answer = input(f"{question} [Y/n] ").strip().lower()
    except EOFError:
        return False
    return answer in ("", "y", "yes")


def show(options: argparse.Namespace) -> None:
    """Lists the searches, or shows one of them."""
    from ctkd_search.display.comparisons import ROWS
    from ctkd_search.display.overview import print_search, print_searches

    if options.name is not None:
        print_search(options.trials_dir, options.name, options.limit or ROWS, _console())
    elif options.limit is not None:
        raise UserError("--limit is an option of: ctkd-search show NAME")
    else:
        print_searches(options.trials_dir, _console())


def export(options: argparse.Namespace) -> None:
    """Writes a trial's config, or its student, in one of the formats."""
    from ctkd_search.api.exporting import STUDENT_SUFFIXES, form_of, text_of

    path = options.output
    to_stdout = path in (None, Path("-"))
    form = options.format or "yaml" if to_stdout else form_of(path, options.format)
    precision = _precision(options)
    precision.check(form, options.final)
    if form in STUDENT_SUFFIXES:
        if path == Path("-"):
            raise UserError(
                f"--format {form} writes a binary file, which standard output is not for; name a file with -o FILE"
            )
        _export_student(options, form, precision)
        return
    text = text_of(options.trials_dir, options.name, form, options.trial, options.final)
    if to_stdout:
        print(text, end="")
        return
    from ctkd_search.files import write_text

    write_text(path, text)
    if form == "yaml":
        print(f"wrote {path}; train it with: {shlex.join(['ctkd-search', 'train', str(path)])}")
    else:
        again = shlex.join(["--warm-start", str(path)])
        print(f"wrote {path}; begin another search from it with: ctkd-search run SPACE --name NAME {again}")


def _precision(options: argparse.Namespace) -> Precision:
    from ctkd_search.api.exporting import Precision

    return Precision(options.int8, options.half, options.max_drop, options.tune_epochs, options.register)


def _export_student(options: argparse.Namespace, form: str, precision: Precision) -> None:
    from ctkd_search.api.exporting import STUDENT_SUFFIXES, write_reduced

    root, name = options.trials_dir, options.name
    path = options.output or Path(f"{name}{precision.suffix}{STUDENT_SUFFIXES[form]}")
    if precision.reduced:
        write_reduced(root, name, path, form, precision, _console(), trial=options.trial, final=options.final)
        return
    from ctkd_search.students.export import export_student

    print(export_student(root, name, options.trial, options.final, form, path))


def predict(options: argparse.Namespace) -> None:
    """Classifies image files."""
    from ctkd_search.students.predict import as_json, check_read, image_files, predict, print_predictions
    from ctkd_search.students.predictor import open_model
    from ctkd_search.tracking.store import store_uri

    files = image_files(options.images)
    predictor = open_model(options.model, store_uri(options.tracking_uri, options.trials_dir))
    for note in files.notes:
        print(note, file=sys.stderr)
    predictions = list(predict(predictor, files.images, options.top))
    if all(prediction.error for prediction in predictions):
        check_read(predictions)
    if options.json:
        print(as_json(predictions, getattr(sys.stdout, "encoding", None) or "utf-8"))
    else:
        print_predictions(predictions, _console())
    check_read(predictions)


def report(options: argparse.Namespace) -> None:
    """Writes the report of a search."""
    from ctkd_search.report.page import write_report

    print(f"wrote {write_report(options.trials_dir, options.name, options.output)}; open it in a browser")


def train(options: argparse.Namespace) -> None:
    """Trains a config to its end, and tests it."""
    from ctkd_search.api.training import split_words, train_config
    from ctkd_search.records.config_file import read_config
    from ctkd_search.records.store import SearchFolder

    if options.test_share is not None:
        raise UserError(
            "--test-share is not an option of train: the search has used all its images to choose the config; search "
            "again with run --test-share, which keeps a share apart before the search"
        )
    if not os.path.exists(options.config) and SearchFolder(options.trials_dir, str(options.config)).exists():
        raise UserError(
            f"{options.config} is a search, but train takes a file; write its best config with: ctkd-search export "
            f"{options.config} -o best.yaml"
        )
    train_config(
        read_config(options.config),
        options.trials_dir,
        _console(lasting=True),
        _again(options),
        seeds=options.seeds,
        new_streams=options.new_streams,
        baselines=None if options.baselines is None else split_words(",".join(options.baselines)),
        epochs=options.epochs,
        seed=options.seed,
        device=options.device,
        resume=options.resume,
        champion=options.champion,
        resources=_given(options, _RESOURCES),
    )


def _again(options: argparse.Namespace) -> str:
    """Returns the command that resumes the work of this one."""
    words = options.words
    # Behind -- there are no options any more.
    end = words.index("--") if "--" in words else len(words)
    return shlex.join(["ctkd-search", *words[:end], *([] if options.resume else ["--resume"]), *words[end:]])


def cache(options: argparse.Namespace) -> None:
    """Shows or clears the teacher cache."""
    from ctkd_search.display.cache_table import print_cache, remove_from_cache

    if options.action == "remove":
        remove_from_cache(options.trials_dir, options.ids, options.unused_for, options.all, _console())
    elif options.ids or options.unused_for or options.all:
        raise UserError("--unused-for, --all and IDs are options of: ctkd-search cache remove")
    else:
        print_cache(options.trials_dir, _console())


def schema(options: argparse.Namespace) -> None:
    """Writes the JSON schema of spaces, or the reference of their keys."""
    from ctkd_search.space.schema.writing import write_reference

    print(write_reference(options.markdown, None if options.output == Path("-") else options.output), end="")


def ui(options: argparse.Namespace) -> None:
    """Opens MLflow's UI on this machine: this process becomes the server."""
    from ctkd_search.tracking.serving import become_server, refuse_taken_port
    from ctkd_search.tracking.store import store_uri, without_secrets
    from ctkd_search.tracking.ui_links import links

    uri = store_uri(options.tracking_uri, options.trials_dir)
    if uri.startswith("sqlite:") and not is_file(Path(uri.removeprefix("sqlite:///"))):
        raise UserError(
            f"no search has been run in {options.trials_dir} yet; run one first, or choose another --trials-dir"
        )
    if uri.startswith(("http://", "https://")):
        server = without_secrets(uri)
        print(f"{server} is a server with a UI of its own; open it in a browser")
        print("\n".join(links(options.trials_dir, uri, server)))
        return
    refuse_taken_port(options.port)
    server = f"http://127.0.0.1:{options.port}"
    found = links(options.trials_dir, uri, server)
    print(f"MLflow's UI on {server}; Ctrl-C ends it")
    print("\n".join(found), flush=True)
    become_server(uri, options.port)
