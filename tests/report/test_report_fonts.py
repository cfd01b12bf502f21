"""Names in pictures that the usual font has no characters for."""

import warnings

import matplotlib
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib import font_manager

from ctkd_search.report import figures, fonts
from ctkd_search.report.attention import AFTER, BEFORE, EXPERT, Looks

NOBODYS = "\U000e0041\ufdd0"  # a tag and a noncharacter, which no font has


def looks(names):
    images = np.zeros((len(names), 4, 4, 3), dtype=np.uint8)
    maps = {(1, name): np.ones((len(names), 2, 2)) for name in (EXPERT, BEFORE, AFTER)}
    return Looks(images, list(names), (1,), maps, {1: (0.1, 0.2)}, 5)


@pytest.mark.parametrize(
    "name", ["café", "Ωμέγα", "кошка", "$x$", "a_b^c", "100 %", "$\\frac{a & b$", "two\nlines", "x" * 300]
)
def test_names_that_the_usual_font_has_are_drawn_as_they_are(name):
    assert fonts.is_drawable(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = figures.attention(looks([name, "cat"]))
    assert "row" not in picture.caption.partition("images: ")[2]


@pytest.mark.parametrize("name", ["قطة", "חתול", "बिल्ली", NOBODYS], ids=["arabic", "hebrew", "hindi", "nobody's"])
def test_names_that_cannot_be_drawn_are_numbers_with_a_legend_in_the_caption(name):
    with warnings.catch_warnings(), fonts.fonts_for([name]):
        warnings.simplefilter("error")
        picture = figures.attention(looks(["cat", name]))
    assert picture.caption.endswith(f" row 2: {name}.")


def test_a_font_that_has_the_names_is_found_or_they_are_numbers():
    with warnings.catch_warnings(), fonts.fonts_for(["猫", "狗"]):
        warnings.simplefilter("error")
        picture = figures.attention(looks(["猫", "cat"]))
        found = len(fonts.families()) > 1 and fonts.is_drawable("猫")
    assert ("row 1: 猫" in picture.caption) is not found
    assert fonts.families() == [fonts.MAIN]


def test_fonts_that_have_the_most_of_what_is_missing_come_first(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: {"A": "a", "B": "b", "C": "c"})
    monkeypatch.setattr(fonts, "_path", str.lower)
    known = {"dejavu sans": "xyz", "a": "猫", "b": "猫狗", "c": "鸟"}
    monkeypatch.setattr(fonts, "_characters", lambda path: frozenset(map(ord, known[path])))
    with fonts.fonts_for(["xy 猫", "狗鸟", "\ufdd0"]):
        assert fonts.families() == [fonts.MAIN, "B", "C"]
        assert fonts.is_drawable("x 猫鸟")
        assert not fonts.is_drawable("\ufdd0")
    with fonts.fonts_for(["xyz"]):
        assert fonts.families() == [fonts.MAIN]
    assert matplotlib.rcParams["font.family"] == ["sans-serif"]


def test_a_font_of_another_weight_is_used_without_a_word(tmp_path, monkeypatch, caplog):
    # DejaVu Sans under another name, of weight 500 alone, with a character that no other font has.
    made = TTFont(font_manager.findfont(fonts.MAIN))
    for record in made["name"].names:
        if record.nameID in (1, 4, 16):
            record.string = "Nobody Medium"
        elif record.nameID in (2, 17):
            record.string = "Medium"
    made["OS/2"].usWeightClass = 500
    for table in made["cmap"].tables:
        if table.format == 12:
            table.cmap[ord(NOBODYS[0])] = "A"
    made.save(tmp_path / "nobody.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "nobody.ttf")
    fonts._installed.cache_clear()
    fonts._path.cache_clear()
    try:
        with fonts.fonts_for([NOBODYS[0]]):
            assert fonts.families() == [fonts.MAIN, "Nobody Medium"]
            picture = figures.attention(looks([NOBODYS[0], "cat"]))
    finally:
        fonts._installed.cache_clear()
        fonts._path.cache_clear()
    assert "row" not in picture.caption.partition("images: ")[2]
    assert caplog.text == ""
