"""A registered student where ctkd-search is not installed: loaded, served, and asked over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from support.here import fresh_store
from support.installed import environment_of
from support.kept_students import probabilities
from support.servers import answered

from ctkd_search import cli
from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TrialConfig
from ctkd_search.data import load_test, load_train
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.recipe import Recipe
from ctkd_search.students.model import log_student
from ctkd_search.students.served import ServedStudent
from ctkd_search.tracking.champion import update_champion
from ctkd_search.tracking.store import Mlflow

pytestmark = pytest.mark.slow

NAME = "ctkd-digits"
CHAMPION = f"models:/{NAME}@champion"
CLASSES = list("0123456789")
EPOCHS = 6
ALONE = MethodConfig(
    "ctkd", {"step_loss": "mse", "temperature": 4.0, "alpha": 0.0, "beta": 0.0, "attention_layers": (1,)}
)

# What the clean environment does: it must not find ctkd-search, and classify images from a file.
CONSUMER = """
import importlib.util, json, sys
import mlflow, numpy
assert importlib.util.find_spec("ctkd_search") is None, "ctkd-search is installed here"
model = mlflow.pyfunc.load_model(sys.argv[1])
images = numpy.load(sys.argv[2])
whole = model.predict(images)
one = model.predict(images[:1])
assert "ctkd_search" not in sys.modules
print(json.dumps({
    "classes": whole.idxmax(axis=1).tolist(), "columns": list(whole.columns), "whole": whole.to_numpy().tolist(),
    "one": one.to_numpy().tolist(), "metadata": model.metadata.metadata, "from": mlflow.__file__,
}))
"""


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A student that has learned the digits for some epochs, registered twice."""
    directory = tmp_path_factory.mktemp("registered")
    splits = load_train(DatasetConfig("digits", validation=0.15))
    recipe = Recipe(batch_size=64, lr=0.05, precision="float32")
    augment = Augment(crop=1, flip=False)
    config = TrialConfig(DatasetConfig("digits"), EPOCHS, "wrn-10-1", "resnet8", ALONE, augment, recipe)
    trainer = make_trainer(config, splits, TeacherCache(directory / "teachers", "x"), torch.device("cpu"))
    for _ in range(EPOCHS):
        trainer.run_epoch()
    served = ServedStudent(trainer.student, splits.mean, splits.std)
    fresh_store(directory / "mlflow.db")
    store = Mlflow(f"sqlite:///{directory}/mlflow.db", "digits", directory / "artifacts")
    run_id = store.client.create_run(store.experiment_id, run_name="the winner").info.run_id
    store.client.set_terminated(run_id)
    example = splits.validation.pixels[:3]
    for card in ("", "# The card\n\nAll of it.\n\n## Config\n\nlong\n"):
        tags = {"ctkd.search": "first"} if card else None
        uri = log_student(
            served, example, store, run_id, NAME, classes=CLASSES, architecture="resnet8", card=card, tags=tags
        )
        update_champion(store, NAME, uri.rpartition("/")[2], tags, force=True, option="--champion")
    test = load_test(DatasetConfig("digits"))
    return {
        "directory": directory,
        "store": store,
        "run": run_id,
        "uri": uri,
        "images": test.pixels,
        "labels": test.labels,
        "expected": probabilities(served, test.pixels),
    }


def kept(registered):
    """The directory of the newest version."""
    version = registered["store"].client.get_model_version_by_alias(NAME, "champion")
    mlflow.set_tracking_uri(registered["store"].uri)
    return Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version.version}"))


def test_the_version_that_was_made_the_champion_says_what_it_is(registered):
    client: MlflowClient = registered["store"].client
    assert registered["uri"] == f"models:/{NAME}/2"
    first, second = (client.get_model_version(NAME, number) for number in ("1", "2"))
    assert str(client.get_model_version_by_alias(NAME, "champion").version) == "2"
    assert (first.description, first.tags) == (None, {})
    assert second.description.startswith("# The card\n\nAll of it.\n")
    assert "long" not in second.description
    assert second.tags == {"ctkd.search": "first"}
    assert second.run_id == registered["run"]
    assert (kept(registered) / "artifacts" / "card.md").read_text(encoding="utf-8").endswith("## Config\n\nlong\n")
    (path,) = [found.path for found in client.list_artifacts(registered["run"]) if not found.is_dir]
    assert path == "card.md"
    assert client.get_run(registered["run"]).info.status == "FINISHED"


def test_the_model_is_a_script_and_a_graph_and_needs_what_the_script_imports(registered):
    directory = kept(registered)
    files = {path.name for path in directory.rglob("*") if path.is_file()}
    assert {"student.pt2", "serving_code.py"} <= files
    assert not any(name.endswith((".pkl", ".pickle", ".pth", ".pt")) for name in files)
    code = (directory / "serving_code.py").read_text(encoding="utf-8")
    assert "import ctkd_search" not in code
    assert "from ctkd_search" not in code
    needs = dict(line.split("==") for line in (directory / "requirements.txt").read_text().split())
    assert set(needs) == {"mlflow", "torch", "numpy", "pandas"}
    assert needs["torch"] == torch.__version__.split("+")[0]


def test_it_gives_a_table_with_a_column_for_each_class(registered):
    mlflow.set_tracking_uri(registered["store"].uri)
    model = mlflow.pyfunc.load_model(CHAMPION)
    found = model.predict(registered["images"])
    assert isinstance(found, pd.DataFrame)
    assert list(found.columns) == CLASSES
    np.testing.assert_allclose(found.to_numpy(), registered["expected"], atol=1e-5)
    assert (found.idxmax(axis=1).astype(int) == registered["labels"]).mean() > 0.8
    (images,) = model.metadata.signature.inputs.inputs
    assert (images.type, images.shape) == (np.dtype("uint8"), (-1, 8, 8, 1))
    assert model.metadata.signature.outputs.input_names() == CLASSES
    assert model.metadata.saved_input_example_info is not None
    metadata = model.metadata.metadata
    assert (metadata["classes"], metadata["image_size"], metadata["channels"]) == (CLASSES, 8, 1)
    assert (metadata["architecture"], metadata["versions"]["torch"]) == ("resnet8", torch.__version__.split("+")[0])


@pytest.mark.parametrize("count", [1, 2, 7, 513])
def test_the_size_of_the_batch_does_not_matter(registered, count):
    mlflow.set_tracking_uri(registered["store"].uri)
    model = mlflow.pyfunc.load_model(CHAMPION)
    images = np.resize(registered["images"], (count, 8, 8, 1))
    expected = np.resize(registered["expected"], (count, 10))
    np.testing.assert_allclose(model.predict(images).to_numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], "images must have the shape (at least 1, 8, 8, 1), but got (8, 8, 1)"),
        (lambda x: x[:, :7], "images must have the shape (at least 1, 8, 8, 1), but got (5, 7, 8, 1)"),
        (lambda x: x[:0], "images must have the shape (at least 1, 8, 8, 1), but got (0, 8, 8, 1)"),
        (lambda x: "an image", "images must have the shape (at least 1, 8, 8, 1), but got ()"),
        (lambda x: x / 255, "images must be raw pixels from 0 to 255 of type uint8, but got float64"),
        (lambda x: x.astype(int), "images must be raw pixels from 0 to 255 of type uint8, but got int64"),
    ],
    ids=["no batch", "size", "none", "no array", "floats", "integers"],
)
def test_what_are_no_such_images_is_said(registered, change, message):
    mlflow.set_tracking_uri(registered["store"].uri)
    model = mlflow.pyfunc.load_model(CHAMPION)
    bad = change(registered["images"][:5])
    with pytest.raises(ValueError, match=r"^images must ") as caught:
        model.unwrap_python_model().predict(None, bad)
    assert str(caught.value) == message
    # MLflow's own check of the signature comes before it, and says the same of all but an empty batch.
    with pytest.raises((mlflow.MlflowException, ValueError), match=r"shape|Shape|dtype|input of type"):
        model.predict(bad)


def test_predict_asks_it_too(registered, capsys, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for number in range(20):
        Image.fromarray(registered["images"][number, :, :, 0]).save(f"{number:02d}.png")
    expected = [str(index) for index in registered["expected"][:20].argmax(axis=1)]
    local = str(kept(registered))
    capsys.readouterr()
    for model in (CHAMPION, f"models:/{NAME}/1", local):
        assert cli.main(["predict", model, ".", "--json", "--tracking-uri", registered["store"].uri]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert [entry["class"] for entry in json.loads(out)] == expected
    trials = ["--trials-dir", str(registered["directory"])]
    assert cli.main(["predict", CHAMPION, "00.png", "--json", *trials]) == 0
    assert json.loads(capsys.readouterr().out)[0]["class"] == expected[0]
    assert cli.main(["predict", "models:/none@champion", "00.png", *trials]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ctkd-search: cannot load models:/none@champion from MLflow at sqlite:///")
    assert len(err.splitlines()) == 1
    assert cli.main(["predict", f"models:/{NAME}", "00.png", *trials]) == 2
    assert capsys.readouterr().err.endswith(f"; name its version or alias too, as in {CHAMPION}\n")


@pytest.fixture(scope="module")
def clean(registered, tmp_path_factory):
    """An environment with what the model says it needs, and nothing else: its Python, and a command's variables."""
    directory = tmp_path_factory.mktemp("clean")
    needs = (kept(registered) / "requirements.txt").read_text(encoding="utf-8").splitlines()
    python = environment_of(needs, directory / "env")
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONNOUSERSITE": "1"}
    env |= {"MLFLOW_TRACKING_URI": registered["store"].uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {"python": str(python), "env": env, "directory": directory}


def test_it_loads_and_predicts_without_ctkd_search(registered, clean):
    np.save(clean["directory"] / "images.npy", registered["images"])
    command = [clean["python"], "-c", CONSUMER, CHAMPION, "images.npy"]
    done = subprocess.run(
        command, env=clean["env"], cwd=clean["directory"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Warning" not in done.stderr
    said = json.loads(done.stdout)
    assert Path(said["from"]).is_relative_to(clean["directory"])
    assert said["columns"] == CLASSES
    assert said["metadata"]["classes"] == CLASSES
    np.testing.assert_allclose(said["whole"], registered["expected"], atol=1e-5)
    np.testing.assert_allclose(said["one"], registered["expected"][:1], atol=1e-5)
    assert [int(name) for name in said["classes"]] == registered["expected"].argmax(axis=1).tolist()


@contextlib.contextmanager
def serving(clean):
    """A server of the champion, as `mlflow models serve` starts one; gives its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    words = ["models", "serve", "-m", CHAMPION, "--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    said = clean["directory"] / "server.txt"
    with open(said, "w") as log:
        server = subprocess.Popen(
            [clean["python"], "-m", "mlflow", *words],
            env=clean["env"],
            cwd=clean["directory"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        answered(f"http://127.0.0.1:{port}/ping", server, said)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def ask(address, content):
    """What a server answers: the status and the content."""
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_it_is_served_over_http_without_ctkd_search(registered, clean):
    with serving(clean) as address:
        images = registered["images"][:40]
        status, answer = ask(address, {"instances": images.tolist()})
        assert status == 200
        rows = answer["predictions"]
        assert [list(row) for row in rows] == [CLASSES] * 40
        named = [int(max(row, key=row.get)) for row in rows]
        assert named == registered["expected"][:40].argmax(axis=1).tolist()
        assert np.mean(np.asarray(named) == registered["labels"][:40]) > 0.7
        status, answer = ask(address, {"inputs": images[:1].tolist()})
        assert status == 200
        np.testing.assert_allclose(list(answer["predictions"][0].values()), registered["expected"][0], atol=1e-5)
        status, answer = ask(address, {"inputs": images[:1, :7].tolist()})
        assert status == 400
        assert "Shape of input (1, 7, 8, 1) does not match expected shape (-1, 8, 8, 1)" in answer["message"]
