"""The int8 student in MLflow: what is registered, what it answers without PyTorch, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
from PIL import Image
from support.here import fresh_store
from support.kept_students import some_images
from support.python import environment
from support.quantised import a_trained_search

from ctkd_search import cli
from ctkd_search.records.store import SearchFolder
from ctkd_search.students.predictor import open_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("single_thread", "own_directory")]

URI = "models:/ctkd-small@int8"
WORDS = ("export", "small", "--format", "onnx", "--int8", "--register")
# Loads the model where PyTorch cannot be imported, nor this package.
CONSUMER = """
import json, sys
sys.modules.update(dict.fromkeys(("torch", "ctkd_search", "onnx")))
import mlflow, numpy
model = mlflow.pyfunc.load_model(sys.argv[1])
table = model.predict(numpy.load(sys.argv[2]))
print(json.dumps({"columns": list(table.columns), "rows": table.to_numpy().tolist()}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with a search whose trial has a run in MLflow, and whose int8 student is registered twice."""
    directory = tmp_path_factory.mktemp("int8-registered")
    root = directory / "trials"
    folder = a_trained_search(root).folder
    fresh_store(root / "mlflow.db")
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.create_experiment("elsewhere", artifact_location=str(root / "artifacts"))
    run_id = client.create_run(experiment, run_name="the winner").info.run_id
    client.set_terminated(run_id)
    (trial,) = folder.trials()
    trial.run_id = run_id
    folder.write_trial(trial)
    record = folder.search()
    record.tracking_uri = f"sqlite:///{root}/mlflow.db"
    folder.write(record)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for _ in range(2):
            assert cli.main(list(WORDS)) == 0
    return {"directory": directory, "client": client, "run": run_id, "uri": record.tracking_uri}


@pytest.fixture
def store(made):
    """MLflow asks the search's store."""
    mlflow.set_tracking_uri(made["uri"])
    return made


def test_it_returns_what_the_file_returns_with_the_signature_of_the_float_student(store):
    model, file = mlflow.pyfunc.load_model(URI), open_model(str(store["directory"] / "small-int8.onnx"), "")
    (images,) = model.metadata.signature.inputs.inputs
    assert (images.type, images.shape) == (np.dtype("uint8"), (-1, 8, 8, 1))
    assert model.metadata.signature.outputs.input_names() == list("0123456789")
    assert model.metadata.metadata == {**model.metadata.metadata, "architecture": "resnet8", "image_size": 8}
    for count in (1, 7, 513):
        raw = some_images(count).numpy()
        table = model.predict(raw)
        assert list(table.columns) == list("0123456789")
        np.testing.assert_array_equal(table.to_numpy(), file.run(raw))
    with pytest.raises(ValueError, match=r"^images must have the shape \(at least 1, 8, 8, 1\), but got \(2, 8, 8\)$"):
        model.unwrap_python_model().predict(None, raw[:2, :, :, 0])


def test_it_loads_without_pytorch_and_without_this_package(store, tmp_path):
    raw = some_images(5).numpy()
    np.save(tmp_path / "images.npy", raw)
    asked = [sys.executable, "-c", CONSUMER, URI, str(tmp_path / "images.npy")]
    env = {**environment(), "MLFLOW_TRACKING_URI": store["uri"], "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(asked, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    expected = open_model(str(store["directory"] / "small-int8.onnx"), "").run(raw)
    np.testing.assert_allclose(told["rows"], expected, atol=1e-6)
    needs = Path(mlflow.artifacts.download_artifacts(URI)) / "requirements.txt"
    assert {line.partition("==")[0] for line in needs.read_text().split()} == {
        "mlflow",
        "onnxruntime",
        "numpy",
        "pandas",
    }


def test_the_newest_version_has_the_alias_and_says_what_it_is(store):
    client = store["client"]
    version = client.get_model_version_by_alias("ctkd-small", "int8")
    assert (str(version.version), version.run_id) == ("2", store["run"])
    assert client.get_registered_model("ctkd-small").aliases == {"int8": version.version}
    properties = {item.key: item.value for item in onnx.load(store["directory"] / "small-int8.onnx").metadata_props}
    files = json.loads(properties["int8"])["files"]
    assert version.tags == {
        "ctkd.search": "small",
        "ctkd.trial": "1",
        "ctkd.precision": "int8",
        "ctkd.validation_accuracy": f"{files['int8']['accuracy']:.6f}",
        "ctkd.float32_validation_accuracy": f"{files['float32']['accuracy']:.6f}",
        "ctkd.onnx_bytes": str(files["int8"]["bytes"]),
    }
    card = (store["directory"] / "small-int8.onnx.md").read_text(encoding="utf-8")
    assert f'mlflow.pyfunc.load_model("{URI}").predict(images)' in card
    assert "With onnxruntime, pandas and mlflow, without ctkd-search" in card
    assert version.description.startswith("# small-int8.onnx\n")
    assert "`card-int8.md`" in version.description.splitlines()[-1]
    (path,) = [found.path for found in client.list_artifacts(store["run"]) if not found.is_dir]
    assert path == "card-int8.md"
    kept = Path(mlflow.artifacts.download_artifacts(URI))
    assert (kept / "artifacts" / "card.md").read_text(encoding="utf-8") == card


def test_predict_takes_it(store, call):
    for number, image in enumerate(some_images(6).numpy()):
        Image.fromarray(image[:, :, 0]).save(f"{number}.png")
    told = []
    for model in (URI, str(store["directory"] / "small-int8.onnx")):
        code, out, err = call("predict", model, ".", "--json", "--trials-dir", store["directory"] / "trials")
        assert (code, err) == (0, "")
        told.append(json.loads(out))
    assert told[0] == told[1]


@pytest.fixture
def there(made, monkeypatch):
    """Works on a copy of the search; gives its directory."""
    shutil.copytree(made["directory"] / "trials" / "small", Path("copy") / "trials" / "small")
    monkeypatch.chdir("copy")
    return SearchFolder(Path("trials"), "small")


def test_a_store_without_the_run_or_a_trial_without_one_is_refused_before_anything_is_written(there, call, tmp_path):
    before = sorted(Path.cwd().rglob("*"))
    record, (trial,) = there.search(), there.trials()
    known = trial.run_id
    for run_id, uri, reason in (
        (None, record.tracking_uri, "--register needs a run in MLflow, and trial 1 of the search 'small' has none yet"),
        (
            known,
            f"sqlite:///{tmp_path}/none.db",
            f"there is no MLflow store sqlite:///{tmp_path}/none.db, where the run",
        ),
        ("0" * 32, record.tracking_uri, f"cannot read the run {'0' * 32} in MLflow at sqlite:///"),
    ):
        trial.run_id, record.tracking_uri = run_id, uri
        there.write_trial(trial)
        there.write(record)
        code, _, err = call(*WORDS)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert reason in err
    assert sorted(Path.cwd().rglob("*")) == before
    assert not (tmp_path / "none.db").exists()


def test_a_float_student_is_not_registered_again(call):
    code, out, err = call("export", "small", "--format", "onnx", "--register")
    assert (code, out) == (2, "")
    assert "--register is an option of int8 students, because run and train register those in float32" in err
