"""The recipe of the container: it is sound, has the files that it copies, and installs what the project names."""

import fnmatch
import re
import subprocess
import tomllib

import pytest
from support.pages import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def instructions(name):
    """What follows an instruction, each time that it is given."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.replace("\\\n", " "), flags=re.MULTILINE)


def test_the_linter_finds_nothing():
    checked = subprocess.run(["hadolint", REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_copied_file_is_in_the_build_context():
    rules = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [path for line in instructions("COPY") for path in line.split()[:-1]]
    assert len(copied) == 4
    for path in copied:
        assert (REPOSITORY / path).exists()
        assert any(fnmatch.fnmatch(path, rule) for rule in kept), path


@pytest.mark.parametrize("library", ["torch", "torchvision"])
def test_the_container_has_the_versions_that_the_project_needs(library):
    needed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    wanted = next(line for line in needed if re.match(rf"{library}\b", line))
    assert DOCKERFILE.count(f'"{wanted}"') == 2


def test_the_search_does_not_run_as_root():
    assert instructions("USER") == ["1000"]
    assert DOCKERFILE.index("USER 1000") < DOCKERFILE.index("ENTRYPOINT")


@pytest.mark.parametrize(
    ("device", "called"), [("cpu", "download.pytorch.org/whl/cpu"), ("cuda", "torch"), ("tpu", "")]
)
def test_the_device_decides_which_torch_is_installed(device, called, tmp_path):
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/bash\necho "$@"\n')
    pip.chmod(0o755)
    install = next(line for line in instructions("RUN") if line.startswith("case"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEVICE": device}
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", install], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == (not called)
    assert called in ran.stdout
    assert ("index-url" in ran.stdout) == (device == "cpu")
    assert ("DEVICE must be cpu or cuda, but got tpu" in ran.stderr) == (device == "tpu")
