"""ImageNet in torchvision's layout and as the archives that are published."""

import hashlib
import tarfile
import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy.io import savemat
from support.layouts import WNIDS, WORDS, imagenet_config, write_imagenet
from support.owners import at_once
from torchvision.datasets import imagenet

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.data import ImageFiles
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry

AUGMENT = data.describe("imagenet").augment


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """The three published archives, small: their members have the true names and places."""
    write_imagenet(tmp_path / "made")
    root = tmp_path / "imagenet"
    root.mkdir()
    _write_train(tmp_path, root)
    shown = [
        path for wnid in ("n02124075", "n03126707", "n02085620") for path in (tmp_path / "made/val" / wnid).iterdir()
    ]
    with tarfile.open(root / "ILSVRC2012_img_val.tar", "w") as archive:
        for number, path in enumerate(shown, start=1):
            archive.add(path, f"ILSVRC2012_val_{number:08d}.JPEG")
    _write_devkit(tmp_path, root, [path.parent.name for path in shown])
    checksums = {
        name: (file, hashlib.md5((root / file).read_bytes()).hexdigest())
        for name, (file, _) in imagenet.ARCHIVE_META.items()
    }
    monkeypatch.setattr(imagenet, "ARCHIVE_META", checksums)
    return root


def _write_train(made, root):
    with tarfile.open(root / "ILSVRC2012_img_train.tar", "w") as archive:
        for wnid in WNIDS:
            with tarfile.open(made / f"{wnid}.tar", "w") as inner:
                for path in sorted((made / "made/train" / wnid).iterdir()):
                    inner.add(path, path.name)
            archive.add(made / f"{wnid}.tar", f"{wnid}.tar")


def _write_devkit(made, root, val_wnids):
    place = made / "ILSVRC2012_devkit_t12" / "data"
    place.mkdir(parents=True)
    numbers = {wnid: number for number, wnid in enumerate(WNIDS, start=1)}
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object), ("num_children", object)]
    # The last one has children: it is no class.
    rows = [(numbers[wnid], wnid, WORDS[wnid], "", 0) for wnid in WNIDS] + [(4, "n00001740", "entity", "", 3)]
    savemat(place / "meta.mat", {"synsets": np.array(rows, dtype=kind)})
    truth = "".join(f"{numbers[wnid]}\n" for wnid in val_wnids)
    (place / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(place.parent, place.parent.name)


def test_archives_are_unpacked_and_classes_are_called_by_their_words(archives, tmp_path):
    config = imagenet_config(archives, image_size=32)
    splits = data.load_train(config, [AUGMENT])
    assert splits.classes == ("crane (n02085620)", "Egyptian cat", "crane (n03126707)")
    assert len(splits.train) + len(splits.validation) == 18
    test = data.load_test(config).held()
    assert torch.equal(torch.tensor(test.labels).bincount(), torch.tensor([6, 6, 6]))
    made = data.load_test(imagenet_config(tmp_path / "made", image_size=32)).held()
    assert {image.tobytes() for image in test.pixels} == {image.tobytes() for image in made.pixels}
    assert sorted(path.name for path in archives.iterdir() if path.is_dir()) == ["train", "val"]
    again = data.load_train(config, [AUGMENT])
    assert again.fingerprint == splits.fingerprint


def test_unpacking_that_was_broken_off_is_done_again(archives):
    (archives / ".train.unpacking" / "n02124075").mkdir(parents=True)
    assert len(data.load_train(imagenet_config(archives, image_size=32), [AUGMENT]).train) > 0
    assert not (archives / ".train.unpacking").exists()


def test_two_that_begin_at_once_unpack_once_and_read_the_same(archives, monkeypatch):
    parse, parsed = imagenet.parse_train_archive, []

    def slow(root, folder):
        parsed.append(folder)
        time.sleep(0.2)
        parse(root, folder=folder)

    monkeypatch.setattr(imagenet, "parse_train_archive", slow)
    config = imagenet_config(archives, image_size=32)
    one, other = at_once(lambda: data.load_train(config, [AUGMENT]).fingerprint)
    assert one == other
    assert len(parsed) == 1
    assert [path.name for path in archives.glob(".*")] == []


def test_devkit_of_other_content_is_refused_by_its_name(archives):
    (archives / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(b"another")
    with pytest.raises(UserError, match=r"cannot unpack ImageNet in .*devkit_t12\.tar\.gz does not have its published"):
        data.load_test(imagenet_config(archives))
    assert [path.name for path in archives.glob(".*")] == []


def test_archive_of_other_content_is_refused(archives):
    with open(archives / "ILSVRC2012_img_train.tar", "ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match=r"cannot unpack ImageNet in .*ILSVRC2012_img_train\.tar") as caught:
        data.load_train(imagenet_config(archives), [AUGMENT])
    assert "\n" not in str(caught.value)
    assert not (archives / "train").exists()


def test_missing_files_are_named_with_where_to_get_them(tmp_path):
    with pytest.raises(UserError) as caught:
        data.load_train(imagenet_config(tmp_path), [AUGMENT])
    for phrase in (str(tmp_path), "ILSVRC2012_img_train.tar", "ILSVRC2012_devkit_t12.tar.gz", "https://image-net.org"):
        assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_known_without_loading_anything(tmp_path, archives):
    config = imagenet_config(archives)
    assert data.absent(config) is None
    (archives / "ILSVRC2012_img_val.tar").unlink()
    assert "(missing: val, and ILSVRC2012_img_val.tar)" in data.absent(config)
    both = data.absent(imagenet_config(tmp_path / "nowhere"))
    assert "(missing: train and val, and ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar, ILSVRC2012_dev" in both
    assert data.absent(imagenet_config(tmp_path / "made")) is None
    assert data.absent(DatasetConfig("digits")) is None


def test_geometry_is_what_is_there_or_what_was_published(tmp_path):
    assert data.geometry(imagenet_config(tmp_path)) == Geometry(1000, 3, 224)
    write_imagenet(tmp_path)
    assert data.geometry(imagenet_config(tmp_path)) == Geometry(3, 3, 224)
    assert data.geometry(imagenet_config(tmp_path, image_size=32)) == Geometry(3, 3, 32)


@pytest.mark.parametrize("verify", [True, None])
def test_other_counts_than_the_published_ones_are_refused_unless_told_otherwise(tmp_path, verify):
    write_imagenet(tmp_path)
    with pytest.raises(UserError, match=r"18 images of 3 classes instead of 1,281,167 of 1,000; .*dataset\.verify"):
        data.load_train(DatasetConfig("imagenet", root=str(tmp_path), verify=verify), [AUGMENT])


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda root: (root / "val" / "n02124075").rename(root / "elsewhere"), "val has no class n02124075"),
        (lambda root: (root / "val" / "n00000001").mkdir(), "val has the class n00000001, which train has not"),
        (lambda root: [path.unlink() for path in (root / "val/n02124075").iterdir()], "n02124075 contains no images"),
    ],
    ids=["missing class", "unknown class", "empty class"],
)
def test_classes_that_differ_are_named(tmp_path, change, phrase):
    write_imagenet(tmp_path)
    change(tmp_path)
    with pytest.raises(UserError, match=phrase):
        data.load_test(imagenet_config(tmp_path))


def test_count_is_what_was_published_unless_the_user_chose_among_it():
    assert data.sizes(DatasetConfig("imagenet", validation=0.02)) == (1_255_544, 25_623)
    assert data.sizes(DatasetConfig("imagenet", verify=False)) is None


def test_evaluation_view_is_the_middle_224_of_256(tmp_path):
    """What torchvision's Resize(256) and CenterCrop(224) show; they round where the square begins."""
    write_imagenet(tmp_path)
    path = min((tmp_path / "val").glob("*/*"))
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
    picture.save(path, quality=98)
    test = data.load_test(imagenet_config(tmp_path))
    assert isinstance(test.held().pixels, np.ndarray)
    found = test[np.array([0])].held().pixels[0].astype(float)
    resized = ImageOps.scale(Image.open(path), 256 / 375, Image.Resampling.BICUBIC)
    left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(float)
    assert abs(found - expected).mean() < 2
    assert data.load_train(imagenet_config(tmp_path), [AUGMENT]).resize == 256


def test_training_images_are_streamed_because_parts_are_cut_out_of_the_originals(tmp_path):
    write_imagenet(tmp_path)
    assert AUGMENT.resized_crop == (0.08, 1.0)
    assert isinstance(data.load_train(imagenet_config(tmp_path, image_size=32), [AUGMENT]).train, ImageFiles)
