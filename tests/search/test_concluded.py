"""The parent run in MLflow of work whose trials have ended, and whose conclusion is disturbed."""

from unittest import mock

import pytest
from mlflow import MlflowClient
from support.live import Live, LiveFinal

from ctkd_search.records.store import SearchFolder

pytestmark = pytest.mark.slow


def parent_of(live, kind):
    client = MlflowClient(f"sqlite:///{live.directory}/trials/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`ctkd.kind` = '{kind}'")
    return run.info.status, run.data.tags.get("ctkd.reason")


CASES = {
    "a search": (
        Live,
        ("--trials", "1", "--epochs", "1", "--set", "budget.grace_period=1"),
        "search",
        "ctkd_search.search.run.print_leaderboard",
        "ctkd_search.tracking.parent_run.conclude_parent",
    ),
    "a final training": (
        LiveFinal,
        ("--epochs", "1", "--seeds", "1"),
        "train",
        "ctkd_search.final.run._draw",
        "ctkd_search.final.results.parent_metrics",
    ),
}


@pytest.mark.parametrize(("made", "words", "kind", "interrupted", "failing"), CASES.values(), ids=CASES.keys())
def test_work_that_is_disturbed_in_its_conclusion_is_closed_and_goes_on(
    tmp_path, made, words, kind, interrupted, failing
):
    live = made(tmp_path, *words, "--concurrent", "1")
    with mock.patch(interrupted, side_effect=KeyboardInterrupt):
        assert live.run() == 130, live.said()
    assert "all results so far are kept; go on with: ctkd-search" in live.said()
    assert parent_of(live, kind) == ("KILLED", "interrupted")
    with mock.patch(failing, side_effect=ConnectionError("nobody there")):
        assert live.run("--resume") == 1, live.said()
    status, reason = parent_of(live, kind)
    assert (status, "does not answer (nobody there)" in reason) == ("FAILED", True)
    assert live.run("--resume") == 0, live.said()
    assert parent_of(live, kind)[0] == "FINISHED"


def test_a_student_that_is_no_graph_leaves_a_search_and_a_final_training_that_have_finished(tmp_path):
    words = ("--concurrent", "1", "--epochs", "1")
    own = "support.own_nets:branching"
    live = Live(
        *(tmp_path, "--trials", "1", "--set", "budget.grace_period=1", *words),
        search={"pair": f"wrn-10-1/{own}", "lr": {"float": [0.01, 0.1]}},
    )
    training = LiveFinal(tmp_path, "--seeds", "1", *words, pair=f"wrn-10-1/{own}")
    # As one of a library that nobody has tried before the search.
    with mock.patch("ctkd_search.checks.refusals.graph_fault", return_value=None):
        assert live.run(whole=True) == 0, live.said()
        assert training.run(whole=True) == 0, training.said()
    told = [line for line in live.said().splitlines() if line.startswith("no student is registered: ")]
    assert [line.partition(": Could not guard")[0] for line in told] == [
        f"no student is registered: {own} cannot be exported as a graph"
    ] * 2
    assert "MLflow" not in live.said()
    assert "def forward(" not in live.said()
    assert (tmp_path / "trials" / "small" / "report" / "index.html").is_file()
    assert (tmp_path / "trials" / "small" / "final-1" / "student.pt").is_file()
    for kind, root, name in (("search", "trials", "small"), ("train", "trials/small", "final-1")):
        assert parent_of(live, kind) == ("FINISHED", None)
        record = SearchFolder(tmp_path / root, name).search()
        assert (record.finished, record.model) == (True, None)


def test_a_search_that_is_interrupted_while_its_report_is_written_has_finished(tmp_path):
    live = Live(tmp_path, "--trials", "1", "--epochs", "1", "--set", "budget.grace_period=1")
    with mock.patch("ctkd_search.report.page.write_report", side_effect=KeyboardInterrupt):
        assert live.run(whole=True) == 130, live.said()
    assert "the search has finished; write its report with: ctkd-search report small" in live.said()
    assert "--resume" not in live.said()
    assert parent_of(live, "search")[0] == "FINISHED"
