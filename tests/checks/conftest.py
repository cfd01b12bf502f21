"""Commands in this process, so that networks of a test's own are known to them."""

from pathlib import Path

import pytest

from ctkd_search.cli import main


@pytest.fixture
def call_here(own_directory, capsys):
    """Writes a space and runs a command with it; returns the exit code and the text on standard error."""

    def run(space, command, *words):
        Path("space.yaml").write_text(space, encoding="utf-8")
        return main([command, "space.yaml", *words]), capsys.readouterr().err

    return run
