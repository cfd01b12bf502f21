"""Recognition of files that contain no weights, by their first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

_HEAD = 512
_BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself; fetch it with: git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write, and not one of PyTorch"),
    (b"\x93NUMPY", "an array of NumPy and not a file of PyTorch"),
    (b"GGUF", "a GGUF file and not one of PyTorch"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ\x00", "an xz archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"Rar!", "a rar archive; unpack it first"),
    (b"%PDF", "a PDF"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
# The first pickle of a file that torch.save wrote before PyTorch 1.6: its magic number.
_OLDER_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_TAR, _TAR_AT = b"ustar", 257
_SAFETENSORS_HEADER = 8


def is_safetensors(path: Path) -> bool:
    """Returns whether a file is one of safetensors: it begins with its header's length in 8 bytes, and a JSON header.

    Raises:
        OSError: It cannot be read.
    """
    head, size = _head(path), path.stat().st_size
    length = int.from_bytes(head[:_SAFETENSORS_HEADER], "little")
    return head[_SAFETENSORS_HEADER : _SAFETENSORS_HEADER + 2] == b'{"' and 0 < length <= size


def no_weights(path: Path) -> str | None:
    """Returns the kind of a file that torch.save did not write, as the end of a sentence; None if it may have.

    Raises:
        OSError: It cannot be read.
    """
    head = _head(path)
    if not head:
        return "empty"
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if head.startswith(_OLDER_TORCH):
        return None
    if head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        return "a pickle that torch.save did not write, or the beginning of one"
    if head[_TAR_AT:].startswith(_TAR):
        return "a tar archive; unpack it first (PyTorch before 0.2 wrote such files itself: save it again)"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite file and not one of PyTorch"
    if path.suffix == ".onnx" or (head[0] == 0x08 and b"pytorch" in head[:64]):
        return "an ONNX file, which contains a graph and not a state dict"
    return _text_kind(head) or "not a file that torch.save or safetensors wrote"


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _zip_kind(path: Path) -> str | None:
    """Returns the kind of an archive that torch.save did not write; None if it did."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError):
        return "cut off before its end, or damaged; copy or download it again"
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last:
        return (
            "a TorchScript archive; save its state dict alone: "
            'torch.save(torch.jit.load(FILE).state_dict(), "teacher.pt")'
        )
    if "data.pkl" in last:
        return None
    if "model.weights.h5" in last:
        return "a file of Keras and not one of PyTorch"
    if "archive_format" in last:
        return "a program of torch.export, which is not read as weights; save the state dict of its model"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays and not a file of PyTorch"
    return "a zip archive that torch.save did not write; unpack it first"


def _text_kind(head: bytes) -> str | None:
    text = head.lstrip()
    if text[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page and not the file: open its address in a browser to see what was downloaded"
    if text[:1] in (b"{", b"["):
        return "a text of JSON and not a file of weights"
    try:
        # A character may be cut off at the end.
        printable = head.decode("utf-8", errors="ignore")
    except ValueError:
        return None
    is_text = len(printable.encode()) > len(head) - 4 and all(c.isprintable() or c.isspace() for c in printable)
    return "a text and not a file of weights" if is_text else None
