"""The user's own data set: what a factory may return, and a sentence on whatever else it does."""

import sys
import textwrap

import numpy as np
import pytest
from PIL import Image
from support.layouts import random_pixels

from ctkd_search import data
from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.decode import decode_image
from ctkd_search.data.own import _made
from ctkd_search.errors import UserError

HEAD = """\
    import numpy as np
    from PIL import Image
    from ctkd_search.config import Augment
    from ctkd_search.data import Images, OwnData

    PIXELS = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
    LABELS = np.arange(20) % 2

"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module of the user's; gives the data set that its factory makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def writes(text, **options):
        (tmp_path / "users_own.py").write_text(textwrap.dedent(HEAD) + textwrap.dedent(text))
        sys.modules.pop("users_own", None)
        _made.cache_clear()
        return DatasetConfig("users_own:make", options=options or None)

    yield writes
    sys.modules.pop("users_own", None)
    _made.cache_clear()


RETURNED = {
    "arrays": "(PIXELS, LABELS)",
    "lists of labels in another type": "(PIXELS, LABELS.astype(np.uint8))",
    "images": "Images(PIXELS, LABELS)",
    "tensors": "(__import__('torch').tensor(PIXELS), __import__('torch').tensor(LABELS))",
    "pairs of pictures": "[(Image.fromarray(p), int(l)) for p, l in zip(PIXELS, LABELS)]",
    "pairs of arrays": "[(p, l) for p, l in zip(PIXELS, LABELS)]",
    "a data set of torch": "__import__('torch').utils.data.StackDataset([Image.fromarray(p) for p in PIXELS], LABELS)",
}


@pytest.mark.parametrize("returned", RETURNED.values(), ids=RETURNED.keys())
def test_whatever_form_the_images_have_they_are_the_same(own, returned):
    config = own(
        f"def make():\n    return OwnData(['a', 'b'], 12, 3, train=lambda: {returned}, test=lambda: {returned})\n"
    )
    expected = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
    test = data.load_test(config)
    assert np.array_equal(test.pixels, expected)
    assert test.labels.tolist() == [0, 1] * 10
    assert test.labels.dtype == np.int64
    splits = data.load_train(config)
    assert splits.classes == ("a", "b")
    assert len(splits.train) == 18
    assert data.geometry(config) == splits.geometry


def test_pictures_of_any_size_and_colour_are_seen_as_in_a_folder(own, tmp_path):
    for number, mode in enumerate(["RGB", "L", "RGBA", "P", "CMYK", "1"] * 2):
        Image.fromarray(random_pixels(1, 20 + number, seed=number)[0]).convert(mode).save(tmp_path / f"{number}.tif")
    for channels in (1, 3):
        config = own(
            "def make(channels):\n"
            "    pairs = [(Image.open(f'{n}.tif'), n % 2) for n in range(12)]\n"
            "    return OwnData(['a', 'b'], 16, channels, train=lambda: pairs, test=lambda: pairs)\n",
            channels=channels,
        )
        expected = [decode_image(tmp_path / f"{number}.tif", 16, channels) for number in range(12)]
        assert np.array_equal(data.load_test(config).pixels, np.stack(expected))


def test_options_are_the_arguments_and_images_are_loaded_only_when_needed(own):
    config = own(
        """\
        def make(root, *, size=12, grey=False):
            def fail():
                raise AssertionError("loaded")
            channels = 1 if grey else 3
            augment = Augment(crop=size // 4, flip=False)
            return OwnData([root, "b"], size, channels, train=fail, test=fail, augment=augment)
        """,
        root="a",
        size=24,
        grey=True,
    )
    assert data.problems(config) == []
    assert data.geometry(config) == (2, 1, 24)
    assert data.find(config).augment == Augment(crop=6, flip=False)
    with pytest.raises(
        UserError, match=r"users_own:make: train\(\) fails with AssertionError: loaded \(.*users_own.py"
    ):
        data.load_train(config)


def test_own_validation_split_mean_and_deviation_are_used(own):
    config = own("""\
        def make():
            return OwnData(["a", "b"], 12, 3, train=lambda: (PIXELS, LABELS), test=lambda: (PIXELS, LABELS),
                           validation=lambda: (PIXELS[:4], LABELS[:4]), mean=(1, 2, 3), std=[4, 5, 6])
        """)
    splits = data.load_train(config)
    assert (len(splits.train), len(splits.validation)) == (20, 4)
    assert (splits.mean, splits.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    ((key, message),) = data.problems(DatasetConfig(config.name, validation=0.2))
    assert key == "validation"
    assert "has its own validation split" in message


def test_other_keys_belong_to_the_factory(own):
    config = own("def make():\n    return None\n")
    found = data.problems(DatasetConfig(config.name, root="x", channels=1))
    assert [key for key, _ in found] == ["root", "channels", "name"]
    assert "(its own options: options)" in found[0][1]


FAULTY = {
    "makes nothing": ("def make(): pass", "must return ctkd_search.data.OwnData, but returned nothing"),
    "makes something else": ("def make(): return {}", "must return ctkd_search.data.OwnData, but returned a dict"),
    "is no function": ("make = 3", "'users_own:make' must be a function, but is an int"),
    "is not there": ("", "users_own.py has no 'make'"),
    "fails": ("def make():\n    raise KeyError('root')", "users_own:make fails with KeyError: 'root' ("),
    "exits": ("def make():\n    raise SystemExit(3)", "users_own:make fails with SystemExit: 3 ("),
    "needs an argument": ("def make(root): pass", "dataset.options do not fit users_own:make: missing a required"),
    "has one class": ("def make(): return OwnData(['a'], 12, 3, int, int)", "classes must be at least 2 different"),
    "has a word for classes": ("def make(): return OwnData('ab', 12, 3, int, int)", "classes must be a sequence of"),
    "names a class twice": ("def make(): return OwnData(['a', 'a'], 12, 3, int, int)", "at least 2 different names"),
    "is too small": ("def make(): return OwnData(['a', 'b'], 7, 3, int, int)", "at least 8, but got 7"),
    "has half a pixel": ("def make(): return OwnData(['a', 'b'], 8.5, 3, int, int)", "at least 8, but got 8.5"),
    "has 2 channels": ("def make(): return OwnData(['a', 'b'], 12, 2, int, int)", "channels must be 1 or 3, but got 2"),
    "loads nothing": ("def make(): return OwnData(['a', 'b'], 12, 3, PIXELS, int)", "train must be a function without"),
    "has a mean of 1": (
        "def make(): return OwnData(['a', 'b'], 12, 3, int, int, mean=0.5, std=(1, 1, 1))",
        "mean must be 3 number(s) among pixel values, 0 to 255, but got 0.5",
    ),
    "has no deviation": (
        "def make(): return OwnData(['a', 'b'], 12, 3, int, int, mean=(1, 1, 1))",
        "mean and std must be given together",
    ),
    "varies nothing": (
        "def make(): return OwnData(['a', 'b'], 12, 3, int, int, augment={'crop': 4})",
        "augment must be ctkd_search.config.Augment, but got a dict",
    ),
}


@pytest.mark.parametrize(("text", "phrase"), FAULTY.values(), ids=FAULTY.keys())
def test_factory_that_does_something_else_is_told_before_anything_is_loaded(own, text, phrase):
    config = own(text)
    ((key, message),) = data.problems(config)
    assert key == "name"
    assert phrase in message
    assert "\n" not in message
    for ask in (data.geometry, data.load_train, data.load_test):
        with pytest.raises(UserError):
            ask(config)


def test_unknown_option_is_told_with_those_there_are(own):
    config = own("def make(root, size=3): pass", sise=3, root="x")
    ((_, message),) = data.problems(config)
    assert "got an unexpected keyword argument 'sise'; its arguments: root, size" in message


FAULTY_IMAGES = {
    "fails": ("1 / 0", r"test\(\) fails with ZeroDivisionError: division by zero \(.*users_own.py, line 10\)"),
    "nothing": ("None", r"test\(\) must return \(pixels, labels\) or a sequence of pairs, but returned nothing"),
    "numbers": (
        "(PIXELS / 255, LABELS)",
        r"returned pixels of float64 and shape \(20, 12, 12, 3\); they must be uint8",
    ),
    "channels first": ("(PIXELS.transpose(0, 3, 1, 2), LABELS)", r"shape \(20, 3, 12, 12\); .* \(images, 12, 12, 3\)"),
    "grey": ("(PIXELS[..., 0], LABELS)", r"shape \(20, 12, 12\)"),
    "another size": ("(PIXELS[:, :8, :8], LABELS)", r"shape \(20, 8, 8, 3\)"),
    "fewer labels": ("(PIXELS, LABELS[:-1])", r"labels of int64 and shape \(19,\); .* each of the 20 images"),
    "labels that are words": ("(PIXELS, np.array(['a'] * 20))", "returned labels of <U1"),
    "labels that are shares": ("(PIXELS, LABELS / 2)", "returned labels of float64"),
    "label too high": ("(PIXELS, LABELS + 1)", "returned the label 2; with 2 classes they are 0 to 1"),
    "a negative label": ("(PIXELS, LABELS - 1)", "returned the label -1"),
    "no image": ("(PIXELS[:0], LABELS[:0])", r"test\(\) returned no images"),
    "no pairs": ("[1, 2]", r"test\(\)\[0\] must be a pair of an image and its label"),
    "pairs of a tensor": ("[(LABELS.astype(float), 0)]", r"\[0\] must have an image of Pillow .* a ndarray of float64"),
    "pairs of a path": ("[('a.png', 0)]", r"must have an image of Pillow or an array of uint8, but got a str; leave"),
    "pairs of a word": ("[(p, 'a') for p in PIXELS]", "returned labels of <U1"),
}


@pytest.mark.parametrize(("returned", "phrase"), FAULTY_IMAGES.values(), ids=FAULTY_IMAGES.keys())
def test_images_that_are_something_else_are_told(own, returned, phrase):
    config = own(f"def make():\n    return OwnData(['a', 'b'], 12, 3, int, lambda: {returned})\n")
    assert data.problems(config) == []
    with pytest.raises(UserError, match=phrase) as caught:
        data.load_test(config)
    assert str(caught.value).startswith("users_own:make: test()")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_class_has_an_image_to_learn_from_and_one_to_be_judged_on(own, split):
    splits = {"train": "(PIXELS, LABELS)", "validation": "(PIXELS, LABELS)", split: "(PIXELS, LABELS * 0)"}
    given = ", ".join(f"{name}=lambda: {images}" for name, images in splits.items())
    config = own(f"def make():\n    return OwnData(['a', 'b'], 12, 3, test=int, {given})\n")
    said = rf"^users_own:make: {split}\(\) has no image of the class 'b' \(1 of 2 are missing\)$"
    with pytest.raises(UserError, match=said):
        data.load_train(config)


def test_a_class_may_be_missing_from_the_test_images(own):
    config = own("def make():\n    return OwnData(['a', 'b'], 12, 3, int, lambda: (PIXELS, LABELS * 0))\n")
    assert set(data.load_test(config).labels) == {0}
