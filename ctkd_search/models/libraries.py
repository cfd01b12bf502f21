"""Networks of torchvision and timm, and the user's own, as their makers give them. The libraries are imported here."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models.names import Named, nearest
from ctkd_search.plugins import code_hash, describe_error, load_object
from ctkd_search.text import first_line

# The images on which stages are found, whatever is learned: so that layer 2 is the same module for all.
_USUAL_SIZE = 224
# Networks of torchvision that are trained with auxiliary classifiers, which are not used here, and their names.
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
# Of networks with a scale of their own for pixels: earlier versions recorded outputs for which it was left out.
_TRANSFORMED = "transformed"
COLOURS = 3
# No stage has as many channels, so the output of the classifier is recognised by them.
USUAL_CLASSES = 997


@functools.cache
def known(source: str) -> tuple[str, ...]:
    """Returns the names of the classifiers of a library."""
    if source == "timm":
        import timm

        return tuple(timm.list_models())
    from torchvision import models

    return tuple(models.list_models(module=models))


def check_known(named: Named) -> None:
    """Refuses a name that its source does not have.

    Raises:
        UserError: There is no such architecture, weights or factory; the message names the nearest.
    """
    if named.source == "own":
        if not callable(load_object(named.base)):
            raise UserError(f"{named.base} must be a function or class that returns a network, but is not callable")
        return
    # timm's names of published weights follow a dot.
    model, point, tag = named.base.partition(".") if named.source == "timm" else (named.base, "", "")
    if model not in known(named.source):
        near = nearest(model, known(named.source))
        raise UserError(f"{named.source} has no classifier {model!r}{near}")
    if named.source == "timm" and point:
        import timm

        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{model}.*")]
        if tag not in tags:
            raise UserError(f"timm has no weights {tag!r} of {model}; there are: {', '.join(tags) or 'none'}")
        if not named.pretrained:
            raise UserError(
                f"{named.text}: .{tag} names published weights, which have no effect without +pretrained; add it"
            )
    if named.pretrained and published(named) is None:
        raise UserError(f"{named.text}: there are no published weights of {named.base}; leave +pretrained out")


def published(named: Named) -> str | None:
    """Returns the source of an architecture's published weights; None if there are none."""
    if named.source == "timm":
        import timm

        settings = timm.get_pretrained_cfg(named.base)
        if settings is None or not settings.has_weights:
            return None
        return str(settings.hf_hub_id or settings.url or settings.file)
    from torchvision import models

    weights = list(models.get_model_weights(named.base))
    return str(models.get_model_weights(named.base).DEFAULT.url) if weights else None


def identity(named: Named) -> str:
    """Returns the library's version and weights, or a hash of the user's own code, as a text."""
    if named.source == "own":
        return code_hash(named.base)
    words = [named.source, importlib.metadata.version(named.source)]
    if named.pretrained:
        words.append(published(named) or "")
        if transforms(named):
            words.append(_TRANSFORMED)
    return " ".join(words)


def transforms(named: Named) -> bool:
    """Returns whether a network changes the scale of its pixels before its first layer if it is a published one."""
    return named.source == "torchvision" and named.base in AUXILIARY


def usual_geometry(named: Named, geometry: Geometry) -> Geometry:
    """Returns the images on which a network's stages are found."""
    if named.source == "own":
        return geometry  # it may accept no others
    size = _USUAL_SIZE
    if named.source == "timm":
        import timm

        settings = timm.get_pretrained_cfg(named.base)
        size = settings.input_size[-1] if settings else size
    return Geometry(USUAL_CLASSES, COLOURS, size)


def has_fixed_size(named: Named) -> bool:
    """Returns whether a network is made for images of one size, which it cuts into patches."""
    if named.source == "timm":
        import timm

        settings = timm.get_pretrained_cfg(named.base)
        return bool(settings and settings.fixed_input_size)
    return named.source == "torchvision" and named.base.startswith("vit_")


def make(named: Named, geometry: Geometry) -> nn.Module:
    """Creates a network by its source, on torch's default device, with weights from torch's global generator.

    A network of torchvision has 3 input channels, whatever the geometry.

    Raises:
        UserError: It cannot be made for such images; the message includes the error's first line.
    """
    makers = {"torchvision": _torchvision, "timm": _timm, "own": _own}
    try:
        made = makers[named.source](named, geometry)
    except UserError:
        raise
    except Exception as error:  # whatever a library or the user's own code raises
        size = geometry.image_size
        raise UserError(f"{named.text} cannot be made for images of {size} pixels: {reason(named, error)}") from None
    if not isinstance(made, nn.Module):
        raise UserError(f"{named.text} returned a {type(made).__name__}; it must return an nn.Module")
    return made


def reason(named: Named, error: BaseException) -> str:
    """Returns the error of a network in one line, with file and line if it is the user's own code."""
    if named.source == "own":
        return describe_error(error)
    return first_line(error)


def _torchvision(named: Named, geometry: Geometry) -> Any:
    from torchvision import models

    options: dict[str, Any] = {"weights": None, "num_classes": geometry.classes}
    if named.base in AUXILIARY:
        options |= {"aux_logits": False, "init_weights": True}
    if has_fixed_size(named):
        options["image_size"] = geometry.image_size
    return models.get_model(named.base, **options)


def _timm(named: Named, geometry: Geometry) -> Any:
    import timm

    options: dict[str, Any] = {"num_classes": geometry.classes, "in_chans": geometry.channels}
    if has_fixed_size(named):
        options["img_size"] = geometry.image_size
    if not named.pretrained:
        return timm.create_model(named.base, pretrained=False, **options)
    try:
        return timm.create_model(named.base, pretrained=True, **options)
    except Exception as error:  # whatever the hub's client raises
        raise UserError(
            f"cannot get the published weights of {named.text} ({published(named)}): {describe_error(error)}; without "
            "internet access, copy the Hugging Face cache of a machine that has them, or leave +pretrained out"
        ) from None


def _own(named: Named, geometry: Geometry) -> Any:
    return load_object(named.base)(classes=geometry.classes, channels=geometry.channels, image_size=geometry.image_size)


def torchvision_weights(named: Named) -> dict[str, Tensor]:
    """Returns the published weights of a network of torchvision, from its cache or the internet.

    Raises:
        UserError: They cannot be downloaded or read.
    """
    from torchvision import models

    weights = models.get_model_weights(named.base).DEFAULT
    try:
        loaded: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # no internet, no space on disk, a damaged file
        directory = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"cannot get the published weights of {named.text} from {weights.url}: {describe_error(error)}; without "
            f"internet access, put that file into {directory}, or leave +pretrained out"
        ) from None
    aside = AUXILIARY.get(named.base, ())
    return {name: tensor for name, tensor in loaded.items() if not name.startswith(tuple(aside))}
