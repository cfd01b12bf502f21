"""The view of a search's trials in MLflow's UI: sorted, with columns and charts of the searched parameters."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from ctkd_search.display.comparisons import measured_of
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Constant, Number

# MLflow's prefix of tags that contain a view opened by a link, and the limit of their length.
_TAG = "mlflow.sharedViewState."
_LONGEST = 5000
_SECTION = "trials"
_ALL_RUNS = 1000


def view_tag(space: Space, name: str, parent_id: str) -> tuple[str, str]:
    """Returns the experiment tag that contains the view of a search's trials and baselines.

    Args:
        space: The space; its searched parameters become columns, and those that are numbers the axes of charts.
        name: Name of the search.
        parent_id: The search's own run.

    Returns:
        Key and value of the tag.
    """
    searched = [key for key, entry in space.entries.items() if not isinstance(entry, Constant)]
    numbers = {key: entry for key, entry in space.entries.items() if isinstance(entry, Number)}
    # A chart of several parameters leaves out trials that lack one of them.
    always = [key for key, entry in numbers.items() if not entry.when]
    judge = space.strategy.judge
    columns = [*(f"metrics.`{metric.key}`" for metric in measured_of(space)), *(f"params.`{key}`" for key in searched)]
    columns += [f"tags.`ctkd.{key}`" for key in ("kind", "status")]
    state: dict[str, Any] = {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_id}' and tags.ctkd.kind != 'confirmation'",
        "orderByKey": f"metrics.`{judge.key}`",
        "orderByAsc": judge.goal == "min",
        "lifecycleFilter": "Active",
        "startTime": "ALL",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        # On a small screen the charts need the room.
        "runListHidden": True,
        "compareRunSections": [
            {"uuid": _SECTION, "name": "Trials", "display": True, "columns": 2}
            | {"isReordered": False, "deleted": False, "isGenerated": False}
        ],
        "compareRunCharts": _charts(judge.key, list(numbers), always),
    }
    while len(text := json.dumps(state)) > _LONGEST:
        state["compareRunCharts"].pop()
    return _TAG + name, text


def _charts(measured: str, numbers: list[str], always: list[str]) -> list[dict[str, Any]]:
    """Returns charts: learning curves, parallel coordinates, a contour, and one chart for each numeric parameter."""
    axis = {"key": measured, "type": "METRIC"}
    charts = [_chart("curves", "LINE", metricKey=measured, selectedMetricKeys=[measured], xAxisKey="step", **_AXES)]
    if always:
        charts.append(_chart("parallel", "PARALLEL", selectedParams=always, selectedMetrics=[measured]))
    if len(always) > 1:
        x, y = ({"key": key, "type": "PARAM"} for key in always[:2])
        charts.append(_chart("contour", "CONTOUR", xaxis=x, yaxis=y, zaxis=axis))
    return [
        *charts,
        *(_chart(key, "SCATTER", xaxis={"key": key, "type": "PARAM"}, yaxis=axis) for key in numbers),
    ]


_AXES = {"selectedXAxisMetricKey": "", "xAxisScaleType": "linear", "scaleType": "linear", "lineSmoothness": 0} | {
    "range": {},
    "useGlobalXaxisKey": False,
    "useGlobalLineSmoothing": False,
}


def _chart(name: str, form: str, **options: Any) -> dict[str, Any]:
    own = {"uuid": name, "type": form, "metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
    return {**own, "showAllRuns": False, "runsCountToCompare": _ALL_RUNS, **options}


def view_link(server: str, experiment_id: str, name: str) -> str:
    """Returns the address of the view in the UI of an MLflow server."""
    options = f"viewStateShareKey={quote(name)}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"{server}/#/experiments/{experiment_id}/runs?{options}"
