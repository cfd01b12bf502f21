"""The memory that images may take."""

import types

import pytest

from ctkd_search.data import memory

GIB = 1 << 30
# By number, or by name: a part of a GPU has a name alone.
GPUS = {0: 80 * GIB, 1: 16 * GIB, "MIG-1": 10 * GIB}


@pytest.fixture
def gpus(monkeypatch):
    """A driver that knows two GPUs, and a part of the first one."""
    import psutil
    import pynvml

    def known(name):
        if name not in GPUS:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return name

    monkeypatch.setattr(memory, "_GROUP", memory.Path("/none"))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=800 * GIB))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", known)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", known)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda gpu: types.SimpleNamespace(total=GPUS[gpu]))


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("visible", "smallest"),
    [
        (None, 16),
        ("", 16),
        ("0", 80),
        ("1", 16),
        ("0, 1", 16),
        ("MIG-1", 10),
        ("0,MIG-1", 10),
        ("7", 16),
        ("GPU-x", 16),
    ],
)
def test_images_take_a_quarter_of_the_smallest_gpu_that_may_be_used(monkeypatch, visible, smallest):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert memory.room_for_images() == smallest * GIB // 4
