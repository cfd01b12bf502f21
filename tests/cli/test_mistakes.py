"""Answers of the commands to mistakes of the user."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from support.cli import digits_search, process
from support.factories import DIGITS, digits_space
from support.layouts import BROKEN_IMAGE

from ctkd_search.records.store import FAILED
from ctkd_search.search.comparisons import missing_confirmations

pytestmark = pytest.mark.usefixtures("own_directory")

A_CONFIG = """\
name: digits
pair: wrn-16-2/resnet8
epochs: 1
method: {{name: ctkd, step_loss: kl, temperature: 4, alpha: 1, beta: 60, attention_layers: [1, 2, 3]}}
dataset: {{name: {dataset}}}
"""

# What only a command that did its work would say.
DONE = ("wrote", "took", "registered", "best:", "validation |", "parameter")


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
    digits_search("digits")
    done = digits_search("done", finished=True, accuracies=[0.5] * 24)
    for repeated in missing_confirmations(digits_space(), {trial.number: trial for trial in done.trials()}, {}):
        done.write_trial(dataclasses.replace(repeated, status=FAILED))
    for name, text in {
        "tab.yaml": "name: x\nsearch:\n\tlr: 0.1\n",
        "empty.yaml": "",
        "unknown.yaml": "name: x\ndataset: {name: mnist}\nsearch: {alpha: {float: [0.1, 1]}}\n",
        "broken.yaml": "name: x\npair: wrn-16-2/resnet8\nepochs: none\n",
        "nul.yaml": "name: \x00",
        "good.yaml": A_CONFIG.format(dataset="digits"),
        "images.yaml": A_CONFIG.format(dataset="folder, root: images, image_size: 8"),
        "listed.yaml": "best_configs_of: x\n",
        "file": "",
    }.items():
        Path(name).write_text(text)
    for name in ("broken", "older"):
        digits_search(name)
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
    "check DIGITS --set teachers.storage={top:2}": "--set teachers.storage: 'top:2' in '{top:2}' needs a space after",
    "check DIGITS --set tran.lr=1": "--set tran.lr: tran is not a known key (did you mean train?)",
    "check DIGITS --set train.lr=2020-13-45": "--set train.lr: ",
    "check DIGITS --set budget.trials=few": "budget.trials must be a whole number, but got 'few'",
    "check DIGITS --trials 0": "budget.trials must be at least 1, but got 0",
    "run DIGITS --time-budget soon": "budget.time_budget must be a duration such as 90s, 45m or 1h30m, but got 'soon'",
    "run DIGITS": "search 'digits' already exists in trials; go on with it by adding --resume, or choose another",
    "run DIGITS --name done": "search 'done' has finished; see it with: ctkd-search show done; extend it with --trials",
    "run DIGITS --name done --warm-start digits": "--warm-start applies only to a new search, but 'done' has begun",
    "run DIGITS --name y --warm-start z": "there is no search 'z' in trials; there are: broken, digits, done, older",
    "run DIGITS --name y --warm-start digits --warm-start digits": "--warm-start digits is given twice; name it once",
    "run DIGITS --name y --warm-start y": "--warm-start y is the search itself; name another one, or leave it out",
    "run DIGITS --name y --warm-start publisht": "there is no search 'publisht' in trials; did you mean published?",
    "run DIGITS --name y --warm-start published/digit": "did you mean published/digits?",
    "run DIGITS --name y --warm-start older": "the search in trials/older has format 0, and ctkd-search",
    "run DIGITS --name y --warm-start none.yaml": "there is no file none.yaml",
    "run DIGITS --name y --warm-start good.yaml": "good.yaml is not a file of a search's best configs; write one with: "
    "ctkd-search export NAME --format configs -o FILE",
    "run DIGITS --name y --warm-start listed.yaml": "best configs listed.yaml has format 0, and ctkd-search",
    'run DIGITS --name y --set search={"method":"sp","lr":{"float":[0.01,0.1]}} --warm-start published': "--warm-start "
    "published brings nothing to this search, because the methods of its configs (ctkd, kd, none, dkd, at, dist) are",
    "run listed.yaml": "listed.yaml has the best configs of a search; begin another search from it with: ",
    "train listed.yaml": "listed.yaml has the best configs of a search; begin another search from it with: ctkd-search",
    "export digits --format configs --trial 1": "--format configs exports the best configs of a search; leave --trial",
    "export digits --format configs --final": "--format configs exports the best configs of a search; leave --trial",
    "export digits --format configs -o x.onnx": "--format configs and -o x.onnx contradict each other: .onnx is",
    "run DIGITS --name a/b": "--name must be letters, digits, '.', '_' and '-', at most 63",
    "run DIGITS --name ..": "--name must be letters, digits",
    "run DIGITS --name EMPTY": "--name must be letters, digits",
    "run DIGITS --name y --resume": "there is no search 'y' in trials; there are: broken, digits, done, older",
    "run DIGITS --name done --resume": "search 'done' has finished; see it with: ctkd-search show done",
    "run DIGITS --resume --epochs 30": "choose another --name:\n  budget.epochs: 12 before, 30 now",
    "run DIGITS --resume --set search.lr=0.1": "\n  search.lr: {'float': [0.01, 0.3], 'log': True} before, 0.1 now",
    "run DIGITS --name y --trials-dir file": "argument --trials-dir: file is a file, not a directory",
    "show y": "there is no search 'y' in trials; there are: broken, digits, done, older",
    "show older": "the search in trials/older has format 0, and ctkd-search",
    "show --trials-dir elsewhere": "there are no searches in elsewhere; begin one with: ctkd-search run",
    "show x --trials-dir elsewhere": "there is no search 'x' in elsewhere; there are: none yet",
    "show --limit 1": "--limit is an option of: ctkd-search show NAME",
    "check-method ctkd --pair EMPTY": "--pair must be TEACHER/STUDENT, as in wrn-40-1/wrn-16-1, or TEACHER -> STUDENT",
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
    "train good.yaml --baselines kd --baselines kd": "--baselines: kd is duplicated; name it once",
    "train good.yaml --baselines kdd --baselines at": "--baselines: unknown baseline 'kdd'; there are: student-alone",
    "train good.yaml --resume": "there is no unfinished final training in trials/digits; leave --resume out to begin",
    "train good.yaml --concurrent 0": "resources.concurrent_trials must be at least 1, but got 0",
    "train good.yaml --cpus-per-trial x": "resources.cpus_per_trial must be a whole number, but got 'x'",
    "train good.yaml --trials-per-gpu 2 --gpus-per-trial 1": "cannot be combined with gpus_per_trial; leave one",
    "train good.yaml --device cpu --gpus-per-trial 1": "--device cpu cannot be combined with GPUs for each trial",
    "train good.yaml --device cuda --gpus-per-trial 0": "--device cuda cannot be combined with --gpus-per-trial 0",
    "train good.yaml --device tpu": "invalid choice: 'tpu'",
    "train good.yaml --tracking-uri http://a:b@c": "tracking.uri has a password in it",
    "train good.yaml --trials-dir file": "argument --trials-dir: file is a file, not a directory",
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


LONG = [
    *("show LONG", "export LONG", "report LONG", "train LONG", "check LONG", "run LONG.yaml", "predict LONG file"),
    *("run DIGITS --name LONG", "run DIGITS --name y --warm-start LONG", "run DIGITS --name y --warm-start LONG.yaml"),
    *("show --trials-dir LONG", "train good.yaml --baselines LONG", "export digits -o LONG.yaml"),
]


@pytest.mark.usefixtures("mistakes")
@pytest.mark.parametrize("words", LONG)
def test_a_name_that_no_file_can_have_is_answered_in_one_line(call, words):
    code, out, err = call(*words.replace("LONG", "x" * 300).replace("DIGITS", str(DIGITS)).split())
    assert (code, out) == (2, "")
    assert re.search(r"there is no|unknown baseline|must be letters|File name too long", err.splitlines()[-1])


HIDDEN = {
    "show x --trials-dir locked": "cannot read locked: Permission denied",
    "show --trials-dir locked/below": "cannot read locked/below: Permission denied",
    "show hidden": "cannot read trials/hidden/search.json: Permission denied",
    "export hidden": "cannot read trials/hidden/search.json: Permission denied",
    "report hidden": "cannot read trials/hidden/search.json: Permission denied",
    "train hidden": "cannot read trials/hidden/search.json: Permission denied",
    "run DIGITS --name hidden": "cannot read the directory trials/hidden: Permission denied",
    "check locked/x.yaml": "cannot read locked/x.yaml: Permission denied",
    "train locked/x.yaml": "cannot read locked/x.yaml: Permission denied",
    "check locked/x.onnx": "cannot read locked/x.onnx: Permission denied",
    "predict locked/x.onnx file": "cannot read locked/x.onnx/MLmodel: Permission denied",
    "ui --tracking-uri sqlite:///locked/x.db": "cannot read locked/x.db: Permission denied",
    "export digits -o locked/x.yaml": "cannot write to the directory locked: Permission denied",
}


@pytest.fixture
def _hidden(mistakes, monkeypatch):
    """Directories of another user's: even root cannot list them, nor look at what is in them, nor open it."""
    places = ("locked", "trials/hidden")
    for path in places:
        Path(path).mkdir()

    def guarded(real, ending=""):
        def call(path, *more, **named):
            if isinstance(path, str | Path) and str(path).startswith(tuple(place + ending for place in places)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, *more, **named)

        return call

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name), "/"))
    monkeypatch.setattr(os, "scandir", guarded(os.scandir))
    monkeypatch.setattr(Path, "open", guarded(Path.open))


@pytest.mark.usefixtures("_hidden")
@pytest.mark.parametrize(("words", "answer"), HIDDEN.items(), ids=HIDDEN)
def test_what_the_user_may_not_read_is_named_in_one_line(call, words, answer):
    code, out, err = call(*words.replace("DIGITS", str(DIGITS)).split())
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith(answer), err


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
    digits_search("digits")
    assert call("export", "digits", "-o", "best.yaml")[0] == 0
    code, out, err = call("train", "best.yaml", "--device", "cuda")
    assert (code, out) == (2, "")
    assert err == "ctkd-search: --device cuda needs a GPU, but torch finds none; leave it out to use the CPU\n"
    assert not list(Path("trials").glob("**/final-*"))


def test_a_final_training_that_no_disk_holds_is_refused_before_it_begins(call):
    digits_search("digits")
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
