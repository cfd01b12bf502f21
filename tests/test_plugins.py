"""The user's own code: found where the user stands, and answered with a sentence when it cannot be had."""

import subprocess
import sys
import textwrap

import pytest

from ctkd_search.errors import UserError
from ctkd_search.plugins import changed_code, code_hashes, describe_error, is_reference, load_object


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules into a working directory of their own; what was imported from there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def writes(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    yield writes
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)) or name == "plugged":
            del sys.modules[name]


def test_attribute_of_a_module_in_the_working_directory(write):
    write("plugged/__init__.py", "")
    write("plugged/inner.py", "class Box:\n    value = 7\n")
    assert load_object("plugged.inner:Box.value") == 7


def test_what_is_installed():
    assert load_object("collections.abc:Mapping").__name__ == "Mapping"


def test_module_written_after_its_directory_was_looked_into(write):
    with pytest.raises(UserError):
        load_object("plugged_late:thing")
    write("plugged_late.py", "thing = 1")
    assert load_object("plugged_late:thing") == 1


@pytest.mark.parametrize(
    "reference", ["", "module", ":make", "module:", "a:b:c", "my-code:make", "a..b:c", "a: b", "1:a"]
)
def test_what_is_no_reference(reference):
    with pytest.raises(UserError, match=r"is not of the form package\.module:factory"):
        load_object(reference)


@pytest.mark.parametrize(
    ("reference", "phrase"),
    [
        ("plugged_nowhere:make", "there is no module 'plugged_nowhere' in the working directory"),
        ("plugged_nowhere.inner:make", "there is no module 'plugged_nowhere' in the working directory"),
        ("plugged.nowhere:make", "there is no module 'plugged.nowhere' in the working directory"),
        ("plugged:nothing", "plugged/__init__.py has no 'nothing'"),
        ("plugged:Box.nothing", "has no 'nothing'"),
    ],
)
def test_what_is_missing_is_named(write, tmp_path, reference, phrase):
    write("plugged/__init__.py", "class Box: pass\n")
    with pytest.raises(UserError) as caught:
        load_object(reference)
    assert phrase in str(caught.value)
    if "working directory" in phrase:
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "phrase"),
    [
        ("raises", "def inner():\n    raise ValueError('too\\nlong')\ninner()\n", "ValueError: too ("),
        ("exits", "\nraise SystemExit\n", "SystemExit ("),
        ("imports", "\nimport plugged_absent.inner\n", "No module named 'plugged_absent' ("),
        ("garbled", "\nx = = 1\n", "SyntaxError: invalid syntax ("),
    ],
)
def test_module_that_cannot_be_imported_says_why_and_where_in_one_line(write, name, text, phrase):
    path = write(f"plugged_{name}.py", text)
    with pytest.raises(UserError) as caught:
        load_object(f"plugged_{name}:make")
    message = str(caught.value)
    assert phrase in message
    assert f"({path}, line 2)" in message
    assert "\n" not in message


def test_names_that_come_along_are_no_references():
    assert [is_reference(name) for name in ("digits", "wrn-16-1", "a:b", "a.b:c")] == [False, False, True, True]


def test_importing_this_is_light():
    script = "import sys, ctkd_search.plugins; print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_a_file_that_has_changed_has_another_hash(write):
    path = write("plugged.py", "class Box: pass\n")
    noted = code_hashes(["plugged:Box", "ctkd"])
    assert list(noted) == ["plugged:Box"]
    assert changed_code(noted, code_hashes(["plugged:Box"])) == []
    path.write_text("class Box: pass  # another one\n")
    assert changed_code(noted, code_hashes(["plugged:Box"])) == ["plugged:Box: its file has changed"]
    assert changed_code({}, noted) == []


def test_an_error_is_told_with_the_last_line_of_a_file(write):
    path = write("plugged.py", "import json\n\n\ndef read():\n    return json.loads('{')\n")
    with pytest.raises(ValueError, match="Expecting") as raised:
        load_object("plugged:read")()
    assert describe_error(raised.value, str(path)).endswith(f"({path}, line 5)")
    assert "json/decoder.py, line" in describe_error(raised.value)
