"""Virtual environments that have some of the packages of this one, and all that these need, but nothing else."""

from __future__ import annotations

import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(requirements: Iterable[str]) -> dict[str, Distribution]:
    """The installed packages that pip would install for requirements, by name.

    Args:
        requirements: As in a requirements file, a line each.

    Raises:
        PackageNotFoundError: One is not installed here.
        AssertionError: One is installed here in a version that the requirement excludes.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(line) for line in requirements]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        kept = found.setdefault(name, distribution(name))
        assert wanted.specifier.contains(kept.version, prereleases=True), f"{wanted}, but {kept.version} is installed"
        for extra in {"", *wanted.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needs = [Requirement(line) for line in kept.requires or ()]
            todo += [each for each in needs if each.marker is None or each.marker.evaluate({"extra": extra})]
    return found


def environment_of(requirements: Iterable[str], directory: Path) -> Path:
    """Creates a virtual environment in which links lead to the packages that pip would install; gives its Python.

    Args:
        requirements: As in a requirements file, a line each.
        directory: The new environment.
    """
    venv.create(directory, with_pip=False, symlinks=True)
    (packages,) = (directory / "lib").glob("python*/site-packages")
    for kept in needed(requirements).values():
        place = Path(str(kept.locate_file("")))
        for name in {path.parts[0] for path in kept.files or ()}:
            # Files elsewhere are programs and manuals; those that Python runs as it starts change its path.
            if name not in ("..", "__pycache__") and not name.endswith(".pth") and not (packages / name).exists():
                (packages / name).symlink_to(place / name)
    assert directory.joinpath("bin", "python").resolve() == Path(sys.executable).resolve()
    return directory / "bin" / "python"
