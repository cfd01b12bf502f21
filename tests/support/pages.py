"""The documentation's pages, and the blocks of code in them."""

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
_SPEC = importlib.util.spec_from_file_location("mkdocs_hooks", REPOSITORY / "mkdocs_hooks.py")
# The hooks of the documentation's build, which are no module of a package.
mkdocs_hooks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(mkdocs_hooks)
README = REPOSITORY / "README.md"
PAGES = [README, REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^( *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<text>.*?)^\1```$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block of code.

    Attributes:
        page: The page's path in the repository.
        line: The line at which it begins.
        language: The word behind the fence.
        title: Its title, or None.
        text: The code.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str

    @property
    def place(self):
        return f"{self.page}:{self.line}"


def blocks(*languages):
    """Every block in one of these languages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start()) + 1
                name = str(page.relative_to(REPOSITORY))
                found.append(Block(name, line, match["language"], match["title"], match["text"]))
    return found
