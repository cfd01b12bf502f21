"""Fixtures of students that a module has trained."""

import shutil
from pathlib import Path

import pytest

from ctkd_search.records.store import SearchFolder


@pytest.fixture
def there(made, monkeypatch):
    """Works on a copy of the directory that a module has made; gives its search's directory."""
    shutil.copytree(made[0], "copy")
    monkeypatch.chdir("copy")
    return SearchFolder(Path("trials"), "small")
