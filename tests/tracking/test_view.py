"""The view of a search's trials in MLflow's UI."""

import json

import pytest
from support.factories import a_space

from ctkd_search.tracking.view import view_link, view_tag

SEARCH = {
    "pair": {"choice": ["wrn-16-1/resnet8", "wrn-16-2/resnet8"]},
    "step_loss": {"choice": ["kl", "mse"]},
    "temperature": {"float": [1, 20], "when": {"step_loss": "kl"}},
    "alpha": {"float": [0.1, 1]},
    "lr": {"float": [0.01, 0.1]},
    "momentum": 0.9,
}


def view(search):
    key, value = view_tag(a_space(search=search), "mine", "run-1")
    assert key == "mlflow.sharedViewState.mine"
    assert len(value) <= 5000
    return json.loads(value)


def test_what_is_searched_has_a_column_and_numbers_have_a_chart():
    state = view(SEARCH)
    params = [column for column in state["selectedColumns"] if column.startswith("params.")]
    assert params == [f"params.`{name}`" for name in ("pair", "step_loss", "temperature", "alpha", "lr")]
    charts = {chart["uuid"]: chart for chart in state["compareRunCharts"]}
    assert list(charts) == ["curves", "parallel", "contour", "temperature", "alpha", "lr"]
    # A temperature is not there in every trial: the chart of several parameters would leave those trials out.
    assert charts["parallel"]["selectedParams"] == ["alpha", "lr"]
    assert [charts["contour"][axis]["key"] for axis in ("xaxis", "yaxis", "zaxis")] == [
        "alpha",
        "lr",
        "validation_accuracy",
    ]
    assert "run-1" in state["searchFilter"]


@pytest.mark.parametrize(
    ("search", "charts"),
    [
        ({"pair": {"choice": ["wrn-16-1/resnet8", "wrn-16-2/resnet8"]}}, ["curves"]),
        ({"lr": {"float": [0.01, 0.1]}}, ["curves", "parallel", "lr"]),
    ],
)
def test_few_parameters_make_few_charts(search, charts):
    assert [chart["uuid"] for chart in view(search)["compareRunCharts"]] == charts


def test_a_name_is_made_fit_for_an_address():
    assert view_link("http://127.0.0.1:5000", "7", "a b") == (
        "http://127.0.0.1:5000/#/experiments/7/runs"
        "?viewStateShareKey=a%20b&compareRunsMode=CHART&workflowType=machine_learning"
    )
