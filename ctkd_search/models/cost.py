"""Cost of a network: parameters, multiply-adds, and the time for one image."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ctkd_search.geometry import Geometry
from ctkd_search.models.network import TappedNetwork
from ctkd_search.models.registry import build

_WARM_UP, _TIMED = 10, 50


def parameters(network: torch.nn.Module) -> int:
    """Returns the number of parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


@contextlib.contextmanager
def _unfused() -> Iterator[None]:
    """Computes attention by matrix products, which are counted; torch does not count fused kernels on the CPU."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def multiply_adds(network: TappedNetwork, geometry: Geometry) -> int:
    """Returns the multiply-adds in convolutions, linear layers and attention for one image."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    image = torch.zeros(1, geometry.channels, geometry.image_size, geometry.image_size, device=device)
    with _unfused(), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    network.train(was_training)
    # Torch counts a multiplication and its addition separately.
    return int(counter.get_total_flops()) // 2


def latency_ms(network: TappedNetwork, geometry: Geometry, device: torch.device) -> float:
    """Returns the milliseconds of a network for one image on a device: the median of 50 runs, in evaluation mode."""
    network = network.to(device).eval()
    image = torch.zeros(1, geometry.channels, geometry.image_size, geometry.image_size, device=device)
    times = []
    with torch.inference_mode():
        for number in range(_WARM_UP + _TIMED):
            started = time.perf_counter()
            network(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= _WARM_UP:
                times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def costs(architecture: str, geometry: Geometry, device: torch.device) -> dict[str, float]:
    """Returns the costs of a student, by the names under which a space limits them."""
    network = build(architecture, geometry, seed=0, published=False)
    return {
        "params": parameters(network),
        "multiply_adds": multiply_adds(network, geometry),
        "latency_ms": latency_ms(network, geometry, device),
    }
