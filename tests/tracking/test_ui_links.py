"""The links of `ctkd-search ui`."""

from pathlib import Path

import pytest
from support.cli import digits_search
from support.here import fresh_store

from ctkd_search.errors import UserError
from ctkd_search.tracking.store import Mlflow
from ctkd_search.tracking.ui_links import links

pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.mark.parametrize("uri", ["nonsense", "file:./mlruns"])
def test_a_store_that_mlflow_does_not_open_is_refused_in_one_line(uri):
    with pytest.raises(UserError, match=f"^cannot use MLflow at {uri} .*SQLite file") as error:
        links(Path("trials"), uri, "http://127.0.0.1:5000")
    assert "\n" not in str(error.value)


def test_a_damaged_search_is_left_out(capsys, tmp_path):
    fresh_store(tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow = Mlflow(uri, "digits", Path("trials/artifacts"))
    run_id = mlflow.client.create_run(mlflow.experiment_id).info.run_id
    folder = digits_search("digits")
    record = folder.search()
    record.run_id = run_id
    folder.write(record)
    Path("trials/broken").mkdir()
    Path("trials/broken/search.json").write_text('{"name":')
    (line,) = links(Path("trials"), uri, "http://127.0.0.1:5000")
    assert line.startswith("compare the trials of digits: http://127.0.0.1:5000/")
    assert "left out: cannot read the record trials/broken/search.json" in capsys.readouterr().err
