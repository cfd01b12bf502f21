"""What every benchmark prints first: hardware and versions; and how it prints its figures."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ctkd_search.versions import versions


def hardware() -> str:
    """Processor, cores, memory and GPU, in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {gpu}"


def header(title: str) -> None:
    """Prints what was run, and on what."""
    print(f"# {title}")
    print(f"# {hardware()}")
    print("# " + ", ".join(f"{name} {number}" for name, number in versions().items()))


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g}, n = {len(values)})"


def command(*words: str, cwd: Path) -> float:
    """Runs one command of ctkd-search, lets it print, and returns its seconds."""
    print("$ ctkd-search " + " ".join(words), flush=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ctkd_search", *words], cwd=cwd, check=True)
    return time.perf_counter() - started
