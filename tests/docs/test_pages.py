"""Tests of README and the documentation: commands are parsed, spaces are read, names exist."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import test_imports
from PIL import Image
from support.pages import PAGES, README, REPOSITORY, blocks, mkdocs_hooks

from ctkd_search.checks.contract import CONTRACT
from ctkd_search.cli import main
from ctkd_search.cli.parser import make_parser
from ctkd_search.space.reader import read_space

PROGRAM = "ctkd-search"
# In running text: what stands for any command.
ANY_COMMAND = "ctkd-search COMMAND --help"
ARCHITECTURE = REPOSITORY / "docs" / "architecture.md"
PLAIN_SPACES = [block for block in blocks("yaml") if block.title is None]
IN_EACH_SPACE = pytest.mark.parametrize("block", PLAIN_SPACES, ids=lambda block: block.place)


def commands_in(line):
    """The words of each of the program's commands in a line of a shell."""
    for part in line.split("&&"):
        words = shlex.split(part, comments=True)
        if words[:1] == [PROGRAM]:
            yield words[1:]


def shell_lines():
    """Every line that is typed into a shell, with its place: in blocks, in README's indented lines, in running text."""
    for block in blocks("console", "bash"):
        number = block.line + 1
        for line in re.split(r"(?<!\\)\n", block.text):
            yield f"{block.page}:{number}", line.replace("\\\n", " ")
            number += line.count("\n") + 1
    for number, line in enumerate(README.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("    "):
            yield f"README.md:{number}", line
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"`(ctkd-search\s[^`]+)`", text):
            line = " ".join(match[1].split())
            if line != ANY_COMMAND:
                yield f"{page.relative_to(REPOSITORY)}:{text.count(chr(10), 0, match.start()) + 1}", line


def test_every_command_line_is_one_that_the_parser_takes(capsys):
    parsed, wrong = 0, []
    for place, line in shell_lines():
        for words in commands_in(line):
            try:
                make_parser().parse_args(words)
            except SystemExit as end:
                if end.code:
                    wrong.append(f"{place}: {line.strip()}: {capsys.readouterr().err.splitlines()[-1]}")
            parsed += 1
    assert wrong == []
    assert parsed > 50


def test_blocks_of_the_console_have_commands_of_this_program_or_of_pip_alone():
    for block in blocks("console"):
        for line in block.text.splitlines():
            assert line.startswith((f"{PROGRAM} ", "pip install ")), f"{block.place}: {line}"


@pytest.fixture
def what_spaces_name(tmp_path, monkeypatch):
    """A working directory that has the images and modules of the pages' spaces."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("ant", "bee"):
        for number in range(10):
            path = Path("my-images", "train", name, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40)).save(path)
    files = {"my_data.py": "def fashion", "my_code.py": "def make_net", "my_methods.py": "class SureLogits"}
    for name, function in files.items():
        block = next(block for block in blocks("python") if function in block.text)
        Path(name).write_text(block.text, encoding="utf-8")
    for name in ("teacher.pt", "a.pt", "b.pt"):
        Path(name).touch()


@IN_EACH_SPACE
def test_every_space_is_one_that_the_reader_takes(block, what_spaces_name):
    if all(line.startswith("#") for line in block.text.splitlines()):
        pytest.skip("it is a comment")
    Path("space.yaml").write_text(block.text, encoding="utf-8")
    assert read_space(Path("space.yaml")).name


def test_the_method_of_the_guide_keeps_the_contract(what_spaces_name, capsys):
    assert main(["check-method", "my_methods:SureLogits", "--pair", "wrn-10-1/resnet8"]) == 0
    assert capsys.readouterr().out.count("  ok  ") == len(CONTRACT)


def test_every_block_of_python_compiles():
    found = [block for block in blocks("python") if block.title is None or ", " not in block.title]
    assert found
    for block in found:
        compile(block.text, block.place, "exec", ast.PyCF_ONLY_AST)


def test_readme_is_short_and_its_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 10_000
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    relative = [link for link in links if "://" not in link]
    assert len(relative) > 10
    assert [link for link in relative if not (REPOSITORY / link).is_file()] == []


def test_every_name_of_the_python_reference_exists():
    text = (REPOSITORY / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    found = re.findall(r"^::: (\S+)$(?:\n +options:\n +members: \[(.*)\])?", text, re.M)
    assert found
    for name, members in found:
        module, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        assert all(hasattr(value, member) for member in members.split(", ") if member), name


def test_commands_are_described_with_every_option():
    text = mkdocs_hooks.commands_reference()
    for name, (summary, parser) in mkdocs_hooks.commands().items():
        assert f"## {name} {{#{name}}}" in text
        assert summary in text
        shown = [action for action in parser._actions if action.help != "==SUPPRESS==" and action.dest != "help"]
        assert all(f"`{option}" in text for action in shown for option in action.option_strings)


def test_rooms_are_listed_in_the_order_of_their_imports():
    rows = re.findall(r"^\| `(\w+)` \| .* \|$", ARCHITECTURE.read_text(encoding="utf-8"), re.M)
    assert rows[: len(test_imports.ROOMS)] == test_imports.ROOMS
    ground = next(line for line in ARCHITECTURE.read_text(encoding="utf-8").splitlines() if "| the ground |" in line)
    assert set(re.findall(r"`(\w+)`", ground)) == test_imports.GROUND


def test_files_and_classes_that_the_architecture_names_exist():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in test_imports.SOURCES)
    files = re.findall(r"`([\w/]+\.py)`", text)
    assert files
    assert [
        name for name in files if not any((root / name).is_file() for root in (test_imports.PACKAGE, REPOSITORY))
    ] == []
    names = [name.split(".")[0] for name in re.findall(r"`([A-Z][a-z]\w+(?:\.\w+)?)`", text)]
    assert names
    assert [name for name in names if f"class {name}" not in sources] == []
    picture = (REPOSITORY / "docs" / "images" / "resume.svg").read_text(encoding="utf-8")
    for name in re.findall(r">([A-Za-z_.]+(?:, [A-Za-z_.]+)*)</text>", picture):
        for part in name.split(", "):
            if "_" in part or re.fullmatch(r"[A-Z]\w+[a-z][A-Z]\w+", part):
                assert re.search(rf"(class|def) {part.split('.')[-1]}\b", sources), part
