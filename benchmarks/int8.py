"""Students in float32, in half precision, in int8, and in int8 after tuning: accuracy, bytes, latency.

    python benchmarks/int8.py [--images IMAGES] [--per-class 300] [--epochs 9] [--tune-epochs 2] [--students NAME ...]

Each student is trained by a search of one trial (method kd), and exported and classified with through the command line.
Without IMAGES the digits are used; IMAGES is a directory laid out as IMAGES/train/<class>/* and IMAGES/test/<class>/*,
whose first images of each class are used. All students have one teacher. Latencies are those with ONNX Runtime; each
table has its own float32, measured beside the others of its table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cifar_search import link_subset
from common import command, header

from ctkd_search.students.predict import image_files
from ctkd_search.students.predictor import open_model

STUDENTS = ("resnet8", "wrn-16-1", "mobilenetv2-0.5", "shufflenetv2", "timm/mobilenetv3_small_100")
COMPARED = 50


def space(name: str, student: str, dataset: dict[str, Any], epochs: int) -> dict[str, Any]:
    """A search of one trial; a search needs something to search, and its first trial has the defaults."""
    teacher = "wrn-16-2" if dataset["name"] == "digits" else "wrn-40-1"
    return {
        "name": name,
        "dataset": dataset,
        "budget": {"trials": 1, "epochs": epochs},
        "scheduler": "none",
        # The default rate is for residual networks; MobileNetV3 diverges with it.
        "train": {"lr": 0.05},
        "search": {"pair": f"{teacher} -> {student}", "method": "kd", "kd": {"temperature": {"float": [1, 20]}}},
    }


def write_digits(target: Path) -> None:
    """Writes some of the test images of the digits as files."""
    from PIL import Image

    from ctkd_search.config import DatasetConfig
    from ctkd_search.data import load_test

    target.mkdir()
    for number, pixels in enumerate(load_test(DatasetConfig("digits")).held().pixels[:COMPARED]):
        Image.fromarray(pixels[:, :, 0]).save(target / f"{number:02d}.png")


def difference(file: Path, images: Path) -> float:
    """Returns the largest difference of a probability between `predict` and ONNX Runtime's own answer."""
    import onnxruntime

    from ctkd_search.data.decode import decode_image

    words = [sys.executable, "-m", "ctkd_search", "predict", str(file), str(images), "--top", "1000", "--json"]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    metadata = open_model(str(file), "").metadata
    paths = image_files([images]).images
    decoded = [decode_image(path, metadata.image_size, metadata.channels, metadata.resize) for path in paths]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    expected = session.run(["probabilities"], {"images": np.stack(decoded)})[0]
    order = {name: place for place, name in enumerate(metadata.classes)}
    off = 0.0
    for entry, row in zip(told, expected, strict=True):
        off = max(off, *(abs(top["probability"] - row[order[top["class"]]]) for top in entry["top"]))
    return off


def noted(file: Path, precision: str) -> dict[str, Any]:
    """Returns the measurements that a file contains."""
    import onnx

    properties = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    found: dict[str, Any] = json.loads(properties[precision])
    return found


def print_row(student: str, found: dict[str, Any], off: float, seconds: float) -> None:
    """Prints the measurements of a student's files, as a table in Markdown and a line."""
    print("\n| student | file | accuracy | bytes | one image, ms | 256 images, ms |\n|---|---|--:|--:|--:|--:|")
    for kind, one in found["files"].items():
        print(
            f"| {student} | {kind} | {100 * one['accuracy']:.2f} | {one['bytes']:,} | {one['latency_ms']:.3f} "
            f"| {one['batch_ms']:.1f} |"
        )
    print(
        f"{student}: {found['images']} validation images, {found['threads']} threads; predict and ONNX Runtime differ "
        f"by at most {off:.1g} on {COMPARED} images; the export took {seconds:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--per-class", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--tune-epochs", type=int, default=2)
    parser.add_argument("--students", nargs="+", default=list(STUDENTS))
    options = parser.parse_args()
    header(f"students in int8 and half precision after {options.epochs} epochs on {options.images or 'the digits'}")
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        if options.images:
            link_subset(options.images, work / "images", options.per_class, COMPARED // 10)
            dataset = {"name": "folder", "root": str(work / "images"), "image_size": 32, "validation": 0.2}
            shown = work / "images" / "test"
        else:
            dataset, shown = {"name": "digits", "validation": 0.3}, work / "digits"
            write_digits(shown)
        for student in options.students:
            name = student.replace("/", "-")
            (work / "space.yaml").write_text(yaml.safe_dump(space(name, student, dataset, options.epochs)))
            command("run", "space.yaml", cwd=work)
            tuning = ["--tune-epochs", str(options.tune_epochs)]
            for precision, words in (("int8", ["--int8", *tuning]), ("float16", ["--half"])):
                file = work / f"{name}-{precision}.onnx"
                seconds = command("export", name, *words, "--max-drop", "100", "-o", file.name, cwd=work)
                print_row(student, noted(file, precision), difference(file, shown), seconds)


if __name__ == "__main__":
    main()
