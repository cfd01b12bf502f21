"""On a GPU: images a second of one trial and of packed ones, with and without the CUDA graph, beside the student alone.

    python benchmarks/gpu.py [--pair wrn-40-2/wrn-16-1] [--images 25600] [--packed 1 2 4 8] [--variants recorded]

Packed trials are processes of their own on the same GPU, as Ray runs them; all begin at the same moment. Begun once
more under NVIDIA's MPS (`nvidia-cuda-mps-control -d`), it says what that is worth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from common import header
from step_cost import ALONE, BATCH, FULL, config, images

from ctkd_search.data import Splits
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.requests import Needs
from ctkd_search.distill.step import CapturedStep

VARIANTS = {
    "student alone": (ALONE, True),
    "student alone, no graph": (ALONE, False),
    "recorded": (FULL, True),
    "recorded, no graph": (FULL, False),
}


def random_splits(count: int) -> Splits:
    """Random images of CIFAR's size."""
    classes = tuple("0123456789")
    return Splits(images(count, 0), images(BATCH, 1), classes, (127.0,) * 3, (64.0,) * 3, f"random {count}")


def trial(pair: str, variant: str, count: int, epochs: int, directory: str, barrier: Any, results: Any) -> None:
    """Trains one student and puts the images a second of each epoch into `results`."""
    device = torch.device("cuda")
    method, captured = VARIANTS[variant]
    trainer = make_trainer(
        config(pair, "recorded", "auto", method), random_splits(count), TeacherCache(Path(directory)), device
    )
    if not captured and isinstance(trainer.step, CapturedStep):
        trainer.step._refused = "for comparison"
    speeds = []
    for epoch in range(epochs + 1):
        if epoch == 1:  # the first epoch warms up
            torch.cuda.synchronize()
            barrier.wait()
        trainer.epoch = 0  # its lessons are recorded
        speeds.append(trainer.run_epoch()["images_per_second"])
    notes = trainer.notes()
    if notes:
        print("\n".join(notes), file=sys.stderr)
    results.put(speeds[1:])


def measure(pair: str, variant: str, packed: int, count: int, epochs: int, directory: str) -> float:
    """Images a second of all packed trials together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(packed), context.SimpleQueue()
    arguments = (pair, variant, count, epochs, directory, barrier, results)
    workers = [context.Process(target=trial, args=arguments) for _ in range(packed)]
    for worker in workers:
        worker.start()
    left = workers
    while left:
        wait([worker.sentinel for worker in left])
        failed = [worker.exitcode for worker in left if worker.exitcode]
        if failed:
            # The others may wait at the barrier for the one that has died.
            for worker in left:
                worker.kill()
            raise SystemExit(f"{variant}, {packed} at once: a trial ended with exit code {failed[0]}")
        left = [worker for worker in left if worker.exitcode is None]
    return sum(statistics.median(results.get()) for _ in workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pair", default="wrn-40-2/wrn-16-1")
    parser.add_argument("--images", type=int, default=200 * BATCH)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--packed", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--teachers", help="directory in which the teacher is kept from run to run")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device, and torch finds none")
    header(f"images a second of {options.pair} at batch {BATCH}, medians of {options.epochs} epochs")
    device = torch.device("cuda")
    splits = random_splits(options.images)
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.teachers or scratch
        cache = TeacherCache(Path(directory))
        made = config(options.pair, "recorded", "auto", VARIANTS["recorded"][0])
        for run, storage in teacher_runs(
            made, splits.fingerprint, device, Needs(scratch=True, network=True), len(splits.train)
        ).items():
            started = time.perf_counter()
            for _ in prepare(run, splits, cache, device, storage):
                pass
            print(f"preparation: {time.perf_counter() - started:.1f} s")
        for _ in make_trainer(made, splits, cache, device).teachers.lessons(0):
            pass  # records the maps
        for packed in options.packed:
            speeds = {
                name: measure(options.pair, name, packed, options.images, options.epochs, directory)
                for name in options.variants
            }
            print(
                f"{packed} at once: {', '.join(f'{name} {speed:,.0f}' for name, speed in speeds.items())}", flush=True
            )
            if {"student alone", "recorded"} <= speeds.keys():
                print(f"    student alone / recorded {speeds['student alone'] / speeds['recorded']:.2f}", flush=True)


if __name__ == "__main__":
    main()
