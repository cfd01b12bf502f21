"""How pairs are written, however they are typed."""

import pytest

from ctkd_search.pairs import Pair, settled_pair, short_name, split_pair


@pytest.mark.parametrize(
    ("text", "teacher", "student", "kept"),
    [
        ("wrn-40-1/wrn-16-1", "wrn-40-1", "wrn-16-1", "wrn-40-1/wrn-16-1"),
        ("wrn-40-1 -> wrn-16-1", "wrn-40-1", "wrn-16-1", "wrn-40-1/wrn-16-1"),
        ("wrn-40-1->wrn-16-1", "wrn-40-1", "wrn-16-1", "wrn-40-1/wrn-16-1"),
        ("torchvision/resnet34 -> vgg8", "torchvision/resnet34", "vgg8", "torchvision/resnet34 -> vgg8"),
        ("vgg13->timm/resnet10t", "vgg13", "timm/resnet10t", "vgg13 -> timm/resnet10t"),
        ("mine.nets:big/mine.nets:small", "mine.nets:big", "mine.nets:small", "mine.nets:big/mine.nets:small"),
    ],
)
def test_a_pair_is_kept_in_one_way_however_it_was_typed(text, teacher, student, kept):
    assert split_pair(text) == (teacher, student)
    assert settled_pair(text) == kept == str(Pair(teacher, student))
    assert split_pair(kept) == split_pair(text)


@pytest.mark.parametrize(
    "text", ["", "wrn-16-1", "a/b/c", "torchvision/resnet34/vgg8", "a -> b -> c", "-> b", "a ->", "a/", "/b", " / "]
)
def test_what_is_no_pair_is_refused_with_both_ways_to_write_one(text):
    with pytest.raises(ValueError, match=r"must be TEACHER/STUDENT, as in .*, or TEACHER -> STUDENT, as in") as caught:
        split_pair(text)
    assert str(caught.value).endswith(f"but got {text!r}")
    assert settled_pair(text) == text


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("wrn-16-1", "wrn-16-1"),
        ("torchvision/resnet34", "resnet34"),
        ("timm/resnet50.a1_in1k+pretrained", "resnet50.a1_in1k+pretrained"),
        ("torchvision/resnet34+stem=full+taps=layer1|layer2", "resnet34+stem=full"),
        ("my.nets:small", "small"),
    ],
)
def test_labels_leave_out_where_an_architecture_comes_from(name, short):
    assert short_name(name) == short
