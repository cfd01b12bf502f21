"""Recognition of files by their first bytes: an image that Pillow reads, one that it does not, or something else.

Endings are used only if the bytes are ambiguous: for unfinished downloads, for the thumbnails that cameras save with
videos, and for camera raw files, most of which begin as TIFF files do and contain a thumbnail that Pillow would read.
"""

from __future__ import annotations

import functools
import re
from typing import Literal

from ctkd_search.data.pillow import open_image, reads_heic, unreadable_errors

Sort = Literal["image", "picture", "other"]

# Number of bytes read of a file: the mark of a DICOM image comes after 128 of them.
HEAD_BYTES = 160

# Plural names of the kinds; the singular is without the last "s".
_NOUNS = {
    "text": "text files",
    "empty": "empty files",
    "hidden": "hidden files",
    "unfinished": "unfinished downloads",
    "link": "links that lead nowhere",
    "loop": "links to a folder above them",
    "beside": "camera files beside a readable image of the same name",
    "lfs": "Git LFS pointers (git lfs pull brings the images)",
    "html": "HTML pages",
    "pdf": "PDF files",
    "video": "videos",
    "audio": "sound files",
    "archive": "archives",
    "appledouble": "AppleDouble files of macOS",
    "ole": "OLE files of Windows",
    "thumbnail": "thumbnails of videos",
    "database": "SQLite databases",
    "numpy": "NumPy arrays",
    "unknown": "files of no known kind",
}
# Advice for formats that Pillow does not read here; the many formats of cameras have one name.
_ADVICE = {"HEIC": "convert them, or pip install pillow-heif"}
_CONVERT = "convert them, for example to JPEG or PNG"
RAW = "camera raw"

_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".temp")
_RAW_ENDINGS = (".nef", ".nrw", ".arw", ".sr2", ".srf", ".dng", ".cr2", ".pef", ".srw", ".3fr", ".erf", ".kdc", ".iiq")
# Endings of files that people take for images.
_IMAGE_ENDINGS = (
    *(".icns", ".dds", ".pcx", ".sgi", ".bw", ".rgb", ".rgba", ".qoi", ".psd", ".xbm", ".xpm", ".mpo", ".apng", ".jpx"),
    *(".dib", ".cur", ".icb", ".vda", ".vst", ".eps", ".ps", ".fits", ".fit", ".jpc", ".jpf", ".j2c", ".pfm", ".im"),
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".j2k"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".heic", ".heif", ".jxl"),
)

_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\0\0\0\x0cjP  \r\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS\0\x01": "Photoshop",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"icns": "ICNS",
    b"\0\0\x01\0": "ICO",
}
_OF_CAMERAS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
_OTHERS = {
    b"\0\x05\x16\x07": "appledouble",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "ole",
    b"SQLite format 3\0": "database",
    b"\x93NUMPY": "numpy",
    b"%PDF": "pdf",
    b"\x1a\x45\xdf\xa3": "video",
    b"\0\0\x01\xba": "video",
    b"\0\0\x01\xb3": "video",
    b"FLV\x01": "video",
    b"ID3": "audio",
    b"OggS": "audio",
    b"fLaC": "audio",
    b"PK\x03\x04": "archive",
    b"\x1f\x8b": "archive",
    b"BZh": "archive",
    b"\xfd7zXZ\0": "archive",
    b"7z\xbc\xaf\x27\x1c": "archive",
    b"Rar!\x1a\x07": "archive",
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NETPBM = re.compile(rb"P(?:[1-6][\s]+[#\d]|[fF]\s+\d)")
_XPM = b"/* XPM */"
# Of X bitmaps, PostScript and FITS.
_IMAGES_AS_TEXT = (b"#define", b"%!PS", b"SIMPLE")
_HTML = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b")) + b"\x7f"
# Brands of the ISO base media format, which still pictures and videos share.
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
_QUICKTIME = {b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot"}


def unfinished(name: str) -> bool:
    """Return whether a file is by its name one that is still being written."""
    return name.lower().endswith(_UNFINISHED)


def is_thumbnail(name: str) -> bool:
    """Return whether a file is by its name the thumbnail that a camera saves with a video."""
    return name.lower().endswith(".thm")


def named_like_an_image(name: str) -> bool:
    """Return whether people take a file for an image, by its ending."""
    return name.lower().endswith(_IMAGE_ENDINGS)


def kind_of(path: str, head: bytes) -> tuple[Sort, str]:
    """Return the kind of a file's content.

    Args:
        path: The file; Pillow opens it where its first bytes are those of no format known here.
        head: Its first `HEAD_BYTES` bytes.

    Returns:
        ``image`` if Pillow reads it, ``picture`` for an image that it does not read, or ``other``; and the format.
    """
    if not head:
        return "other", "empty"
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return "image", kind
    if head.startswith(_TIFF):
        raw = head[8:10] == b"CR" or path.lower().endswith(_RAW_ENDINGS)
        return ("picture", RAW) if raw else ("image", "TIFF")
    if head.startswith(b"BM") and b"\0" in head[:18]:
        return "image", "BMP"
    if _NETPBM.match(head):
        return "image", "Netpbm"
    return _boxed(head) or _of_others(path, head)


def _boxed(head: bytes) -> tuple[Sort, str] | None:
    """Recognise RIFF files and those of the ISO base media format."""
    if head.startswith(b"RIFF"):
        form = head[8:12]
        return ("image", "WebP") if form == b"WEBP" else ("other", "audio" if form == b"WAVE" else "video")
    if head[4:8] in _QUICKTIME:
        return "other", "video"
    if head[4:8] != b"ftyp":
        return None
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, length, 4))}
    if head[8:12] == b"crx ":
        return "picture", RAW
    # The main brand may be a general one; of the compatible ones, AVIF's is more specific than HEIF's.
    if brands & _AVIF:
        return ("image" if _pillow_reads_avif() else "picture"), "AVIF"
    if head[8:12] in _HEIC or (head[8:12] not in (b"qt  ",) and brands & {b"heic", b"heix"}):
        return ("image" if reads_heic() else "picture"), "HEIC"
    return "other", "video"


def _of_others(path: str, head: bytes) -> tuple[Sort, str]:
    if head.startswith(_OF_CAMERAS):
        return "picture", RAW
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "picture", "JPEG XL"
    if head[128:132] == b"DICM":
        return "picture", "DICOM"
    for beginning, kind in _OTHERS.items():
        if head.startswith(beginning):
            return "other", kind
    if head.startswith(_XPM):
        return "image", "XPM"
    if head.startswith(b"version https://git-lfs"):
        return "other", "lfs"
    if _HTML.match(head):
        return "other", "html"
    # Without any byte that no text has, or UTF-16, as Windows writes its desktop.ini.
    plain = head.translate(None, _CONTROL) == head or head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if plain and not head.startswith(_IMAGES_AS_TEXT):
        return "other", "text"
    return _asked_of_pillow(path)


def _asked_of_pillow(path: str) -> tuple[Sort, str]:
    """Tell the formats without a beginning of their own, such as TGA."""
    try:
        with open_image(path) as image:
            return "image", image.format or "unknown"
    except unreadable_errors():
        return "other", "unknown"


@functools.cache
def _pillow_reads_avif() -> bool:
    from PIL import features

    return bool(features.check("avif"))


def counted(kind: str, count: int) -> str:
    """Return how many of a kind there are, as in ``3 text files``."""
    noun = _NOUNS.get(kind, f"{kind} images")
    if count == 1:
        first, *rest = noun.split(" (", 1)
        noun = " (".join([_SINGULAR.get(kind) or first.removesuffix("s"), *rest])
    return f"{count:,} {noun}"


_SINGULAR = {
    "link": "link that leads nowhere",
    "loop": "link to a folder above it",
    "beside": "camera file beside a readable image of the same name",
    "lfs": "Git LFS pointer",
    "appledouble": "AppleDouble file of macOS",
    "ole": "OLE file of Windows",
    "thumbnail": "thumbnail of a video",
    "unknown": "file of no known kind",
}


def one(kind: str) -> str:
    """Return what one file of a kind is called, as in ``a text file``."""
    noun = counted(kind, 1).removeprefix("1 ").split(" (")[0]
    return f"a{'n' if noun[0] in 'aeiouAEIOUH' and noun[:2] != 'HE' else ''} {noun}"


def advice(kind: str) -> str:
    """Return what to do about images that Pillow does not read."""
    return _ADVICE.get(kind, _CONVERT)
