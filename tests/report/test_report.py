"""The report of a search: its content, that it is self-contained, and what it contains where parts are missing."""

from __future__ import annotations

import errno
import inspect
import io
import re
import shutil
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from support.factories import a_trial
from support.page import Page
from support.small_search import CPU, EPOCHS, RUNG, SmallSearch

from ctkd_search.analysis.standing import confirmed, verdicts, winner
from ctkd_search.cli import main
from ctkd_search.display import comparisons
from ctkd_search.distill import losses
from ctkd_search.distill.build import load_expert, make_trainer
from ctkd_search.distill.weights import load_weights
from ctkd_search.errors import UserError
from ctkd_search.models.cost import costs
from ctkd_search.records.states import state_path
from ctkd_search.records.store import RUNNING, TEACHERS, SearchFolder
from ctkd_search.records.trial_configs import config_of
from ctkd_search.report import curves, facts, figures, optuna_plots, pareto, sections, tables
from ctkd_search.report.attention import AFTER, BEFORE, EXPERT, looks
from ctkd_search.report.page import write_report
from ctkd_search.report.teachers import KeptTeachers, spending
from ctkd_search.students.served import load_student

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("single_thread")]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search with everything; not to be changed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    search = SmallSearch(tmp_path_factory.mktemp("searched"))
    alone, _ = search.baseline("student-alone"), search.baseline("at")
    search.explore()
    search.explore(lr=0.1, attention_layers="1")
    search.explore(RUNG, lr=0.011, step_loss="mse")
    best = winner(search.trials)
    for seed in (1, 2):
        search.confirm(best, seed)
        search.confirm(alone, seed)
    torch.set_num_threads(threads)
    return search


@pytest.fixture
def taken(searched, tmp_path):
    """A copy of the search, to be changed."""
    shutil.copytree(searched.root, tmp_path / "trials")
    return tmp_path / "trials"


@pytest.fixture(scope="module")
def page(searched, tmp_path_factory):
    return Page(write_report(searched.root, "small", tmp_path_factory.mktemp("page")))


def test_it_needs_nothing_beside_it(page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data"):
                assert value.startswith("data:image/png;base64,") or (tag == "a" and "arxiv.org" in value)
    assert page.links == ["https://arxiv.org/abs/1907.09643"]
    style = page.text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|http", style)
    assert page.path.stat().st_size < 5_000_000


def test_its_pictures_are_pictures_described_in_words_and_the_same_as_the_files(page):
    names = "attention best-so-far confirmation cost learning-curves parallel-coordinates slices-1 teaching"
    assert page.files() == names.split()
    files = {path.read_bytes() for path in page.path.parent.glob("*.png")}
    assert set(page.pictures()) == files
    for image, content in zip(page.images, page.pictures(), strict=True):
        assert len(image["alt"]) > 20
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert 900 < picture.width < 1500
            # Something is drawn on it.
            assert np.asarray(picture.convert("L")).std() > 5
    assert len(page.images) == sum(tag == "figcaption" for tag, _ in page.tags)


@pytest.mark.parametrize("backend", ["svg", "agg", "module://matplotlib_inline.backend_inline"])
def test_it_leaves_matplotlib_as_it_was(searched, tmp_path, backend):
    from matplotlib import pyplot

    pyplot.switch_backend(backend)
    own = pyplot.figure()
    before = dict(matplotlib.rcParams)
    write_report(searched.root, "small", tmp_path)
    changed = {key for key, value in matplotlib.rcParams.items() if value != before[key]}
    assert changed == set()
    assert matplotlib.get_backend().lower().endswith(backend.rpartition("_")[2])
    assert pyplot.get_fignums() == [own.number]
    pyplot.close(own)
    pyplot.switch_backend("agg")


def test_it_begins_with_the_answer(searched, page):
    first = next(config for config in confirmed(searched.trials) if config.trial is winner(searched.trials))
    mean, half = 100 * first.estimate.mean, 100 * first.estimate.half_width
    assert (
        f"resnet8, taught by wrn-10-1, reaches {mean:.2f} % validation accuracy in the mean of 2 fresh seeds (95 % "
        f"interval ± {half:.2f} points)." in page.said
    )
    for sentence in verdicts(searched.trials):
        assert f"{sentence[1:]}.".replace("(-", "(−") in page.said
    measured = costs("resnet8", searched.splits.geometry, CPU)
    assert f"{measured['params']:,}" in page.said
    assert f"{measured['multiply_adds']:,}" in page.said
    assert page.said.index("reaches") < page.said.index("Results") < page.said.index("The best config")
    assert "not finished" not in page.said


def test_it_shows_every_trial_and_every_baseline(searched, page):
    for trial in searched.trials:
        if trial.repeats is None:
            assert f" {trial.number} " in page.said
            assert f"{100 * trial.accuracy:.2f} %" in page.said
    assert "student-alone" in page.said
    assert "after epoch reached stopped went on agrees with the end 2 3 1 2 -" in page.said
    assert "Where trials were stopped early: 1 of 3." in page.said


def test_it_has_the_best_config_as_export_writes_it(searched, page, capsys, monkeypatch):
    monkeypatch.chdir(searched.root)
    assert main(["export", "small", "--trials-dir", "."]) == 0
    exported = capsys.readouterr().out
    method = exported.partition("method:")[2].partition("train:")[0]
    assert " ".join(method.split()) in page.said


def test_the_learning_curve_of_the_scratch_teacher_is_that_of_its_training(searched):
    teachers = KeptTeachers(searched.root / TEACHERS, searched.splits.fingerprint)
    config = config_of(searched.space, winner(searched.trials))
    run = teachers.scratch(config)
    assert run.entry in {path.name for path in (searched.root / TEACHERS).iterdir()}
    curve = teachers.curve(run)
    assert len(curve) == EPOCHS
    assert curve[-1] == searched.cache.about(run.expert())["validation_accuracy"]
    assert len(teachers.seconds(run)) == EPOCHS
    assert teachers.experts(config) == [run]
    # Another machine may have resolved the precision in another way.
    other = {"float32": "bfloat16", "bfloat16": "float32"}[run.recipe.precision]
    elsewhere = replace(config.teachers, recipe=replace(config.teachers.recipe, precision=other))
    assert teachers.scratch(replace(config, teachers=elsewhere)) is None


def test_the_attention_maps_are_those_of_the_networks(searched):
    chosen = winner(searched.trials)
    config = config_of(searched.space, chosen)
    teachers = KeptTeachers(searched.root / TEACHERS, searched.splits.fingerprint)
    state = state_path(searched.folder.states, chosen.number)
    found = looks(config, state, searched.splits, teachers)
    assert found.layers == tuple(config.method.values["attention_layers"])
    assert found.compared == min(1000, len(searched.splits.validation))
    networks = {
        EXPERT: load_expert(config, searched.splits, searched.cache, CPU).network,
        BEFORE: make_trainer(config, searched.splits, searched.cache, CPU).student,
        AFTER: load_student(config.student, searched.splits.geometry, load_weights(state)),
    }
    mean, std = (torch.tensor(values) for values in (searched.splits.mean, searched.splits.std))
    inputs = ((torch.tensor(found.images).float() - mean) / std).permute(0, 3, 1, 2)
    for name, network in networks.items():
        with torch.no_grad():
            _, features = network.eval()(inputs)
        for layer in found.layers:
            expected = losses.attention_map(features[layer - 1]).reshape(found.maps[layer, name].shape)
            np.testing.assert_allclose(found.maps[layer, name], expected, rtol=2e-4, atol=2e-5)
    assert not np.allclose(found.maps[found.layers[0], BEFORE], found.maps[found.layers[0], AFTER])
    assert all(0 < value <= 1 for pair in found.similarity.values() for value in pair)
    # Only validation images are looked at, and of different classes.
    kept = {image.tobytes() for image in searched.splits.validation.pixels}
    assert {image.tobytes() for image in found.images} <= kept
    assert len(set(found.classes)) == len(found.classes)


def test_the_spending_is_that_of_the_records(searched):
    teachers = KeptTeachers(searched.root / TEACHERS, searched.splits.fingerprint)
    found = spending(teachers, [(trial, config_of(searched.space, trial)) for trial in searched.trials])
    assert found.epochs == sum(len(trial.epochs) for trial in searched.trials)
    assert found.trials + found.recording == pytest.approx(
        sum(e["seconds"] for trial in searched.trials for e in trial.epochs)
    )
    # The first trial along each stream records its expert for the others, which live teachers would not do.
    assert found.recording == pytest.approx(sum(trial.seconds - trial.own_seconds for trial in searched.trials))
    assert found.recording > 0
    entries = [path.name for path in (searched.root / TEACHERS).glob("teacher-*")]
    assert len(entries) == 3  # one for each seed
    trained = sum(sum(searched.cache.index.seconds(entry).values()) for entry in entries)
    assert found.teachers == pytest.approx(trained)
    assert found.live > found.spent


def test_a_search_that_is_not_finished_says_so(searched, taken):
    folder = SearchFolder(taken, "small")
    folder.write(replace(searched.record, finished=False))
    folder.write_trial(a_trial(99, status=RUNNING, values=winner(searched.trials).values))
    found = Page(write_report(taken, "small"))
    assert found.path == taken / "small" / "report" / "index.html"
    assert "This search is not finished. 1 trial has not ended." in found.said
    assert "ctkd-search run space.yaml --resume" in found.said


def test_what_is_gone_is_left_out_and_reported(searched, taken):
    shutil.rmtree(taken / TEACHERS)
    shutil.rmtree(taken / "small" / "states")
    found = Page(write_report(taken, "small"))
    assert (
        "The scratch teacher's accuracies are missing: its recording is no longer in the teacher cache." in found.said
    )
    assert "Attention maps of the winner are left out: cannot read the weights" in found.said
    assert "no longer in the teacher cache or were recorded without times" in found.said
    assert {"attention", "cost"} & set(found.files()) == set()
    assert "teaching" in found.files()


def test_recordings_from_before_there_were_curves_have_none(searched, taken):
    cache = searched.cache.__class__(taken / TEACHERS)
    for entry in (taken / TEACHERS).glob("teacher-*"):
        (entry / "took.json").unlink()
        about = cache.about(f"{entry.name}/expert")
        weights = cache.read_state(f"{entry.name}/expert")
        cache.write_state(f"{entry.name}/expert", weights, {"validation_accuracy": about["validation_accuracy"]})
    found = Page(write_report(taken, "small"))
    assert "The scratch teacher's accuracies are missing: its recording does not contain them." in found.said
    assert "cost" not in found.files()
    assert "attention" in found.files()


def test_other_images_than_those_of_the_search_are_not_looked_at(searched, taken):
    SearchFolder(taken, "small").write(replace(searched.record, fingerprint="another"))
    found = Page(write_report(taken, "small"))
    assert "Attention maps are left out: the images are no longer those of the search." in found.said
    assert "validation images)" not in found.said


def test_a_later_report_leaves_no_picture_of_an_earlier_one(searched, taken, tmp_path):
    where = tmp_path / "out"
    where.mkdir()
    (where / "pareto-mine.png").write_bytes(b"mine")
    write_report(taken, "small", where)
    assert (where / "pareto-mine.png").read_bytes() == b"mine"
    (where / "mine.png").write_bytes(b"mine")
    shutil.rmtree(taken / "small" / "states")
    found = Page(write_report(taken, "small", where))
    assert "attention" not in found.files()
    assert "mine" in found.files()


def test_importances_are_given_where_enough_trials_came(searched, page):
    assert "Parameter importances are left out: 3 trials reached epoch 2" in page.said
    many = []
    for number in range(optuna_plots.ENOUGH):
        original = searched.trials[2]
        lr = 0.01 * 1.3**number
        epochs = [{**epoch, "validation_accuracy": 0.5 + 0.04 * number} for epoch in original.epochs]
        many.append(replace(original, number=number, stored={**original.stored, "lr": lr}, epochs=epochs))
    found = optuna_plots.comparable(searched.space, many)
    assert (found.epoch, found.trials, found.last) == (EPOCHS, optuna_plots.ENOUGH, True)
    picture = optuna_plots.importances(found, searched.space)
    # The accuracy rises with the learning rate, and nothing else varies.
    assert picture.alt.endswith("lr.")
    fewer = [replace(trial, epochs=trial.epochs[: EPOCHS if trial.number else RUNG]) for trial in many]
    found = optuna_plots.comparable(searched.space, fewer)
    assert (found.epoch, found.trials, found.last) == (RUNG, optuna_plots.ENOUGH, False)
    assert optuna_plots.comparable(searched.space, [replace(trial, epochs=[]) for trial in many]) is None


def test_there_must_be_something_to_report_on(searched, taken):
    with pytest.raises(UserError, match="there is no search 'other'"):
        write_report(taken, "other")
    shutil.rmtree(taken / "small" / "records")
    with pytest.raises(UserError, match="search 'small' cannot be reported yet: no trial has finished an epoch"):
        write_report(taken, "small")
    assert not (taken / "small" / "report").exists()


def test_the_command_says_where_it_is(searched, taken, tmp_path, capsys):
    assert main(["report", "small", "--trials-dir", str(taken), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'out' / 'index.html'}; open it in a browser\n"
    assert (tmp_path / "out" / "index.html").is_file()
    assert main(["report", "none", "--trials-dir", str(taken)]) == 2
    assert "there is no search 'none'" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["report", "small", "--trials-dir", str(taken), "-o", str(tmp_path / "file")]) == 2


def broken(*_arguments, **_options):
    raise RuntimeError("cannot be\nmade <b>today</b>")


@pytest.mark.parametrize("title", sections.SECTIONS)
def test_section_that_fails_is_left_out_with_its_reason(searched, tmp_path, monkeypatch, title):
    monkeypatch.setattr(sections, "SECTIONS", {**dict.fromkeys(sections.SECTIONS, lambda _: None), title: broken})
    said = []
    found = Page(write_report(searched.root, "small", tmp_path, splits=searched.splits, say=said.append))
    assert "This section is left out: RuntimeError: cannot be made <b>today</b>." in found.said
    assert said == [f"in the report, the section {title!r} is left out: RuntimeError: cannot be made <b>today</b>"]
    assert "The best config" in found.said
    assert found.text.rstrip().endswith("</html>")


def test_every_part_that_fails_is_left_out_by_itself(searched, tmp_path, monkeypatch):
    makers = [
        (module, name)
        for module in (curves, figures, optuna_plots, pareto, tables, comparisons)
        for name, made in vars(module).items()
        if inspect.isfunction(made) and not name.startswith("_") and made.__module__ == module.__name__
        if re.search(r"Picture|Table", str(made.__annotations__["return"]))
    ]
    assert len(makers) > 16
    for module, name in makers:
        monkeypatch.setattr(module, name, broken)
    said = []
    found = Page(write_report(searched.root, "small", tmp_path, splits=searched.splits, say=said.append))
    assert found.files() == []
    # Beside those that a search of one method and one objective does not ask for.
    assert len(said) == len(makers) - 2
    assert found.said.count("is left out: RuntimeError: cannot be made") == len(said)
    assert "Trials, baselines and confirmations:" in found.said


@pytest.mark.parametrize("name", ["subtitle", "headline", "verdict_sentences", "key_numbers", "describe", "about"])
def test_part_of_the_head_that_fails_is_left_out(searched, tmp_path, monkeypatch, name):
    monkeypatch.setattr(sections, "SECTIONS", {})
    monkeypatch.setattr(facts, name, broken)
    found = Page(write_report(searched.root, "small", tmp_path, splits=searched.splits, say=lambda _: None))
    assert "left out: RuntimeError: cannot be made <b>today</b>." in found.said


def test_full_disk_is_not_a_part_that_is_left_out(searched, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sections, "SECTIONS", {"Results": full})
    with pytest.raises(OSError, match="No space left"):
        write_report(searched.root, "small", tmp_path, splits=searched.splits)
