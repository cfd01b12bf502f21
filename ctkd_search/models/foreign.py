"""Building of foreign architectures: torchvision's, timm's and the user's own."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Architecture, MapShape, Tap
from ctkd_search.models.libraries import (
    COLOURS,
    check_known,
    has_fixed_size,
    make,
    reason,
    torchvision_weights,
    transforms,
    usual_geometry,
)
from ctkd_search.models.names import SMALL, SMALL_UP_TO, Named, nearest
from ctkd_search.models.stages import Call, Tapped, find_output_layer, find_stages, layout_of, watched
from ctkd_search.models.stems import Stem, find_stem, fit, put_published
from ctkd_search.models.wrapped import WrappedNetwork

# With one image, an output without the batch dimension would not be noticed.
_WATCHED_IMAGES = 2
_TRIED_SIZES = (8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 384)
_NAMES_SHOWN = 12


@dataclass(frozen=True)
class Outline:
    """The taps, the stem and the output layer of a network, found before it is built for its images.

    Attributes:
        taps: Modules whose outputs are its feature maps.
        stem: Its stem.
        output_layer: The linear layer that makes its logits; None if there is no single one.
    """

    taps: tuple[Tapped, ...]
    stem: Stem
    output_layer: str | None = None


def outline(named: Named, geometry: Geometry) -> Outline:
    """Returns the taps and the stem of a network, found on images of the usual size.

    Args:
        named: The architecture.
        geometry: The images; used for the user's own code only, which may accept no others.

    Raises:
        UserError: There is no such architecture, module, or feature map.
    """
    check_known(named)
    return _outline(named, usual_geometry(named, geometry))


@functools.lru_cache(maxsize=256)
def _outline(named: Named, usual: Geometry) -> Outline:
    bare = named.bare()
    with _aside(0):
        network, calls = _watch(bare, usual, lambda: make(bare, usual))
    if named.taps is None:
        taps = find_stages(network, calls, usual.classes if named.source != "own" else None)
        if not taps:
            raise UserError(f"{named.text}: no feature maps were found; name the modules with +taps=MODULE|MODULE")
    else:
        taps = [_named_tap(named, name, network, calls) for name in named.taps]
    last = find_output_layer(network, calls, usual.classes)
    return Outline(tuple(taps), find_stem(network, calls, taps), last)


def _named_tap(named: Named, name: str, network: nn.Module, calls: list[Call]) -> Tapped:
    possible = {call.name: call for call in calls if call.name and layout_of(call.after)}
    if name not in possible:
        there = dict(network.named_modules())
        what = "returns no feature map of a square image" if name in there else "is not a module of it"
        shown = [call for call in possible if call.count(".") <= 1][:_NAMES_SHOWN]
        near = nearest(name, possible) or f"; there are: {', '.join(shown)}, ..."
        raise UserError(f"{named.text}: {name!r} {what}{near}")
    layout = layout_of(possible[name].after)
    assert layout is not None
    return Tapped(name, layout)


@functools.lru_cache(maxsize=256)
def shapes(named: Named, geometry: Geometry) -> tuple[MapShape, ...]:
    """Returns channels and side of each feature map for such images; computed on the meta device where possible.

    Raises:
        UserError: The network does not take such images.
    """
    try:
        calls = _calls(named, geometry)
    except UserError as error:
        raise UserError(f"{error}{_larger(named, geometry)}") from None
    made = []
    for name, layout in outline(named, geometry).taps:
        after = calls[name].after if name in calls else None
        if after is None or layout_of(after) is None:
            raise UserError(f"{named.text}: {name!r} returns no feature map for images of {geometry.image_size} pixels")
        if layout.kind == "tokens":
            made.append(MapShape(after[2], math.isqrt(after[1] - layout.prefix)))
        else:
            made.append(MapShape(after[1 if layout.kind == "nchw" else 3], after[2]))
    return tuple(made)


def embedding(named: Named, geometry: Geometry) -> int | None:
    """Returns the width of a network's embedding for such images; None if it has none.

    Raises:
        UserError: The network does not take such images.
    """
    layer = outline(named, geometry).output_layer
    before = _calls(named, geometry)[layer].before if layer is not None else None
    return None if before is None else before[1]


@functools.lru_cache(maxsize=16)
def _calls(named: Named, geometry: Geometry) -> Mapping[str, Call]:
    """Returns the calls of a network's modules for such images, by name."""
    return {call.name: call for call in _fitted_calls(named, geometry, has_small_stem(named, geometry))}


def _fitted_calls(named: Named, geometry: Geometry, small: bool) -> list[Call]:
    """Returns the calls of a network's modules for such images, to which it is fitted."""
    bare, stem = named.bare(), outline(named, geometry).stem
    with _aside(0):
        _, calls = _watch(bare, geometry, lambda: _fitted(bare, geometry, stem, small, named.pretrained))
    return calls


def _larger(named: Named, geometry: Geometry) -> str:
    """Returns the smallest images that a network takes, for the message that it does not take these."""
    for size in _TRIED_SIZES if named.source != "own" else ():
        if size > geometry.image_size:
            larger = geometry._replace(image_size=size)
            with contextlib.suppress(UserError):
                _fitted_calls(named, larger, has_small_stem(named, larger))
                return f"; it takes images of {size} pixels"
    return ""


@functools.lru_cache(maxsize=256)
def has_small_stem(named: Named, geometry: Geometry) -> bool:
    """Returns whether a network gets the stem for small images: by its name, or if the images are small and it can.

    Raises:
        UserError: The name has a stem option, and the network no stem that can be changed.
    """
    if named.source == "own":
        return False
    stem = outline(named, geometry).stem
    cuts_patches = has_fixed_size(named) or (named.pretrained and stem.kernel % 2 == 0)
    possible = stem.shrinks and not cuts_patches
    if named.stem is not None and not possible:
        why = "cuts its images into patches" if cuts_patches else "begins without a stride or pooling"
        raise UserError(f"{named.text}: the network {why}, so that stem={named.stem} has no meaning; leave it out")
    if named.stem is not None or not possible or geometry.image_size > SMALL_UP_TO:
        return named.stem == SMALL
    try:
        _fitted_calls(named, geometry, small=True)
    except UserError:
        return False  # as networks that begin with branches whose sizes must be equal
    return True


def usual(named: Named) -> Geometry:
    """Returns the images on which a network is described if no others are given."""
    return usual_geometry(named, Geometry(10, 3, 32))


def described(named: Named, geometry: Geometry) -> Architecture:
    """Returns the description of a network: its maps, its stem if that is not the published one, and its taps.

    Raises:
        UserError: There is no such architecture, or it does not take such images.
    """
    found = outline(named, geometry)
    size = geometry.image_size
    taps = tuple(Tap(channels, max(1, round(size / side))) for channels, side in shapes(named, geometry))
    notes = ["maps of " + ", ".join(tap.name for tap in found.taps)]
    if has_small_stem(named, geometry):
        kernel = found.stem.kernel if named.pretrained else min(found.stem.kernel, 3)
        stride = f"{kernel}x{kernel} without its stride" if found.stem.stride > 1 else ""
        pooling = "no pooling" if found.stem.pooling else ""
        notes.insert(0, f"stem for small images ({', '.join(filter(None, (stride, pooling)))})")
    return Architecture(named.text, taps, None, tuple(notes), embedding(named, geometry))


def build(named: Named, geometry: Geometry, seed: int, published: bool) -> WrappedNetwork:
    """Builds a network; see `ctkd_search.models.build`."""
    shapes(named, geometry)  # refuses what does not fit
    found, small = outline(named, geometry), has_small_stem(named, geometry)
    with _aside(seed):
        network = _fitted(named if published else named.bare(), geometry, found.stem, small, named.pretrained)
    return WrappedNetwork(network.train(), found.taps, found.output_layer)


def _fitted(named: Named, geometry: Geometry, stem: Stem, small: bool, as_published: bool) -> nn.Module:
    """Returns a network of its source, fitted to the images, with its published weights if the name has +pretrained.

    Args:
        named: The architecture, without +pretrained if it gets other weights.
        geometry: The images.
        stem: Its stem.
        small: Whether it gets the stem for small images.
        as_published: Whether it computes what published weights are made for, whatever weights it gets.
    """
    network = make(named, geometry)
    if named.source == "own":
        return network
    fit(network, stem, geometry.channels, small, as_published)
    if transforms(named):
        # Published weights expect pixels from -1 to 1; the change of scale is of three colours.
        network.transform_input = as_published and geometry.channels == COLOURS  # type: ignore[assignment]
    if named.pretrained and named.source == "torchvision":
        try:
            put_published(network, torchvision_weights(named), stem, geometry.classes)
        except RuntimeError as error:
            raise UserError(f"the published weights of {named.text} do not fit it: {reason(named, error)}") from None
    return network


def _watch(named: Named, geometry: Geometry, make_it: Any) -> tuple[nn.Module, list[Call]]:
    """Returns a network and the calls of its modules for black images, on the meta device if possible, else on the CPU.

    Raises:
        UserError: It cannot be made, does not take such images, or returns no logits.
    """
    network: nn.Module | None = None
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights without numbers
            network = make_it()
        calls, output = watched(network, _black(geometry, "meta"))
    except Exception as failed:  # perhaps only on the meta device, so the CPU is tried too
        refused = f"{named.text} does not take images of {geometry.image_size} pixels"
        if network is not None and named.source != "own":
            # The library made the network, so the error is about the images.
            raise UserError(f"{refused}: {reason(named, failed)}") from None
        network = make_it()
        try:
            calls, output = _watched_on_cpu(network, geometry)
        except Exception as error:  # whatever the network raises
            raise UserError(f"{refused}: {reason(named, error)}") from None
    wanted = (_WATCHED_IMAGES, geometry.classes)
    if not isinstance(output, Tensor) or tuple(output.shape) != wanted:
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise UserError(
            f"{named.text} must return logits of shape {wanted} for {_WATCHED_IMAGES} images, but got {got}"
        )
    return network, calls


def _watched_on_cpu(network: nn.Module, geometry: Geometry) -> tuple[list[Call], Any]:
    """Returns calls and output of a network made on the CPU, run on the meta device if possible, which is faster."""
    with contextlib.suppress(Exception):
        return watched(copy.deepcopy(network).to("meta"), _black(geometry, "meta"))
    return watched(network, _black(geometry, "cpu"))


def _black(geometry: Geometry, device: str) -> Tensor:
    return torch.zeros(_WATCHED_IMAGES, geometry.channels, geometry.image_size, geometry.image_size, device=device)


@contextlib.contextmanager
def _aside(seed: int) -> Iterator[None]:
    """Seeds torch, Python and NumPy in the block, and restores their generators after it."""
    import random

    import numpy as np

    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
