"""A search as an object: what it shows is what its records have."""

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from support.cli import digits_search
from support.factories import a_search, a_trial, digits_space
from support.small_search import EPOCHS, SmallSearch

import ctkd_search
from ctkd_search.analysis.standing import verdicts
from ctkd_search.display.tables import WINNER, Row, Table, as_html
from ctkd_search.errors import UserError
from ctkd_search.records.config_file import read_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three trials, one of them stopped, a baseline, and two fresh seeds of the best and of the baseline."""
    root = tmp_path_factory.mktemp("small") / "trials"
    made = SmallSearch(root, baselines=["student-alone"])
    record, splits = made.folder.search(), made.splits
    record.geometry, record.mean, record.std = list(splits.geometry), list(splits.mean), list(splits.std)
    made.folder.write(record)
    first, second = made.explore(lr=0.02), made.explore(lr=0.1, step_loss="mse")
    made.explore(epochs=2, lr=0.05)
    baseline = made.baseline("student-alone")
    best = max((first, second), key=lambda trial: (trial.accuracy, -trial.number))
    for trial in (best, baseline):
        for seed in (1, 2):
            made.confirm(trial, seed)
    return made


@pytest.fixture
def search(small):
    return ctkd_search.load("small", small.root)


def test_the_trials_are_a_row_each_with_their_metrics_and_values(small, search):
    found = search.trials
    assert found["trial"].tolist() == [trial.number for trial in small.trials]
    assert found["kind"].tolist() == ["trial"] * 3 + ["baseline"] + ["confirmation"] * 4
    assert found["status"].tolist() == [trial.status for trial in small.trials]
    for metric in ("validation_accuracy",):
        assert found[metric].tolist() == [trial.epochs[-1][metric] for trial in small.trials]
    assert found["lr"].tolist() == [trial.values["lr"] for trial in small.trials]
    assert found["attention_layers"].dropna().map(type).unique().tolist() == [tuple]
    assert found["repeats"].dropna().tolist() == [trial.repeats for trial in small.trials if trial.repeats]
    assert found["confirmed_seeds"].dropna().tolist() == [2, 2]
    assert (found["validation_accuracy"].dtype, found["confirmed_mean"].dtype) == (float, float)
    assert len(found.groupby(["step_loss", "attention_layers"])) >= 2


def test_the_epochs_are_a_row_for_each_epoch_of_each_trial(small, search):
    found = search.epochs
    assert len(found) == 7 * EPOCHS + 2
    assert found.groupby("trial")["epoch"].max().tolist() == [len(trial.epochs) for trial in small.trials]
    for trial in small.trials:
        own = found[found["trial"] == trial.number]
        assert own["loss"].tolist() == [epoch["loss"] for epoch in trial.epochs]
        assert [int(at.timestamp() * 1000) for at in own["at"]] == [epoch["at"] for epoch in trial.epochs]
    assert str(found["at"].dt.tz) == "UTC"


def test_the_winner_the_confirmed_and_the_verdicts_are_those_of_the_leaderboard(small, search, call):
    _, shown, _ = call("show", "small", "--trials-dir", small.root)
    best, found = search.best, search.confirmed
    assert found.loc[found["winner"], "trial"].tolist() == [best.number]
    assert found["baseline"].dropna().tolist() == ["student-alone"]
    assert found.set_index("baseline").loc["student-alone", "method"] == "none"
    means = found.set_index("trial")["mean"]
    for number, mean in means.items():
        repeated = [trial.accuracy for trial in small.trials if trial.repeats == number]
        assert mean == pytest.approx(sum(repeated) / 2)
        assert f"{100 * mean:.2f} %" in shown
    other = found[~found["winner"]].iloc[0]
    assert other["difference"] == pytest.approx(other["mean"] - means[best.number])
    assert search.verdicts == verdicts(small.trials)
    assert all(sentence in shown for sentence in search.verdicts)


def test_the_leaderboard_has_the_cells_of_the_command(small, search, call):
    _, shown, _ = call("show", "small", "--trials-dir", small.root, "--limit", 2)
    board = search.leaderboard(limit=2)
    assert len(board) == 2
    lines = shown.splitlines()
    head = next(number for number, line in enumerate(lines) if line.split()[:2] == ["#", "validation"])
    for offset, (_, row) in enumerate(board.iterrows()):
        cells = [cell for cell in row if cell]
        assert " ".join(lines[head + 2 + offset].split()) == " ".join(cells)


def test_a_leaderboard_is_as_long_as_is_wanted(search):
    import numpy as np

    whole = search.leaderboard(None)
    assert len(whole) == len(search.leaderboard()) > 1
    assert search.leaderboard(np.int64(1)).equals(whole[:1])


def test_a_trial_is_a_copy_that_changes_nothing(small, search):
    best = search.best
    before = repr(vars(best))
    best.values.clear()
    best.epochs.clear()
    assert repr(vars(search.best)) == before
    assert search.best.values["lr"] == small.trials[best.number - 1].values["lr"]
    assert repr(search.best).startswith(f"<Trial {best.number} (")


def test_the_student_is_that_of_the_trial_and_its_onnx_file_returns_the_same(small, search, tmp_path):
    student = search.student()
    path = search.export(tmp_path / "student.onnx")
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    with torch.inference_mode():
        expected = student(torch.from_numpy(images)).numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {"images": images})[0] - expected).max() < 1e-4
    # It was trained: on the images that were held out it is as good as its record says.
    held_out = small.splits.validation
    with torch.inference_mode():
        found = student(torch.from_numpy(held_out.pixels)).argmax(dim=1).numpy()
    assert (found == held_out.labels).mean() == pytest.approx(search.best.value, abs=2 / len(held_out))
    assert not student.training


def test_a_student_in_int8_or_half_precision_is_written_with_its_measurements(search, tmp_path):
    path = search.export(tmp_path / "small.onnx", int8=True, max_drop=100)
    assert (tmp_path / "small.onnx.md").is_file()
    assert "int8" in onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    half = search.export(tmp_path / "half.onnx", half=True, max_drop=100)
    assert half.stat().st_size < 0.6 * search.export(tmp_path / "plain.onnx").stat().st_size
    assert "float16" in onnxruntime.InferenceSession(half).get_modelmeta().custom_metadata_map


def test_a_config_is_exported_as_the_command_exports_it(small, search, tmp_path, call):
    path = search.export(tmp_path / "best.yaml")
    _, shown, _ = call("export", "small", "--trials-dir", small.root)
    assert path.read_text() == search.config() == shown
    assert read_config(search.export(tmp_path / "one.yaml", trial=1)).config.train.lr == 0.02
    assert "best_configs_of: small" in search.export(tmp_path / "c.yaml", format="configs").read_text()


def test_the_report_is_written_where_it_is_wanted(search, tmp_path):
    assert search.report(tmp_path / "page") == tmp_path / "page" / "index.html"
    assert "small" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda search: search.export("a.txt"), "the suffix of an exported file sets its format"),
        (lambda search: search.export("a.onnx", format="yaml"), "contradict each other"),
        (
            lambda search: search.export("a.onnx", format="tflite"),
            "the format must be one of yaml, configs",
        ),
        (lambda search: search.export("a.yaml", format="configs", trial=1), "leave --trial and --final out"),
        (lambda search: search.export(3), "path must be a path, but got 3"),
        (lambda search: search.export("a.onnx", max_drop=1), "add --int8 or --half"),
        (lambda search: search.export("a.onnx", int8=True, half=True), "--int8 and --half are two precisions"),
        (lambda search: search.export("a.pt2", int8=True), "--int8 writes an ONNX file, but the format is torch"),
        (lambda search: search.export("a.onnx", int8=True, max_drop=-1), "max_drop must be a number of percentage poi"),
        (lambda search: search.export("a.onnx", int8=True, tune_epochs=0), "tune_epochs must be a whole number of at"),
        (lambda search: search.export("a.onnx", int8=True, tune_epochs=True), "tune_epochs must be a whole number of"),
        (lambda search: search.leaderboard(True), "limit must be a whole number of at least 1, but got True"),
        (lambda search: search.leaderboard(0), "limit must be a whole number of at least 1, but got 0"),
        (lambda search: search.config(99), "there is no trial 99"),
        (lambda search: search.student(3), "the student of trial 3 was not kept|there is no trial"),
        (lambda search: search.study, "search 'small' has no study yet"),
        (
            lambda search: ctkd_search.load("smal", search.trials_dir),
            "there is no search 'smal' in .*; did you mean small?",
        ),
        (lambda search: ctkd_search.load(3), "the name of a search must be text, but got 3"),
        (lambda search: ctkd_search.load("small", None), "trials_dir must be a path, but got None"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(search, act, reason, own_directory, small):
    (small.folder.states / "00003.pt").unlink(missing_ok=True)
    with pytest.raises(UserError, match=reason) as refused:
        act(search)
    assert "\n" not in str(refused.value)
    assert list(Path().iterdir()) == []


def test_it_is_shown_with_its_leaderboard_in_a_notebook(search):
    shown = search._repr_html_()
    assert shown.count("<table>") == 3
    assert all(sentence in shown for sentence in search.verdicts)
    assert "font-weight: bold" in shown
    assert repr(search).startswith("<Search 'small': 3 trials, 1 stopped early, best ")


def test_a_table_in_html_is_text():
    shown = as_html(Table("<i>", ["a & b", "n"], [Row(["<script>", "1"], WINNER), Row(['"', "2"])], {1}))
    assert "<script>" not in shown
    assert "<i>" not in shown
    assert shown.count("text-align: right") == 3
    assert shown.count("font-weight: bold") == 2


def test_a_search_without_a_trial_has_empty_frames(tmp_path):
    a_search(tmp_path, [], digits_space(), name="digits")
    search = ctkd_search.load("digits", tmp_path)
    assert (len(search.trials), len(search.epochs), len(search.leaderboard()), len(search.confirmed)) == (0, 0, 0, 0)
    assert {"trial", "validation_accuracy", "status"} <= set(search.trials.columns)
    assert list(search.epochs.columns) == ["trial", "epoch"]
    assert (search.best, search.verdicts, search.finals) == (None, [], [])
    assert repr(search) == "<Search 'digits': 0 trials, 0 stopped early; not finished>"
    assert "<table>" in search._repr_html_()


def test_a_diverged_trial_has_no_value(tmp_path):
    space = digits_space()
    lost = a_trial(
        1, status="diverged", space=space, stored=space.paper_point(), epochs=[{"epoch": 1, "loss": math.nan}]
    )
    lost.epochs[0]["seconds"] = 1.0
    a_search(tmp_path, [lost], space, name="digits")
    search = ctkd_search.load("digits", tmp_path)
    assert search.trials["validation_accuracy"].isna().all()
    assert search.best is None


def test_the_searches_of_a_directory_are_a_row_each(own_directory, capsys):
    assert len(ctkd_search.searches()) == 0
    digits_search("first", finished=True)
    digits_search("second", accuracies=())
    broken = digits_search("third")
    (broken.path / "search.json").write_text("{")
    found = ctkd_search.searches()
    assert found["name"].tolist() == ["first", "second"]
    assert found["trials"].tolist() == [2, 0]
    assert found["finished"].tolist() == [True, False]
    assert found["best"][0] == 0.75
    assert math.isnan(found["best"][1])
    assert "left out" in capsys.readouterr().err
