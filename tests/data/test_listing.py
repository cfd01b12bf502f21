"""Folders as cameras, archives and operating systems leave them: what is an image is told by its first bytes."""

import io
import os
import time

import numpy as np
import pytest
from PIL import Image
from support.layouts import BROKEN_IMAGE, random_pixels

from ctkd_search.data import listing as module
from ctkd_search.data.kinds import HEAD_BYTES, counted, kind_of
from ctkd_search.data.listing import listing_of
from ctkd_search.errors import UserError

PICTURE = Image.fromarray(random_pixels(1, 12)[0])


def saved(form, mode="RGB", **options):
    into = io.BytesIO()
    PICTURE.convert(mode).save(into, form, **options)
    return into.getvalue()


def boxed(brand, *compatible):
    body = b"ftyp" + brand + b"\0\0\0\0" + b"".join(compatible)
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(80)


JPEG, PNG = saved("JPEG"), saved("PNG")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)
APPLE_DOUBLE = b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(60)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"

IMAGES = {
    "JPEG": JPEG,
    "PNG": PNG,
    "GIF": saved("GIF"),
    "BMP": saved("BMP"),
    "TIFF": saved("TIFF"),
    "WebP": saved("WEBP"),
    "AVIF": saved("AVIF"),
    "Netpbm": saved("PPM"),
    "JPEG 2000": saved("JPEG2000"),
    "ICO": saved("ICO", sizes=[(12, 12)]),
    "QOI": saved("QOI"),
    # Formats without first bytes of their own are asked of Pillow.
    "TGA": saved("TGA"),
    "PCX": saved("PCX"),
    "SGI": saved("SGI"),
    "XBM": saved("XBM", "1"),
}
PICTURES = {
    "HEIC": boxed(b"heic", b"mif1", b"heic"),
    "HEIC from a telephone": boxed(b"mif1", b"mif1", b"heic"),
    "JPEG XL": b"\xff\x0a" + bytes(60),
    "JPEG XL in boxes": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60),
    "camera raw CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(60),
    "camera raw CR3": boxed(b"crx ", b"crx ", b"isom"),
    "camera raw RAF": b"FUJIFILMCCD-RAW 0201" + bytes(60),
    "camera raw.NEF": b"MM\0*\0\0\0\x08" + bytes(60),
    "DICOM": bytes(128) + b"DICM" + bytes(28),
}
OTHERS = {
    "text": b"Photographs of 2021, by my aunt.\n",
    "text in UTF-8": "Größe, naïve café".encode(),
    "text in UTF-16, as desktop.ini": "\ufeff[.ShellClassInfo]".encode("utf-16-le"),
    "text that begins as a bitmap": b"BMW and other cars\n",
    "text that begins as a pixmap": b"P1 is the first of them\n",
    "empty": b"",
    "lfs": LFS,
    "html": b"\n<!DOCTYPE html><html><head><title>404</title>",
    "pdf": b"%PDF-1.7\n%\xe2\xe3",
    "video": boxed(b"isom", b"mp41"),
    "video of QuickTime": boxed(b"qt  ", b"qt  "),
    "video without a brand": b"\0\0\0\x08wide\0\0\0\0mdat" + bytes(60),
    "video of Matroska": b"\x1a\x45\xdf\xa3" + bytes(60),
    "video AVI": b"RIFF\0\0\0\0AVI LIST" + bytes(60),
    "audio": b"RIFF\0\0\0\0WAVEfmt " + bytes(60),
    "archive": b"PK\x03\x04" + bytes(60),
    "appledouble": APPLE_DOUBLE,
    "ole": OLE,
    "database": b"SQLite format 3\0" + bytes(60),
    "numpy": b"\x93NUMPY\x01\0" + bytes(60),
    "unknown": bytes(200),
    "unknown noise": bytes(range(200)),
}


def told(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    return kind_of(str(path), content[:HEAD_BYTES])


@pytest.mark.parametrize("kind", IMAGES)
def test_every_format_of_pillow_s_is_an_image_whatever_its_name(tmp_path, kind):
    assert told(tmp_path, IMAGES[kind], "no ending") == ("image", kind)


@pytest.mark.parametrize("kind", PICTURES)
def test_an_image_that_pillow_does_not_read_is_called_by_its_format(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("ctkd_search.data.kinds.reads_heic", lambda: False)
    sort, format_ = told(tmp_path, PICTURES[kind], f"a.{kind.rpartition('.')[2].lower()}")
    assert sort == "picture"
    assert kind.startswith(format_)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_image_is_told_by_its_first_bytes(tmp_path, kind):
    sort, found = told(tmp_path, OTHERS[kind], "a.jpg")
    assert sort == "other"
    assert kind.split()[0] == found


def test_an_image_cut_off_in_the_middle_is_an_image_still(tmp_path):
    for content in (JPEG, PNG, BROKEN_IMAGE):
        assert told(tmp_path, content[: len(content) // 2], "a")[0] == "image"


def test_kinds_are_counted_in_words():
    assert counted("text", 1) == "1 text file"
    assert counted("text", 1200) == "1,200 text files"
    assert counted("HEIC", 42) == "42 HEIC images"
    assert counted("lfs", 1) == "1 Git LFS pointer (git lfs pull brings the images)"
    assert counted("beside", 2) == "2 camera files beside a readable image of the same name"


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


MESS = {
    "cat/DCIM/100CANON/IMG_0001.JPG": JPEG,
    "cat/DCIM/100CANON/IMG_0001.CR2": PICTURES["camera raw CR2"],
    "cat/DCIM/101CANON/IMG_0002.JPG": JPEG,
    "cat/a.png": PNG,
    "cat/Thumbs.db": OLE,
    "cat/desktop.ini": OTHERS["text in UTF-16, as desktop.ini"],
    "cat/README.txt": b"read me",
    "cat/._a.png": APPLE_DOUBLE,
    "cat/.DS_Store": b"\0\0\0\1Bud1",
    "cat/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg": JPEG,
    "cat/b.jpg.part": JPEG[:100],
    "cat/empty.jpg": b"",
    "cat/page.jpg": OTHERS["html"],
    "cat_boxes.txt": b"0 0 1 1",
    "dog/images/z.png": PNG,
    "dog/images/.ipynb_checkpoints/z-checkpoint.png": PNG,
    "dog/b.gif": IMAGES["GIF"],
    "__MACOSX/cat/._a.png": APPLE_DOUBLE,
    "#recycle/deleted.png": PNG,
}


def test_a_mess_holds_its_images_and_the_rest_is_counted_and_named(tmp_path):
    write(tmp_path, MESS)
    found = listing_of(str(tmp_path))
    assert found.images == (
        "cat/DCIM/100CANON/IMG_0001.JPG",
        "cat/DCIM/101CANON/IMG_0002.JPG",
        "cat/a.png",
        "dog/b.gif",
        "dog/images/z.png",
    )
    assert found.formats == {"JPEG": 2, "PNG": 2, "GIF": 1}
    assert found.pictures == {}
    assert found.skipped == {
        "beside": ("cat/DCIM/100CANON/IMG_0001.CR2",),
        "empty": ("cat/empty.jpg",),
        "hidden": ("cat/.DS_Store", "cat/._a.png"),
        "html": ("cat/page.jpg",),
        "ole": ("cat/Thumbs.db",),
        "text": ("cat/README.txt", "cat/desktop.ini", "cat_boxes.txt"),
        "unfinished": ("cat/b.jpg.part",),
    }
    assert found.folders == ("#recycle", "__MACOSX", "cat/@eaDir", "dog/images/.ipynb_checkpoints")
    assert list(found.notes()) == [
        f"skipped in {tmp_path}: 1 camera file beside a readable image of the same name "
        "(cat/DCIM/100CANON/IMG_0001.CR2), 2 hidden files (cat/.DS_Store, cat/._a.png), 1 OLE file of Windows "
        "(cat/Thumbs.db), 3 text files (cat/README.txt, cat/desktop.ini, cat_boxes.txt), 1 unfinished download "
        "(cat/b.jpg.part), 4 folders (#recycle, __MACOSX, cat/@eaDir and 1 more)",
        f"warning: 2 files in {tmp_path} are not images, though named like one: 1 empty file, 1 HTML page "
        "(cat/empty.jpg, cat/page.jpg)",
    ]


def test_images_that_are_not_named_like_one_are_read_and_told(tmp_path):
    write(tmp_path, {"cat/a.jpg": JPEG, "cat/a.jpg_original": JPEG, "cat/b": PNG, "cat/MVI_1.THM": JPEG})
    found = listing_of(str(tmp_path))
    assert found.images == ("cat/a.jpg", "cat/a.jpg_original", "cat/b")
    assert list(found.notes()) == [
        f"skipped in {tmp_path}: 1 thumbnail of a video (cat/MVI_1.THM)",
        f"warning: 1 file in {tmp_path} is an image, though not named like one: cat/a.jpg_original",
    ]


def test_links_are_followed_and_those_that_lead_back_or_nowhere_are_passed_over(tmp_path):
    write(tmp_path, {"pool/a.png": PNG, "pool/more/b.png": PNG, "root/cat/c.png": PNG})
    cat = tmp_path / "root" / "cat"
    (cat / "pool").symlink_to(tmp_path / "pool")
    (cat / "d.png").symlink_to(tmp_path / "pool" / "a.png")
    (cat / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (cat / "back").symlink_to(tmp_path / "root")
    (tmp_path / "pool" / "more" / "again").symlink_to(tmp_path / "pool")
    found = listing_of(str(tmp_path / "root"))
    assert found.images == ("cat/c.png", "cat/d.png", "cat/pool/a.png", "cat/pool/more/b.png")
    assert found.skipped == {"link": ("cat/gone.png",), "loop": ("cat/back", "cat/pool/more/again")}


def test_the_same_images_with_the_same_labels_as_torchvision_s_image_folder(tmp_path):
    from torchvision.datasets import ImageFolder

    names = ("ant", "Bee", "cow 2", "kühe", "10", "9")
    draw = np.random.default_rng(0)
    for number in range(60):
        depth = draw.integers(0, 4)
        folders = [names[draw.integers(len(names))], *(f"d{draw.integers(3)}" for _ in range(depth))]
        name = ("a", "B", "ö")[number % 3] + f"{number}" + (".png", ".JPG", ".jpeg")[number % 3]
        write(tmp_path, {"/".join((*folders, name)): PNG if number % 3 == 0 else JPEG, f"{folders[0]}/notes.txt": b"x"})
    (tmp_path / names[0] / "linked").symlink_to(tmp_path / names[1])
    theirs = ImageFolder(str(tmp_path))
    ours = listing_of(str(tmp_path)).images
    assert sorted(ours) == sorted(os.path.relpath(path, tmp_path) for path, _ in theirs.samples)
    labels = {os.path.relpath(path, tmp_path): label for path, label in theirs.samples}
    classes = sorted({path.split(os.sep)[0] for path in ours})
    assert all(labels[path] == classes.index(path.split(os.sep)[0]) for path in ours)
    assert list(ours) == sorted(ours, key=lambda path: path.split(os.sep))


def test_first_bytes_are_read_once_while_no_directory_changes(tmp_path, monkeypatch):
    write(tmp_path, {f"cat/{number}.png": PNG for number in range(20)})
    read = []
    monkeypatch.setattr(module, "kind_of", lambda path, head: read.append(path) or kind_of(path, head))
    long_ago = time.time() - 1000
    for path in (tmp_path / "cat", tmp_path):
        os.utime(path, (long_ago, long_ago))
    first = listing_of(str(tmp_path))
    assert listing_of(str(tmp_path)) is first
    assert len(read) == 20
    (tmp_path / "cat" / "20.png").write_bytes(PNG)
    assert len(listing_of(str(tmp_path)).images) == 21
    # A directory that changed a moment ago may change again within the clock's grain.
    assert listing_of(str(tmp_path)) is not listing_of(str(tmp_path))


def test_many_files_are_listed_in_the_same_order_by_several_threads(tmp_path):
    write(tmp_path, {f"c/{number}.png": PNG for number in range(700) if number % 7})
    write(tmp_path, {f"c/{number}.txt": b"x" for number in range(0, 700, 7)})
    found = listing_of(str(tmp_path))
    assert list(found.images) == sorted(f"c/{number}.png" for number in range(700) if number % 7)
    assert len(found.skipped["text"]) == 100


def test_a_directory_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the directory .*nowhere: No such file"):
        listing_of(str(tmp_path / "nowhere"))
