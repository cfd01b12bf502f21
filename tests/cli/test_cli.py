"""The commands: what they print, and how they answer whatever a user may have got wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from support.layouts import BROKEN_IMAGE

from ctkd_search import __version__
from ctkd_search.cli.parser import make_parser
from ctkd_search.config import plain
from ctkd_search.records.config_file import read_config
from ctkd_search.records.store import FINISHED, STOPPED, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.space.reader import read_space

SPACES = Path(__file__).parents[2] / "spaces"
DIGITS = str(SPACES / "digits.yaml")
COMMANDS = re.findall(r"^    (\w+) +\w", make_parser().format_help(), flags=re.MULTILINE)
A_CONFIG = """\
name: digits
pair: wrn-16-2/resnet8
epochs: 1
method: {{name: ctkd, step_loss: kl, temperature: 4, alpha: 1, beta: 60, attention_layers: [1, 2, 3]}}
dataset: {{name: {dataset}}}
"""
# What only a command that did its work would say.
DONE = ("wrote", "took", "registered", "best:", "validation |", "parameter")
AGAIN = "ctkd-search run 'spaces[1]/digits.yaml' --set 'search.step_loss={choice: [kl, mse]}' --name :x: --resume"

pytestmark = pytest.mark.usefixtures("own_directory")


@functools.cache
def digits_space():
    return read_space(Path(DIGITS))


def a_search(name, finished=False, accuracies=(0.5, 0.75)):
    """Writes a search of the digits into ./trials, as if it had run."""
    space = digits_space()
    values = {field.name: None for field in dataclasses.fields(SearchRecord) if field.name != "format"}
    values |= {"name": name, "space": plain(dict(space.raw)), "started": "2026-01-02T03:04:05+00:00", "again": AGAIN}
    values |= {"versions": {}, "fingerprint": "f" * 64, "classes": list("0123456789"), "tracking_uri": "sqlite:///x"}
    values |= {"experts": {"wrn-16-2": 0.875}, "finished": finished}
    folder = SearchFolder(Path("trials"), name)
    folder.write(SearchRecord(**values))
    for number, accuracy in enumerate(accuracies, start=1):
        stored = {**space.paper_point(), "alpha": number / 2}
        epochs = [{"epoch": 1, "validation_accuracy": accuracy, "validation_loss": 0.5, "seconds": 1.0}] * number
        chosen = plain(space.effective(space.decode(stored)))
        status = STOPPED if number == 1 else FINISHED
        folder.write_trial(TrialRecord(number, chosen, stored, space.seed, status=status, epochs=epochs))
    return folder


def process(*words, **options):
    """Runs a command in a process of its own."""
    command = [sys.executable, "-m", "ctkd_search", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.fixture(scope="module")
def _mistaken(tmp_path_factory):
    """A directory of two searches, and files with which something is wrong."""
    directory = tmp_path_factory.mktemp("mistaken")
    with contextlib.chdir(directory):
        make_mistakes()
    return directory


@pytest.fixture
def mistakes(own_directory, _mistaken):
    shutil.copytree(_mistaken, ".", dirs_exist_ok=True)


def make_mistakes():
    a_search("digits")
    a_search("done", finished=True, accuracies=[0.5] * 24)
    for name, text in {
        "tab.yaml": "name: x\nsearch:\n\tlr: 0.1\n",
        "empty.yaml": "",
        "unknown.yaml": "name: x\ndataset: {name: mnist}\nsearch: {alpha: {float: [0.1, 1]}}\n",
        "broken.yaml": "name: x\npair: wrn-16-2/resnet8\nepochs: none\n",
        "nul.yaml": "name: \x00",
        "good.yaml": A_CONFIG.format(dataset="digits"),
        "images.yaml": A_CONFIG.format(dataset="folder, root: images, image_size: 8"),
        "file": "",
    }.items():
        Path(name).write_text(text)
    for name in ("broken", "older"):
        a_search(name)
    Path("trials/broken/records/00001.json").write_text("{")
    Path("trials/older/search.json").write_text('{"name": "older"}')
    Path("folder").mkdir()
    for split, classes in (("train", ("ant", "bee")), ("test", ("ant",))):
        for name in classes:
            Path("images", split, name).mkdir(parents=True)
            Path("images", split, name, "1.png").write_bytes(BROKEN_IMAGE)
    Path("elsewhere/x").mkdir(parents=True)


MISTAKES = {
    "check none.yaml": "there is no file none.yaml",
    "run none.yaml": "there is no file none.yaml",
    "train none.yaml": "there is no file none.yaml",
    "check folder": "cannot read folder: Is a directory",
    "train folder": "cannot read folder: Is a directory",
    "check tab.yaml": "tab.yaml, line 3: not valid YAML",
    "check nul.yaml": "nul.yaml",
    "check empty.yaml": "dataset is missing; there are: cifar10, ",
    "check unknown.yaml": "line 2: dataset.name unknown data set 'mnist'; there are: cifar10, ",
    "run unknown.yaml --name y": "line 2: dataset.name unknown data set 'mnist'; there are: cifar10, ",
    "check DIGITS --set foo": "--set takes KEY=VALUE, as in train.batch_size=64, but got 'foo'",
    "check DIGITS --set tran.lr=1": "--set tran.lr: tran is not a known key (did you mean train?)",
    "check DIGITS --set train.lr=2020-13-45": "--set train.lr: ",
    "check DIGITS --set budget.trials=few": "budget.trials must be a whole number, but got 'few'",
    "check DIGITS --trials 0": "budget.trials must be at least 1, but got 0",
    "run DIGITS --time-budget soon": "budget.time_budget must be a duration such as 90s, 45m or 1h30m, but got 'soon'",
    "run DIGITS": "search 'digits' already exists in trials; go on with it by adding --resume, or choose another",
    "run DIGITS --name done": "search 'done' has finished; see it with: ctkd-search show done; extend it with --trials",
    "run DIGITS --name done --warm-start digits": "--warm-start applies only to a new search, but 'done' has begun",
    "run DIGITS --name y --warm-start z": "there is no search 'z' in trials; there are: broken, digits, done, older",
    "run DIGITS --name a/b": "--name must be letters, digits, '.', '_' and '-', at most 63",
    "run DIGITS --name ..": "--name must be letters, digits",
    "run DIGITS --name EMPTY": "--name must be letters, digits",
    "run DIGITS --name y --resume": "there is no search 'y' in trials; there are: broken, digits, done, older",
    "run DIGITS --name done --resume": "search 'done' has finished; see it with: ctkd-search show done",
    "run DIGITS --resume --epochs 30": "choose another --name:\n  budget.epochs: 12 before, 30 now",
    "run DIGITS --resume --set search.lr=0.1": "\n  search.lr: {'float': [0.01, 0.3], 'log': True} before, 0.1 now",
    "run DIGITS --name y --trials-dir file": "cannot write to the directory file",
    "show y": "there is no search 'y' in trials; there are: broken, digits, done, older",
    "show older": "the search in trials/older has format 0, and ctkd-search",
    "show --trials-dir elsewhere": "there are no searches in elsewhere; begin one with: ctkd-search run",
    "show x --trials-dir elsewhere": "there is no search 'x' in elsewhere; there are: none yet",
    "show digits --limit 0": "--limit: must be a whole number of at least 1, but got '0'",
    "export y": "there is no search 'y' in trials; there are: broken, digits, done, older",
    "export digits --trial 9": "there is no trial 9; ctkd-search show lists the trials",
    "export digits -o file/best.yaml": "cannot write to the directory file",
    "export digits -o folder": "folder",
    "export digits -o student.pt": "must be one of .onnx (onnx), .pt2 (torch), .yaml (yaml), .yml (yaml)",
    "export digits -o student.safetensors --format onnx": "but student.safetensors ends in '.safetensors'",
    "export digits -o best": "but best has no suffix",
    "export digits -o x.onnx --format torch": "--format torch and -o x.onnx contradict each other: .onnx is for onnx",
    "run good.yaml": "good.yaml is the config of one training, not a space; train it with: ctkd-search train good.yaml",
    "check good.yaml": "good.yaml is the config of one training, not a space",
    "check trials/digits/search.json": "search.json is the record of a search",
    "train digits": "digits is a search, but train takes a file; write its best config with: ctkd-search export digits",
    "run good": "there is no file good; did you mean good.yaml?",
    "show trials/digits/search.json": "trials/digits/search.json is a file, not the name of a search",
    "show digit": "did you mean digits?",
    "check DIGITS --set name=1e3": "must be text, but 1e3 without quotes is a number in YAML; put it in quotes: '1e3'",
    "check DIGITS --set train.lr=.inf --set search={}": "train.lr must be finite and greater than 0, but got inf",
    "check DIGITS --set seed=9007199254740992": "seed must be in [0, 9007199254740991], but got 9007199254740992",
    "train good.yaml --seed 9007199254740992": "--seed: must be a whole number from 0 to 9007199254740991",
    "run DIGITS --name Digits": "must differ from the existing 'digits' in more than upper and lower case",
    "run DIGITS --name x-final": "must not end in -final, as the registered students of final trainings do",
    "run DIGITS --name Teachers": "--name must not be 'Teachers', which is reserved",
    "train DIGITS": "digits.yaml is a space; run it with: ctkd-search run",
    "train broken.yaml": "broken.yaml has 3 errors:",
    "train good.yaml --seeds 0": "--seeds: must be a whole number of at least 1, but got '0'",
    "train good.yaml --seeds many": "--seeds: must be a whole number of at least 1, but got 'many'",
    "train good.yaml --new-streams": "--new-streams has no effect with one seed; add --seeds N, or leave it out",
    "train good.yaml --baselines kdd": "--baselines: unknown baseline 'kdd'; there are: student-alone, label",
    "train good.yaml --baselines kd,kd": "--baselines: kd is duplicated; name it once",
    "train good.yaml --resume": "there is no unfinished final training in trials/digits; leave --resume out to begin",
    "train good.yaml --concurrent 0": "resources.concurrent_trials must be at least 1, but got 0",
    "train good.yaml --cpus-per-trial x": "resources.cpus_per_trial must be a whole number, but got 'x'",
    "train good.yaml --trials-per-gpu 2 --gpus-per-trial 1": "cannot be combined with gpus_per_trial; leave one",
    "train good.yaml --device cpu --gpus-per-trial 1": "--device cpu cannot be combined with GPUs for each trial",
    "train good.yaml --device cuda --gpus-per-trial 0": "--device cuda cannot be combined with --gpus-per-trial 0",
    "train good.yaml --device tpu": "invalid choice: 'tpu'",
    "train good.yaml --tracking-uri http://a:b@c": "tracking.uri has a password in it",
    "train good.yaml --trials-dir file": "the directory file",
    "train images.yaml": "images/test has no class 'bee', which images/train has",
    "train broken.yaml --epochs 0": "--epochs: must be a whole number of at least 1, but got '0'",
    "ui --trials-dir elsewhere": "no search has been run in elsewhere yet; run one first, or choose another "
    "--trials-dir",
    "ui --port 0": "--port: must be a whole number from 1 to 65535, but got '0'",
    "": "the following arguments are required: COMMAND",
    "serch": "invalid choice: 'serch'",
    "export": "the following arguments are required: NAME",
}


@pytest.mark.usefixtures("mistakes")
@pytest.mark.parametrize(("words", "answer"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_answered_with_exit_code_2_and_what_to_do(call, words, answer):
    before = sorted(Path.cwd().rglob("*"))
    code, out, err = call(*({"DIGITS": DIGITS, "EMPTY": ""}.get(word, word) for word in words.split()))
    assert code == 2
    assert answer in err
    assert "ctkd-search" in err.splitlines()[0]
    assert not any(word in out for word in DONE)
    assert "Traceback" not in out + err
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.mark.usefixtures("mistakes")
@pytest.mark.parametrize(
    "words", ["check none.yaml", "check nul.yaml", "export digits -o folder", "show older", "check"]
)
def test_a_mistake_leaves_no_traceback_in_a_shell(words):
    ended = process(*words.split())
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(("ctkd-search: ", "usage: "))
    assert "Traceback" not in ended.stderr


def test_a_gpu_that_there_is_not_is_refused_for_the_final_training(call):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    a_search("digits")
    assert call("export", "digits", "-o", "best.yaml")[0] == 0
    code, out, err = call("train", "best.yaml", "--device", "cuda")
    assert (code, out) == (2, "")
    assert err == "ctkd-search: --device cuda needs a GPU, but torch finds none; leave it out to use the CPU\n"
    assert not list(Path("trials").glob("**/final-*"))


def test_a_final_training_that_no_disk_holds_is_refused_before_it_begins(call):
    a_search("digits")
    assert call("export", "digits", "-o", "best.yaml")[0] == 0
    code, _, err = call("train", "best.yaml", "--epochs", "1000000000000")
    assert code == 2
    assert err.startswith("ctkd-search: teachers.mode the teachers' logits take ")
    assert not list(Path("trials").glob("**/final-*"))


@pytest.mark.slow
def test_gpus_that_there_are_not_are_refused_for_a_search():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    ended = process("run", DIGITS, "--gpus-per-trial", "1")
    assert ended.returncode == 2
    assert ended.stderr.strip() == (
        "ctkd-search: resources.gpus_per_trial is 1, but the GPUs found are none; lower it, or set it to 0 for the CPU"
    )
    assert not Path("trials/digits").exists()


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_check_shows_every_parameter_examples_and_the_cost(call, path):
    code, out, err = call("check", path, "--no-measure")
    assert (code, err) == (0, "")
    space = read_space(path)
    for name, parameter in space.parameters.items():
        row = next(line for line in out.splitlines() if line.split()[:1] == [name])
        assert parameter.help in row
        # What is long goes on below.
        parts = str(space.entries[name]).split(" | ") if name in space.entries else ["fixed: "]
        assert parts[0].split(" -> ")[0] in row
        assert all(word in out for part in parts for word in part.split())
    drawn = [line.split()[1] for line in out.splitlines() if re.match(r"  [1-4]  ", line)]
    assert len(drawn) == 4
    assert set(drawn) <= {space.short_pair(pair) for pair in space.pairs()}
    assert f"{space.budget.trials} trials of up to {space.budget.epochs} epochs" in out
    assert not list(Path.cwd().iterdir())


def test_check_shows_conditions_and_the_papers_settings_first(call):
    _, out, _ = call("check", DIGITS, "--no-measure")
    assert re.search(r"^ temperature +1 to 20, log +step_loss is kl +temperature that softens", out, flags=re.MULTILINE)
    assert "\n  1  wrn-16-2/resnet8 kl T=4 a=1 b=60 L1,2,3 lr=0.1\n" in out


def test_check_counts_what_the_digits_would_cost(call):
    _, out, _ = call("check", DIGITS, "--no-measure", "--set", "budget.time_budget=1h30m")
    assert "24 trials of up to 12 epochs: 288 epochs in all, or about 96 with early stopping" in out
    assert "after epochs 2, 6 about one trial in 3 goes on" in out
    assert "time: at most 1 h 30 min" in out
    assert "teachers, recorded once and replayed to every trial, 12 epochs each: wrn-16-2, wrn-16-1" in out
    _, out, _ = call("check", DIGITS, "--no-measure", "--trials", "5", "--epochs", "2")
    assert "5 trials of up to 2 epochs: 10 epochs in all, or about 10 with early stopping" in out
    assert "ASHA" not in out


def test_check_shows_networks_and_room_without_a_network_built_or_a_step_taken(call):
    _, out, _ = call("check", DIGITS, "--no-measure")
    rows = [line.split() for line in out.splitlines()]
    assert ["resnet8", "student", "77,754", "763,520", "16x8x8,", "32x4x4,", "64x2x2"] in rows
    assert "trajectory: 12 epochs of 1,222 images, 293 kB for each of 2 teachers" in out
    assert "teachers.cache_limit is 20GB" in out
    assert "measuring" not in out


def test_check_shows_which_files_the_user_must_bring(call, tmp_path):
    code, out, _ = call("check", SPACES / "imagenet.yaml", "--no-measure", f"--set=dataset.root={tmp_path}")
    assert code == 0
    assert f"not downloaded yet: ImageNet is not in {tmp_path}: it must contain the directories train and val" in out


def test_check_measures_steps_and_estimates_the_time(call):
    overrides = ("--set", "search.pair=wrn-10-1/resnet8", "--set", "baselines=[kd]", "--set", "budget.time_budget=10s")
    code, out, err = call("check", DIGITS, *overrides, "--concurrent", "1")
    assert (code, err) == (0, "")
    assert "measuring a few steps on this machine, for at most about 10 s (--no-measure leaves it out)" in out
    assert "time, estimated: 1 trial at once" in out
    rows = {line.split("  ")[0].strip() for line in out.splitlines()}
    assert {"teachers", "trials", "baselines", "confirmation", "in all"} <= rows
    assert "budget.time_budget ends it after 10 s, before all trials are done" in out
    assert not list(Path.cwd().iterdir())


def test_check_estimates_nothing_for_another_machine(call):
    import torch

    many = str(torch.cuda.device_count() + 1)
    code, out, _ = call("check", DIGITS, "--gpus-per-trial", many)
    assert code == 0
    assert "no time is estimated, because this machine cannot run the space" in out


@pytest.mark.parametrize("key", ["gpus_per_trial", "cpus_per_trial", "concurrent_trials"])
def test_check_reports_without_measuring_that_run_refuses_more_than_there_is(call, key):
    asked = ("--no-measure", "--set", f"resources.{key}=4096")
    code, out, _ = call("check", DIGITS, *asked)
    assert code == 0
    assert f"warning: this machine cannot run the space: resources.{key} is 4096, but " in out
    # Of a cluster that is not joined nothing is known.
    _, out, _ = call("check", DIGITS, *asked, "--set", "resources.address=127.0.0.1:6379")
    assert "refuses" not in out
    assert "4096, but" not in out


def test_check_shows_when_teachers_are_live(call):
    _, out, _ = call("check", DIGITS, "--no-measure", "--set", "teachers.mode=live")
    assert "teachers, live, in every trial, 12 epochs each: wrn-16-2, wrn-16-1" in out


def test_check_reports_nothing_beside_its_tables_where_a_range_is_no_multiple_of_its_step(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, _, err = call("check", DIGITS, "--no-measure", "--set", "search.momentum={float: [0.5, 0.95], step: 0.1}")
    assert (code, err) == (0, "")


def test_set_wins_over_an_option_and_the_last_set_over_the_first(call):
    _, out, _ = call(
        "check", DIGITS, "--no-measure", "--set", "budget.trials=7", "--set", "budget.trials=8", "--trials", "9"
    )
    assert "budget: 8 trials" in out


def test_show_lists_the_searches_with_their_best_finished_trial(call):
    a_search("digits", accuracies=(0.9, 0.75))
    a_search("none-yet", accuracies=())
    a_search("done", finished=True)
    code, out, err = call("show")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert re.search(r" 2 +75\.00 % +unfinished", rows["digits"])
    assert re.search(r" 0 +- +unfinished", rows["none-yet"])
    assert re.search(r" 2 +75\.00 % +finished", rows["done"])


def test_show_ranks_the_trials_and_says_how_to_go_on(call):
    a_search("digits", accuracies=(0.9, 0.75, 0.8))
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
    a_search("digits", finished=True)
    assert "not finished" not in call("show", "digits")[1]


@pytest.mark.parametrize(("words", "trial"), [([], 2), (["--trial", "1"], 1), (["--trial", "2"], 2)])
def test_export_writes_the_config_of_a_trial_to_a_file_or_to_the_terminal(call, words, trial):
    a_search("digits")
    code, out, err = call("export", "digits", *words)
    assert (code, err) == (0, "")
    code, said, err = call("export", "digits", "-o", "new/best.yaml", *words)
    assert (code, err) == (0, "")
    assert said == "wrote new/best.yaml; train it with: ctkd-search train new/best.yaml\n"
    assert Path("new/best.yaml").read_text(encoding="utf-8") == out
    assert read_config(Path("new/best.yaml")).config.method["alpha"] == trial / 2
    assert yaml.safe_load(out)["reached"]["trial"] == trial


@pytest.mark.parametrize("words", [["show", "digits"], ["show"], ["export", "digits"], ["check", DIGITS], ["--help"]])
def test_a_reader_that_goes_away_is_no_failure(words):
    a_search("digits", accuracies=[0.5] * 30)
    command = [sys.executable, "-m", "ctkd_search", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(60) == 0


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


def test_a_large_seed_is_taken_by_check_as_by_a_search(call):
    code, _, err = call("check", DIGITS, "--no-measure", "--set", "seed=202410150930")
    assert (code, err) == (0, "")


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
