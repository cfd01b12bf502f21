"""The notebook of the documentation: a user's run of it ends well, and what is committed is such a run's output."""

import json
import re
import socket
import time
import types
from queue import Empty

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from support.here import fresh_store
from support.notebook import EXECUTED, NOTEBOOK, execute, hash_of, read, settled, texts
from support.pages import mkdocs_hooks
from support.python import environment

from ctkd_search.records.store import SearchFolder

LARGEST = 300_000


def test_the_committed_outputs_are_of_these_cells_in_their_order():
    notebook = read()
    nbformat.validate(notebook)
    assert notebook.metadata[EXECUTED] == hash_of(notebook), "execute it again: python -m support.notebook"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2


def test_the_committed_notebook_is_small_and_names_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    shown = "\n".join(texts(read()))
    assert re.findall(r"/(?:home|root|tmp|work|usr|Users|var)/\S*", shown) == []
    assert socket.gethostname() not in shown
    assert not re.findall(r"warning|error|traceback|ipywidgets", shown, re.I)


def test_every_link_of_the_notebook_leads_to_a_page():
    text = "\n".join(cell.source for cell in read().cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []


def test_links_of_the_notebook_lead_to_built_pages():
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="notebook.ipynb"))
    html = '<a href="guides/a.md#b"> <a href="c.md"> <a href="https://x.org/d.md"> <a href="e.png"> f.md'
    built = '<a href="guides/a.html#b"> <a href="c.html"> <a href="https://x.org/d.md"> <a href="e.png"> f.md'
    assert mkdocs_hooks.on_page_content(html, page) == built
    page.file.src_uri = "index.md"
    assert mkdocs_hooks.on_page_content(html, page) == html


@pytest.mark.slow
def test_a_run_of_the_notebook_ends_with_a_student_that_reads_digits(tmp_path):
    fresh_store(tmp_path / "trials" / "mlflow.db")
    executed = settled(execute(read(), tmp_path), str(tmp_path))
    assert [cell.source for cell in executed.cells] == [cell.source for cell in read().cells]
    shown = "\n".join(texts(executed))
    right = float(re.search(r"([\d.]+)% of 355 test images", shown)[1])
    assert right > 90
    assert SearchFolder(tmp_path / "trials", "scans").search().finished
    # A table of the log is kept as text, not shown as HTML.
    assert "student-alone" in (tmp_path / "trials" / "scans" / "final-1" / "table.txt").read_text()
    seen, now = (texts(notebook)[-1] for notebook in (read(), executed))
    assert seen == now


@pytest.fixture
def kernel(tmp_path):
    """The kernel of a notebook."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path), env=environment())
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def outputs(client, waiting, until, seconds=400):
    """Messages of a cell until one of them is wanted."""
    found, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=5)
        except Empty:
            continue
        if message["parent_header"].get("msg_id") == waiting:
            found.append(message)
            if until(message):
                return found
    raise AssertionError(f"not within {seconds} s: {json.dumps([each['content'] for each in found])[-2000:]}")


def is_idle(message):
    return message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"


SPACE = {
    "name": "small",
    "dataset": {"name": "digits", "validation": 0.8},
    "budget": {"trials": 2, "epochs": 30, "grace_period": 30},
    "teachers": {"recipe": {"batch_size": 64, "lr": 0.05}},
    "train": {"batch_size": 64},
    "search": {"pair": "wrn-10-1/resnet8", "lr": {"float": [0.01, 0.2], "log": True}},
    "resources": {"concurrent_trials": 1},
}


@pytest.mark.slow
def test_the_kernels_interrupt_stops_a_search_which_then_goes_on(kernel, tmp_path):
    manager, client = kernel
    fresh_store(tmp_path / "trials" / "mlflow.db")

    def table_with_epochs(message):
        text = message["content"].get("data", {}).get("text/plain", "")
        return message["msg_type"] == "update_display_data" and re.search(r" [1-9]\d?/30", text)

    waiting = client.execute(f"import ctkd_search\nspace = {SPACE!r}\nctkd_search.run(space)")
    outputs(client, waiting, table_with_epochs)
    manager.interrupt_kernel()
    found = outputs(client, waiting, is_idle)
    (error,) = [message["content"] for message in found if message["msg_type"] == "error"]
    assert error["ename"] == "KeyboardInterrupt"
    said = "".join(message["content"].get("text", "") for message in found if message["msg_type"] == "stream")
    assert "all results so far are kept; go on with: ctkd_search.run(space, resume=True)" in said
    folder = SearchFolder(tmp_path / "trials", "small")
    assert "interrupted" in [trial.status for trial in folder.trials()]
    waiting = client.execute("search = ctkd_search.run(space, resume=True)\nsearch")
    found = outputs(client, waiting, is_idle)
    assert [message["content"] for message in found if message["msg_type"] == "error"] == []
    (shown,) = [message["content"]["data"] for message in found if message["msg_type"] == "execute_result"]
    assert "<table>" in shown["text/html"]
    assert [len(trial.epochs) for trial in folder.trials()] == [30, 30]
