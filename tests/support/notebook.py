"""The notebook of the documentation: executed as a user does, by its test and by `python -m support.notebook`."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from pathlib import Path

import nbclient
import nbformat

from support.python import environment

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebook.ipynb"
# Where the hash of the cells is kept with which the outputs were made.
EXECUTED = "executed"


def read(path: Path = NOTEBOOK) -> nbformat.NotebookNode:
    """Reads the notebook."""
    return nbformat.read(path, as_version=4)


def hash_of(notebook: nbformat.NotebookNode) -> str:
    """Returns the hash of all that the outputs depend on: the cells of code."""
    text = "\n\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(text.encode()).hexdigest()


def execute(notebook: nbformat.NotebookNode, directory: Path, seconds: int = 600) -> nbformat.NotebookNode:
    """Returns the notebook with the outputs of a run in a directory.

    Args:
        notebook: The notebook; outputs that it has are left out.
        directory: Where its kernel works.
        seconds: The longest time of a cell.
    """
    fresh = nbformat.from_dict(notebook)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        fresh,
        timeout=seconds,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(directory)}},
    )
    # With the modules of this process, as in tests; a user has installed the package.
    return client.execute(env=environment())


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """Returns every text of the outputs."""
    found: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            found += [output.get("text", "")]
            found += ["".join(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return found


def settled(notebook: nbformat.NotebookNode, directory: str) -> nbformat.NotebookNode:
    """Returns an executed notebook as it is committed: with the hash of its cells, and without empty outputs.

    Args:
        notebook: The notebook.
        directory: Where its kernel worked; paths in it become relative.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata = {}
            # A live table that has ended is an empty output.
            cell.outputs = [output for output in cell.outputs if output.get("data") != {"text/plain": ""}]
            for output in cell.outputs:
                if "text" in output:
                    output.text = output.text.replace(f"{directory}/", "")
                for kind, value in output.get("data", {}).items():
                    output.data[kind] = value.replace(f"{directory}/", "") if isinstance(value, str) else value
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        EXECUTED: hash_of(notebook),
    }
    return notebook


def main() -> None:
    """Executes the notebook in an empty directory, and writes it with its outputs."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        executed = settled(execute(read(), Path(directory)), directory)
    print(f"executed in {time.monotonic() - began:.0f} s")
    found = re.findall(rf"{re.escape(directory)}|{re.escape(str(Path.home()))}\S*", "\n".join(texts(executed)))
    assert not found, f"the outputs name paths of this machine: {found}"
    nbformat.write(executed, NOTEBOOK)


if __name__ == "__main__":
    main()
