"""YAML documents: lines of problems, numbers, duplicate keys, overrides, and files that are no YAML at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import pytest

from ctkd_search.errors import UserError
from ctkd_search.fields import Count, Fraction, FromList, Range
from ctkd_search.space.document import Document, read

DOCUMENT = """\
# a heading

name: x
train:
  lr: 0.1
  milestones:
    - 0.3
    - 0.6
search: {lr: {float: [1, 2]},
         beta: {float: [3,
                        4], log: true}}
stages:
  - {width: 1}
  - width: 2
"""


def lines_of(document: Document) -> list[str]:
    """The lines of the error that a document raises, without the heading."""
    with pytest.raises(UserError) as caught:
        document.raise_problems()
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def refusal(text: str, *overrides: str) -> str:
    """The message with which a document is refused."""
    with pytest.raises(UserError) as caught:
        Document("f.yaml", text, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ((), 3),
        (("name",), 3),
        (("train",), 4),
        (("train", "lr"), 5),
        (("train", "milestones", 1), 8),
        (("search", "lr", "float", 1), 9),
        (("search", "beta"), 10),
        (("search", "beta", "float", 1), 11),
        (("search", "beta", "log"), 11),
        (("stages", 0, "width"), 13),
        (("stages", 1, "width"), 14),
        (("train", "missing"), 4),
        (("train", "milestones", 7, "deeper"), 6),
        (("missing",), 3),
    ],
    ids=str,
)
def test_a_problem_has_the_line_of_its_key_or_of_what_is_around_it(place, line):
    document = Document("f.yaml", DOCUMENT)
    document.fault(place, "is wrong")
    assert lines_of(document) == [f"line {line}: {'.'.join(map(str, place))} is wrong"]


def test_problems_come_all_at_once_in_the_order_of_the_file():
    document = Document("f.yaml", DOCUMENT)
    for place in [("stages",), ("name",), ("search", "beta"), ("train", "lr")]:
        document.fault(place, "is wrong")
    with pytest.raises(UserError, match=r"\Af.yaml has 4 errors:\n"):
        document.raise_problems()
    assert [line.split(":")[0] for line in lines_of(document)] == ["line 3", "line 5", "line 10", "line 12"]


def test_one_problem_is_one_error_and_none_is_none():
    document = Document("f.yaml", DOCUMENT)
    document.raise_problems()
    document.fault(("name",), "is wrong")
    with pytest.raises(UserError, match=r"\Af.yaml has 1 error:\n"):
        document.raise_problems()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", ["line 3: a is duplicated; leave one out"]),
        ("a: {b: 1, c: 2,\n  b: 3}", ["line 2: a.b is duplicated; leave one out"]),
        ("a:\n  - b: 1\n    b: 2", ["line 3: a.0.b is duplicated; leave one out"]),
        ("a: 1\na: 2\na: 3", ["line 3: a is duplicated; leave one out"] * 2),
        ("a: 1\n'a': 2", ["line 2: a is duplicated; leave one out"]),
    ],
)
def test_a_key_given_twice_is_a_problem(text, expected):
    assert lines_of(Document("f.yaml", text)) == expected


def test_a_key_that_replaces_a_merged_one_is_not_there_twice():
    document = Document("f.yaml", "a: &a {p: 1, q: 2}\nb:\n  <<: *a\n  p: 3\n")
    document.raise_problems()
    assert document.data["b"] == {"p": 3, "q": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1E3", 1000.0),
        ("+1e2", 100.0),
        ("-1.5e-3", -0.0015),
        (".5e1", 5.0),
        ("5.0e-4", 5e-4),
        ("12e03", 12000.0),
        ("3", 3),
        ("0.5", 0.5),
        ("1e", "1e"),
        ("e5", "e5"),
        ("1e3-long", "1e3-long"),
        ("51e9ab3f", "51e9ab3f"),
        ("'5e-4'", "5e-4"),
        ("1h30m", "1h30m"),
        # YAML 1.1 would read 8, 90 and 5400 here, and 1.2 other things.
        ("010", "010"),
        ("1:30", "1:30"),
        ("1:30:00.5", "1:30:00.5"),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0", 0),
        ("-7", -7),
        (".inf", float("inf")),
        ("1.", 1.0),
        ("wrn-16-1/resnet8", "wrn-16-1/resnet8"),
    ],
)
def test_numbers_are_numbers_as_people_write_them_and_all_else_is_text(text, value):
    for read_value in (
        Document("f.yaml", f"a: {text}").data["a"],
        Document("f.yaml", f"a: [{text}]").data["a"][0],
        Document("f.yaml", "a: 0", [f"a={text}"]).data["a"],
    ):
        assert (read_value, type(read_value)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ("a:\n\tb: 1", 2, "'\\t'"),
        ("a: 1\nb: [1, 2\nc: 3", 3, "not valid YAML"),
        ("a: 1\n  b: 2", 2, "not valid YAML"),
        ("a: 'open", 1, "not valid YAML"),
        ("a: 1\nb: *nothing", 2, "undefined alias"),
        ("a: 1\nb: !!python/object:os.system x", 2, "tag"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("a: 1\n? [1, 2]\n: 3", 2, "unhashable key"),
        ("a: 1\nb: 2020-13-45", 2, "month"),
        ("a: 1\nb: \x00", 2, "not valid YAML"),
        ("a: 1\nb: \x07", 2, "not valid YAML"),
    ],
)
def test_bad_yaml_is_refused_with_its_line(text, line, fragment):
    message = refusal(text)
    assert message.startswith(f"f.yaml, line {line}: not valid YAML: ")
    assert fragment in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "advice"), [("a:\n\tb: 1", "; indent with spaces, not tabs"), ("a: 1\n---\nb: 2", "; a file has one, so ")]
)
def test_what_to_do_about_bad_yaml_is_said(text, advice):
    assert advice in refusal(text)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("2024-01-01", "a date"),
        ("2024-01-01 10:00:00", "a time"),
        ("1e3", "a number"),
        ("12", "a number"),
        ("yes", "true or false"),
    ],
)
def test_text_that_yaml_reads_as_something_else_is_to_be_put_in_quotes(written, kind):
    wanted = f"part.note must be text, but {written} without quotes is {kind} in YAML; put it in quotes: '{written}'"
    for document in (
        Document("f.yaml", f"part:\n  count: 1\n  note: {written}"),
        Document("f.yaml", "part: {count: 1}", [f"part.note={written}"]),
    ):
        document.section("part", Form, FALLBACK)
        (line,) = lines_of(document)
        assert line.endswith(wanted)
        quoted = Document("f.yaml", "part: {count: 1}", [f"part.note='{written}'"])
        assert quoted.section("part", Form, FALLBACK).note == written


def test_a_truth_value_that_was_written_as_a_word_is_shown_as_it_was_written():
    document = Document("f.yaml", "a: no\nb: false\n", ["c={d: [off]}"])
    for place in (("a",), ("b",), ("c", "d", 0)):
        document.fault(place, "must be kl, but got False")
    assert [line.partition("got ")[2] for line in lines_of(document)] == [
        "False, as which YAML reads off without quotes",
        "False, as which YAML reads no without quotes",
        "False",
    ]


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {b: *a}", "a: " + "[" * 3000], ids=["list", "mapping", "deep"])
def test_endless_nesting_is_refused(text):
    assert "f.yaml" in refusal(text)


@pytest.mark.parametrize(("text", "kind"), [("- 1\n- 2", "list"), ("just words", "str"), ("3", "int")])
def test_anything_but_a_mapping_is_refused(text, kind):
    assert refusal(text) == f"f.yaml: must be a mapping of keys to values, but got {kind}"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_file_has_no_keys_and_its_problems_stand_in_line_1(text):
    document = Document("f.yaml", text)
    assert document.data == {}
    document.fault(("name",), "is missing")
    assert lines_of(document) == ["line 1: name is missing"]


@pytest.mark.parametrize("content", [bytes(range(256)), b"\x89PNG\r\n\x1a\n\x00\x00", b"name: \x00\n", b"\xff\xfea"])
def test_a_binary_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        read(path)


def test_a_missing_file_and_a_directory_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=f"there is no file {re.escape(str(tmp_path))}/none.yaml"):
        read(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=f"cannot read {re.escape(str(tmp_path))}: Is a directory"):
        read(tmp_path)


def test_a_file_is_read_as_utf8_with_or_without_a_byte_order_mark(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes("\ufeffname: étude\n".encode())
    assert read(path, ["seed=3"]).data == {"name": "étude", "seed": 3}


@pytest.mark.parametrize(
    ("overrides", "data"),
    [
        (["a=2"], {"a": 2, "b": {"c": 1}}),
        (["b.c=x y"], {"a": 1, "b": {"c": "x y"}}),
        (["b.d.e=5e-4"], {"a": 1, "b": {"c": 1, "d": {"e": 5e-4}}}),
        (["d.deep.er=true"], {"a": 1, "b": {"c": 1}, "d": {"deep": {"er": True}}}),
        (["b={d: [1, kl]}"], {"a": 1, "b": {"d": [1, "kl"]}}),
        (["a="], {"a": None, "b": {"c": 1}}),
        (["a=x=y"], {"a": "x=y", "b": {"c": 1}}),
        ([" a =2", "a=3"], {"a": 3, "b": {"c": 1}}),
        (["b=", "b.c=2"], {"a": 1, "b": {"c": 2}}),
        (["sampler=gp", "sampler.x=2"], {"a": 1, "b": {"c": 1}, "sampler": {"name": "gp", "x": 2}}),
    ],
)
def test_overrides_create_and_replace_values_written_in_yaml(overrides, data):
    assert Document("f.yaml", "a: 1\nb: {c: 1}", overrides).data == data


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("a.deep.er=true", "--set a.deep.er: a is 1, which has no keys; replace it as a whole, with --set a=VALUE"),
        ("b.c.d=2", "--set b.c.d: b.c is 'x', which has no keys; replace it as a whole, with --set b.c=VALUE"),
        ("b.l.0=2", "--set b.l.0: b.l is [1, 2], which has no keys; replace it as a whole, with --set b.l=VALUE"),
    ],
)
def test_an_override_below_a_value_without_keys_does_not_discard_it(override, said):
    assert refusal("a: 1\nb: {c: x, l: [1, 2]}", override) == said


def test_an_override_reaches_one_place_alone_where_two_share_an_anchor():
    document = Document("f.yaml", "train: &recipe {lr: 1}\nteachers: *recipe\n", ["train.lr=2"])
    assert document.data == {"train": {"lr": 2}, "teachers": {"lr": 1}}


@pytest.mark.parametrize(
    ("override", "place", "where"),
    [
        ("name=5", ("name",), "--set name"),
        ("train.lr=fast", ("train", "lr"), "--set train.lr"),
        ("train.lr=fast", ("train", "milestones"), "line 6"),
        ("new.section.key=1", ("new", "section"), "--set new.section.key"),
        ("search.alpha={float: [1]}", ("search", "alpha", "float"), "--set search.alpha"),
        ("train={lr: fast}", ("train", "lr"), "--set train"),
        ("search.lr={float: [9, 1]}", ("search", "lr", "float", 0), "--set search.lr"),
    ],
)
def test_a_problem_with_an_overridden_value_names_the_override(override, place, where):
    document = Document("f.yaml", DOCUMENT, [override])
    document.fault(place, "is wrong")
    assert lines_of(document) == [f"{where}: {'.'.join(map(str, place))} is wrong"]


@pytest.mark.parametrize("override", ["", "a", "=1", ".a=1", "a.=1", "a..b=1", " =1"])
def test_an_override_that_is_no_key_and_value_is_refused(override):
    assert refusal("a: 1", override) == f"--set takes KEY=VALUE, as in train.batch_size=64, but got {override!r}"


@pytest.mark.parametrize("value", ["[1, 2", "b: c: d", "*x", "\t{", "\x00", "2020-13-45"])
def test_an_override_whose_value_is_no_yaml_is_refused_by_its_key(value):
    assert refusal("a: 1", f"a.b={value}").startswith("--set a.b: ")


@dataclass(frozen=True)
class Form:
    count: Count
    rate: Annotated[float, Range(0, 1)] = 0.5
    note: str | None = None
    flag: bool = False
    shares: Annotated[tuple[Fraction, ...], FromList()] = (0.5,)


FALLBACK = Form(7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{count: 2, rate: 1, note: x, flag: true, shares: [0.1]}", Form(2, 1.0, "x", True, (0.1,))),
        ("{count: 2, note: null}", Form(2)),
        ("null", FALLBACK),
    ],
)
def test_a_section_fills_its_form(text, expected):
    document = Document("f.yaml", f"part: {text}")
    assert document.section("part", Form, FALLBACK) == expected
    document.raise_problems()


@pytest.mark.parametrize(
    ("text", "key", "fragment"),
    [
        ("{}", "count", "is missing"),
        ("{count: '2'}", "count", "must be a whole number, but got '2'"),
        ("{count: 2.0}", "count", "must be a whole number, but got 2.0"),
        ("{count: true}", "count", "must be a whole number, but got True"),
        ("{count: null}", "count", "must be a whole number, but got None"),
        ("{count: 0}", "count", "must be at least 1, but got 0"),
        ("{count: 1, rate: 2}", "rate", "must be in [0, 1], but got 2"),
        ("{count: 1, rate: .nan}", "rate", "must be finite and in [0, 1], but got nan"),
        ("{count: 1, note: [5]}", "note", "must be text, but got [5]"),
        ("{count: 1, rate: .inf}", "rate", "must be finite and in [0, 1], but got inf"),
        ("{count: 1, flag: 1}", "flag", "must be true or false, but got 1"),
        ("{count: 1, flag: 'yes'}", "flag", "must be true or false, but got 'yes'"),
        ("{count: 1, shares: 0.1}", "shares", "must be a list, but got 0.1"),
        ("{count: 1, shares: [0.1, 1.5]}", "shares.1", "must be in (0, 1), but got 1.5"),
        ("{count: 1, cuont: 2}", "cuont", "is not a known key (did you mean count?); allowed: count, rate, note"),
        ("{count: 1, 3: 2}", "3", "is not a known key; allowed"),
    ],
)
def test_a_section_that_does_not_fit_its_form_is_refused_and_what_is_right_of_it_is_taken(text, key, fragment):
    document = Document("f.yaml", f"part: {text}")
    # Without its count there can be no form at all.
    assert document.section("part", Form, FALLBACK) == (FALLBACK if key == "count" else Form(count=1))
    (line,) = lines_of(document)
    assert line.startswith(f"line 1: part.{key} {fragment}")


def test_a_section_that_is_no_mapping_is_told_its_keys():
    document = Document("f.yaml", "part: 3")
    assert document.section("part", Form, FALLBACK) is FALLBACK
    keys = "count, rate, note, flag, shares"
    assert lines_of(document) == [f"line 1: part must be a mapping, with the keys {keys}, but got 3"]


def test_every_fault_of_a_section_is_noted():
    document = Document("f.yaml", "part:\n  rate: 3\n  flag: 1\n  nte: x\n")
    document.section("part", Form, FALLBACK)
    assert [line.split()[2] for line in lines_of(document)] == ["part.count", "part.rate", "part.flag", "part.nte"]


def test_a_file_that_is_no_utf8_is_refused_with_the_line_and_the_byte(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes("a: 1\nname: é\n".encode("latin-1"))
    with pytest.raises(UserError, match="byte 0xe9 in line 2 is not UTF-8; save the file as UTF-8"):
        read(path)


def test_lines_may_end_as_windows_ends_them(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\r\nb:\r\n  - 2\r\n")
    document = read(path)
    assert document.data == {"a": 1, "b": [2]}
    document.fault(("b", 0), "is wrong")
    assert lines_of(document) == ["line 3: b.0 is wrong"]
