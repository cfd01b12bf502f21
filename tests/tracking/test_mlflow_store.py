"""The URI of MLflow, whose secrets are neither shown nor stored."""

import os
from pathlib import Path

import pytest
from mlflow import MlflowClient
from support.here import fresh_store
from support.processes import PIPE, Process

from ctkd_search.cli import main
from ctkd_search.errors import UserError
from ctkd_search.tracking import store as mlflow_store
from ctkd_search.tracking.store import Mlflow, active_store, fitting, mlflow_error, store_uri, without_secrets
from ctkd_search.uris import uri_fault

HARMLESS = [
    "http://127.0.0.1:5000",
    "https://mlflow.example.org/path",
    "sqlite:////data/mlflow.db",
    "postgresql://runs@db.example.org/mlflow",
    "databricks://profile",
]
WITH_SECRET = [
    "https://me:secret@mlflow.example.org",
    "https://secret@mlflow.example.org",
    "postgresql://runs:secret@db.example.org:5432/mlflow",
    "mysql+pymysql://runs:secret@db/mlflow",
]


@pytest.mark.parametrize("uri", HARMLESS)
def test_a_uri_without_a_password_is_taken(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert uri_fault(uri) is None
    assert store_uri(uri, Path("trials")) == uri


@pytest.mark.parametrize("uri", WITH_SECRET)
def test_a_uri_with_a_password_is_refused_and_never_shown(uri, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="has a password in it") as error:
        store_uri(uri, tmp_path)
    assert "secret" not in str(error.value)
    assert "secret" not in without_secrets(f"cannot reach {uri} today")
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text("name: s\ndataset: {name: digits}\nsearch: {alpha: {float: [1, 2]}}\n")
    for words in (
        ["check", "space.yaml", "--set", f"tracking.uri={uri}"],
        ["run", "space.yaml", "--tracking-uri", uri],
        ["ui", "--tracking-uri", uri],
    ):
        assert main(words) == 2
        said = capsys.readouterr()
        assert "has a password in it" in said.err
        assert "secret" not in said.err + said.out


@pytest.mark.parametrize("name", ["50%off", "per%20x", "why?"])
def test_a_directory_whose_name_a_uri_cannot_have_is_refused_where_the_store_is_a_file(name, tmp_path, monkeypatch):
    place = tmp_path / name / "trials"
    mark = "?" if "?" in name else "%"
    for uri in (store_uri(None, place), f"sqlite:///{tmp_path}/mlflow.db"):
        with pytest.raises(
            UserError, match=f"whose path has a [{mark}] in it; rename the directory, or choose another"
        ):
            Mlflow(uri, "s", place / "artifacts")
    monkeypatch.chdir(tmp_path)
    space = "name: s\ndataset: {name: digits}\nsearch: {alpha: {float: [1, 2]}}\n"
    Path("space.yaml").write_text(space)
    assert main(["check", "space.yaml", "--no-measure", "--trials-dir", str(place)]) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "space.yaml"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["check", "space.yaml", "--no-measure", "--trials-dir", str(place)]) == 0


def test_the_store_is_that_of_the_environment_or_else_a_file_among_the_searches(monkeypatch):
    directory = Path("trials")
    assert store_uri(None, directory) == f"sqlite:///{directory.resolve()}/mlflow.db"
    # What only the environment holds may have a password in it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", WITH_SECRET[0])
    assert store_uri(None, directory) == WITH_SECRET[0]


def test_an_error_shows_neither_token_nor_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass-456")
    error = ValueError("header 'Bearer tok-123', or pass-456 at https://a:b@c/d\nmore")
    assert mlflow_error(error) == "header 'Bearer ...', or ... at https://...@c/d"


def test_a_store_that_cannot_be_reached_is_named_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"cannot use MLflow at http://\.\.\.@127.0.0.1:9") as error:
        Mlflow("http://me:secret@127.0.0.1:9", "x", tmp_path)
    assert "secret" not in str(error.value)


OPEN = """
import sys
from pathlib import Path
import mlflow
from ctkd_search.tracking.store import Mlflow
print("ready", flush=True)
sys.stdin.readline()
Mlflow(sys.argv[1], "digits", Path(sys.argv[2]) / "artifacts")
"""


@pytest.mark.slow
def test_two_processes_may_make_one_store_at_once_for_two_directories_of_searches(tmp_path):
    started = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        words = (f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / name))
        started.append(Process(words, OPEN, imported=("mlflow",), stdin=PIPE, stdout=PIPE))
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        process.communicate(timeout=120)
    assert [process.returncode for process in started] == [0, 0]


def test_an_experiment_that_another_process_makes_at_the_same_time_is_used(tmp_path, monkeypatch):
    fresh_store(tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    other = Mlflow(uri, "race", tmp_path / "artifacts")
    by_name, looked = MlflowClient.get_experiment_by_name, []

    def before_the_other(client, name):
        looked.append(name)
        return by_name(client, name) if len(looked) > 1 else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", before_the_other)
    assert Mlflow(uri, "race", tmp_path / "artifacts").experiment_id == other.experiment_id


def test_what_is_too_long_for_mlflow_is_cut_and_many_parameters_are_all_logged(tmp_path):
    fresh_store(tmp_path / "mlflow.db")
    store = Mlflow(f"sqlite:///{tmp_path}/mlflow.db", "long", tmp_path / "artifacts")
    run = store.client.create_run(store.experiment_id, tags=fitting({"t" * 300: "v" * 9000})).info.run_id
    params = {f"p{number}": number for number in range(250)} | {"long": "x" * 7000, "k" * 300: "y"}
    store.log(run, params=params, tags={"tag": "z" * 9000})
    store.log(run, params=params)  # again, as `--resume` does
    data = store.client.get_run(run).data
    assert len(data.params) == 252
    assert data.params["long"] == "x" * 6000
    assert data.params["k" * 250] == "y"
    assert data.tags["tag"] == "z" * 8000
    assert data.tags["t" * 250] == "v" * 8000


def test_a_parameter_may_have_a_name_that_mlflow_refuses(tmp_path):
    fresh_store(tmp_path / "mlflow.db")
    store = Mlflow(f"sqlite:///{tmp_path}/mlflow.db", "names", tmp_path / "artifacts")
    run = store.client.create_run(store.experiment_id).info.run_id
    store.log(run, params={"checkpoint.torchvision/resnet18+stem=full": "a.pt", "options.a b:ä": 1})
    data = store.client.get_run(run).data
    assert data.params == {"checkpoint.torchvision/resnet18_stem_full": "a.pt", "options.a b:ä": "1"}


@pytest.mark.parametrize("chosen", [True, False])
def test_the_users_own_store_and_experiment_are_active_again_afterwards(chosen, tmp_path, monkeypatch):
    import mlflow

    mlflow.set_tracking_uri(None)  # another test of this process may have set one
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    own = f"sqlite:///{tmp_path}/own.db"
    fresh_store(tmp_path / "own.db")
    if chosen:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
        wanted = mlflow.set_experiment("mine").experiment_id
    fresh_store(tmp_path / "other.db")
    for name in ("first", "second"):
        other = Mlflow(f"sqlite:///{tmp_path}/other.db", name, tmp_path / "artifacts")
    with active_store(other.uri):
        mlflow.set_experiment(experiment_id=other.experiment_id)
    assert os.environ.get("MLFLOW_EXPERIMENT_ID") == (wanted if chosen else None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
    with mlflow.start_run() as run:
        pass
    assert run.info.experiment_id == (wanted if chosen else "0")


def test_the_limits_are_those_of_the_installed_mlflow():
    from mlflow.utils import validation

    assert (mlflow_store._KEY, mlflow_store._PARAM) == (
        validation.MAX_ENTITY_KEY_LENGTH,
        validation.MAX_PARAM_VAL_LENGTH,
    )
    assert mlflow_store._TAG == validation.MAX_TAG_VAL_LENGTH
    assert mlflow_store._PARAMS_AT_ONCE == validation.MAX_PARAMS_TAGS_PER_BATCH
