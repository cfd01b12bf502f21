"""README's session from Python, where the package is installed as a user installs it: a fresh home and directory."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest
from support.pages import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# README's commands in their order, of a smaller search.
SESSION = """
import json
import ctkd_search

smaller = {
    "baselines": [],
    "confirm": None,
    "search.pair": "wrn-10-1/resnet8",
    "resources.concurrent_trials": 1,
}
search = ctkd_search.run("spaces/digits.yaml", trials=2, epochs=3, overrides=smaller)
table = search.leaderboard()
page = search.report()
search.export("best.yaml")
final = ctkd_search.train("best.yaml", seeds=1)
search.export("digits.onnx")

import mlflow, onnxruntime, torch
from sklearn.datasets import load_digits

digits = load_digits()
images = (digits.images[:200, :, :, None] * 255 / 16).round().astype("uint8")
mlflow.set_tracking_uri(search.tracking_uri)
answers = {
    "student": search.student()(torch.tensor(images)).detach().numpy(),
    "file": onnxruntime.InferenceSession("digits.onnx").run(None, {"images": images})[0],
    "registered": mlflow.pyfunc.load_model(search.model).predict(images).to_numpy(),
    "final": mlflow.pyfunc.load_model(final.model).predict(images).to_numpy(),
}
print(json.dumps({
    "package": ctkd_search.__file__,
    "finished": [search.finished, final.finished],
    "rows": len(table),
    "page": page.stat().st_size,
    "right": {name: float((found.argmax(axis=1) == digits.target[:200]).mean()) for name, found in answers.items()},
    "apart": [float(abs(answers[name] - answers["student"]).max()) for name in ("file", "registered")],
    "tested": len(final.table),
}))
"""


@pytest.fixture
def installed(tmp_path):
    """The Python of an environment with this package as pip builds it, and with the libraries of this one."""
    source, place = tmp_path / "source", tmp_path / "env"
    shutil.copytree(REPOSITORY / "ctkd_search", source / "ctkd_search", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, source)
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    words = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(source)]
    built = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if built.returncode and "No matching distribution found for setuptools" in built.stderr:
        pytest.skip("pip has no index here")
    assert built.returncode == 0, built.stderr[-2000:]
    (packages,) = (place / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def test_the_session_of_readme_from_python_leaves_a_student_and_nothing_else(installed, tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    (work / "spaces").mkdir(parents=True)
    shutil.copy(REPOSITORY / "spaces" / "digits.yaml", work / "spaces")
    # But for the priority of trials, which all tests set.
    foreign = ("PYTHON", "MLFLOW", "RAY_AUTH", "RAY_ADDRESS", "VIRTUAL_ENV", "XDG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    ended = subprocess.run(
        [str(installed), "-c", SESSION],
        cwd=work,
        env={**kept, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "Traceback" not in ended.stderr
    (line,) = ended.stdout.splitlines()
    told = json.loads(line)
    assert told["package"].startswith(str(tmp_path / "env"))
    assert (told["finished"], told["rows"], told["tested"] > 0, told["page"] > 10_000) == ([True, True], 2, True, True)
    assert min(told["right"].values()) > 0.5
    assert max(told["apart"]) < 1e-4
    assert sorted(path.name for path in work.iterdir()) == ["best.yaml", "digits.onnx", "spaces", "trials"]
    # Libraries have their caches there.
    assert {path.name for path in home.iterdir()} <= {".cache", ".config", ".ray"}
