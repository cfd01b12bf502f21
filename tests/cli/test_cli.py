"""The commands: what they print, and how they answer whatever a user may have got wrong."""

from __future__ import annotations

import dataclasses
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.cli import AGAIN, digits_search, process
from support.factories import DIGITS

from ctkd_search import __version__
from ctkd_search.cli import commands
from ctkd_search.cli.parser import make_parser
from ctkd_search.records.config_file import read_config
from ctkd_search.space.document import Document

COMMANDS = re.findall(r"^    (\w+) +\w", make_parser().format_help(), flags=re.MULTILINE)

pytestmark = pytest.mark.usefixtures("own_directory")


def test_set_wins_over_an_option_and_the_last_set_over_the_first(call):
    _, out, _ = call(
        "check", DIGITS, "--no-measure", "--set", "budget.trials=7", "--set", "budget.trials=8", "--trials", "9"
    )
    assert "budget: 8 trials" in out


@pytest.mark.parametrize(
    "text",
    [
        "http://h:5000/#x",
        "sqlite:////data/a #1/m.db",
        "[::1]:6379",
        "null",
        "~/runs",
        "~",
        "h: 1",
        "*a",
        "5",
        "'q",
        "ä😀",
    ],
)
def test_addresses_and_uris_are_taken_as_they_are_written(text):
    options = make_parser().parse_args(["run", "space.yaml", "--address", text, "--tracking-uri", text])
    found = Document("", "", commands._overrides(options)).data
    assert found == {"resources": {"address": text}, "tracking": {"uri": text}}


def test_an_empty_address_or_uri_is_none():
    options = make_parser().parse_args(["run", "space.yaml", "--address", "", "--tracking-uri", ""])
    found = Document("", "", commands._overrides(options)).data
    assert found == {"resources": {"address": None}, "tracking": {"uri": None}}


@pytest.mark.parametrize(
    "words",
    [
        ["run", "space.yaml"],
        ["run", "space.yaml", "--name", "two words"],
        ["run", "--", "space.yaml"],
        ["run", "--trials", "3", "--", "-space.yaml"],
        ["train", "--", "best.yaml"],
        ["run", "--resume", "--", "space.yaml"],
    ],
    ids=" ".join,
)
def test_the_command_that_resumes_another_is_understood(words):
    options = make_parser().parse_args(words)
    options.words = words
    again = shlex.split(commands._again(options))
    assert again[0] == "ctkd-search"
    resumed = make_parser().parse_args(again[1:])
    options.resume = True
    del options.words
    assert resumed == options


def test_show_lists_the_searches_with_their_best_finished_trial(call):
    digits_search("digits", accuracies=(0.9, 0.75))
    digits_search("none-yet", accuracies=())
    digits_search("done", finished=True)
    code, out, err = call("show")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert re.search(r" 2 +75\.00 % +unfinished", rows["digits"])
    assert re.search(r" 0 +- +unfinished", rows["none-yet"])
    assert re.search(r" 2 +75\.00 % +finished", rows["done"])


def test_show_ranks_the_trials_and_says_how_to_go_on(call):
    digits_search("digits", accuracies=(0.9, 0.75, 0.8))
    code, out, err = call("show", "digits")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if "%" in line and not line.startswith("expert")]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("3", "80.00", "finished"),
        ("1", "90.00", "early"),
        ("2", "75.00", "finished"),
    ]
    assert "expert wrn-16-2: 87.50 % validation accuracy" in out
    assert f"not finished; go on with: {AGAIN}\n" in out
    limited = call("show", "digits", "--limit", "1")[1]
    assert "the best 1 of 3.\n" in limited
    assert "80.00 %" in limited
    assert "75.00 %" not in limited
    digits_search("digits", finished=True)
    finished = call("show", "digits")[1]
    assert "not finished" not in finished
    assert finished.endswith(
        "next: ctkd-search export digits -o best.yaml && ctkd-search train best.yaml\n      ctkd-search ui\n"
    )
    elsewhere = call("show", "digits", "--trials-dir", "./trials/../trials")[1].splitlines()
    assert elsewhere[-1] == "      ctkd-search ui --trials-dir trials/../trials"


def test_show_tells_a_winner_whose_confirmation_had_no_time(call):
    line = (
        "the winner is not confirmed, because the time budget ended before that; raise it, or go on with as much again"
    )
    folder = digits_search("digits", finished=True)
    record = folder.search()
    for confirm in (None, {"best": 1, "seeds": 2}):
        record.space["confirm"] = confirm
        folder.write(record)
        assert ("not confirmed" in call("show", "digits")[1]) is bool(confirm)
    assert f"{line}: {AGAIN}\nnext: " in call("show", "digits")[1]
    (chosen,) = (trial for trial in folder.trials() if trial.number == 2)
    folder.write_trial(dataclasses.replace(chosen, number=3, repeats=2, seed=1))
    assert "not confirmed" not in call("show", "digits")[1]


@pytest.mark.parametrize(("words", "trial"), [([], 2), (["--trial", "1"], 1), (["--trial", "2"], 2)])
def test_export_writes_the_config_of_a_trial_to_a_file_or_to_the_terminal(call, words, trial):
    digits_search("digits")
    code, out, err = call("export", "digits", *words)
    assert (code, err) == (0, "")
    code, said, err = call("export", "digits", "-o", "new/best.yaml", *words)
    assert (code, err) == (0, "")
    assert said == "wrote new/best.yaml; train it with: ctkd-search train new/best.yaml\n"
    assert Path("new/best.yaml").read_text(encoding="utf-8") == out
    assert read_config(Path("new/best.yaml")).config.method.values["alpha"] == trial / 2
    assert yaml.safe_load(out)["reached"]["trial"] == trial


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", [["show", "digits"], ["show"], ["export", "digits"], ["check", DIGITS], ["--help"]])
def test_a_reader_that_goes_away_is_no_failure(words, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    digits_search("digits", accuracies=[0.5] * 30)
    command = [sys.executable, "-m", "ctkd_search", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(60) == 0


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", [["show", "digits"], ["export", "digits"]])
def test_an_output_on_a_full_disk_is_told_in_one_line(words, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    digits_search("digits")
    command = [sys.executable, "-m", "ctkd_search", *words]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert ended.stderr == "ctkd-search: cannot write the output: No space left on device\n"
    assert ended.returncode == 1


@pytest.mark.parametrize("words", [["check", DIGITS], ["run", DIGITS], ["cache"], ["show"]])
def test_a_file_is_no_directory_of_searches(call, words):
    Path("file").touch()
    code, out, err = call(*words, "--trials-dir", "file")
    assert (code, out) == (2, "")
    assert err.endswith("error: argument --trials-dir: file is a file, not a directory\n")


def test_a_name_that_a_shell_has_completed_is_that_of_the_search(call):
    digits_search("digits")
    for words in (["show"], ["export"]):
        assert call(*words, "digits/") == call(*words, "digits")
    for words in (["show"], ["export"], ["report"], ["export", "--format", "onnx"]):
        code, out, err = call(*words, "trials/digits/")
        assert (code, out) == (2, "")
        assert err == "ctkd-search: trials/digits is a path, not the name of a search; did you mean digits?\n"
    assert [path.name for path in Path().iterdir()] == ["trials"]


def test_the_schema_goes_to_standard_output_by_a_dash_too(call):
    assert call("schema", "-o", "-") == call("schema")
    assert list(Path().iterdir()) == []


def test_a_command_without_any_output_ends_well():
    digits_search("digits", accuracies=[0.5])
    command = f"{sys.executable} -m ctkd_search show digits >&-"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_version_is_reported():
    ended = process("--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"ctkd-search {__version__}\n", "")


def test_help_names_every_command_with_an_example(call):
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    assert {"check", "run", "show", "export", "train", "ui"} <= set(COMMANDS)
    assert "ctkd-search run spaces/digits.yaml" in out
    assert "ctkd-search schema --markdown" in out
    assert "Exit codes: 0 done, 1 the work failed, 2 something must be changed first, 130 interrupted" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_explains_each_of_its_arguments(call, command):
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: ctkd-search {command} ")
    assert f"\n  ctkd-search {command}" in out, "there is no example"
    assert "\nExit codes: " in out
    entries = re.findall(r"^  (\S.*(?:\n {3,}\S.*)*)", out.partition("\n\n")[2], flags=re.MULTILINE)
    arguments = [entry for entry in entries if re.match(r"-|[A-Z]+\b", entry)]
    assert len(arguments) >= 3
    assert [entry for entry in arguments if not re.search(r"(  +|\n +)\w.* \w", entry)] == []


def test_the_ui_says_first_that_its_port_is_taken(call):
    Path("trials").mkdir()
    Path("trials/mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = call("ui", "--port", port)
    assert (code, out) == (2, "")
    said = f"ctkd-search: cannot serve on port {port} of 127.0.0.1: another process listens on it; choose another port"
    assert err.startswith(said)
    assert re.search(r", as in --port \d+\n$", err)
