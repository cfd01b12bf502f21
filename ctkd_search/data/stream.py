"""The stream: the deterministic sequence of augmented batches, a function of (seed, epoch) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctkd_search.config import Augment
from ctkd_search.data.erasing import draw_erasing, erase
from ctkd_search.data.images import Images
from ctkd_search.data.jitter import apply_jitter, draw_jitter
from ctkd_search.data.mixing import Mixing, Mixture, draw_mixing, mix
from ctkd_search.data.policies import apply_policy, draw_policy
from ctkd_search.data.sampling import BalancedSampling

# Part of the name of everything that is recorded along the stream: raise it when the stream changes, and the second one
# when only that of random resized crops does.
STREAM_VERSION, CROPS_VERSION = 1, 3


def derived_seed(*parts: object) -> int:
    """A seed below 2**63 that depends on every part, and on nothing else."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream_version(augment: Augment) -> int:
    """Returns the version of the stream with an augmentation."""
    return CROPS_VERSION if augment.resized_crop else STREAM_VERSION


@dataclass(frozen=True)
class Plan:
    """The plan of one epoch of the stream: the image at each position, and its view.

    Attributes:
        order: Index of the image at each position, shape (images,).
        down: Rows that the crop is shifted by, 0 to twice the border, shape (images,).
        right: Columns, likewise.
        flipped: Whether the image is mirrored, bool, shape (images,); with random resized crops, on the CPU.
        crops: Seed of the random resized crop at each position, int64, shape (images,); None without such crops.
        operations: Numbers of the operations of RandAugment or TrivialAugment, and `magnitudes` theirs, on the CPU; see
            `draw_policy`.
        jitters: Numbers of the operations of colour jitter, and `strengths` their magnitudes, on the CPU; see
            `draw_jitter`.
        erased: Rectangles that are erased; see `draw_erasing`.
        mixing: Partners of mixed images; None without mixing.
    """

    order: Tensor
    down: Tensor
    right: Tensor
    flipped: Tensor
    crops: Tensor | None = None
    operations: Tensor | None = None
    magnitudes: Tensor | None = None
    jitters: Tensor | None = None
    strengths: Tensor | None = None
    erased: Tensor | None = None
    mixing: Mixing | None = None

    def with_partners(self, start: int, stop: int) -> Plan:
        """Returns the plan of the positions from `start` to `stop` (exclusive), and of what is mixed into them.

        The partners of the positions that are mixed come behind all of the positions.
        """
        parts: dict[str, Any] = {name: part for name, part in vars(self).items() if isinstance(part, Tensor)}
        if self.mixing is None:
            return Plan(**{name: part[start:stop] for name, part in parts.items()})
        mixing = self.mixing.at(start, stop)
        chosen = torch.cat([torch.arange(start, stop), mixing.partners[mixing.rows()]])
        return Plan(**{name: part[chosen.to(part.device)] for name, part in parts.items()})


class Normalise(torch.nn.Module):
    """Raw pixels to a network's input.

    Args:
        mean: Mean of each channel, in pixel values.
        std: Standard deviation of each channel, in pixel values.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("scale", 1.0 / torch.tensor(std))

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps uint8 (batch, height, width, channels) to float32 (batch, channels, height, width).

        The result is in the channels-last memory format, which the pixels already have.
        """
        # By rows, and in place: over channels alone, a CPU computes three numbers at a time.
        *_, width, channels = pixels.shape
        image = pixels.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        rows = image.view(*pixels.shape[:-2], width * channels)
        rows.sub_(self.mean.repeat(width)).mul_(self.scale.repeat(width))
        return image.permute(0, 3, 1, 2)


def joins_last(count: int, batch_size: int) -> bool:
    """Returns whether an epoch of so many images leaves a single one over, which joins the batch before it."""
    return 1 < batch_size < count and count % batch_size == 1


class Stream:
    """Augmented batches of the training images, the same in every process and on every device.

    An image is cropped and mirrored, goes through the operations of RandAugment or TrivialAugment and through colour
    jitter, is normalised, and erased. Then it is mixed with the image of another position, which has come the same way.

    Args:
        images: The training images; they are copied to `device` once and stay there as uint8.
        normalise: Normalisation of the pixels; on the same device.
        augment: Augmentation of the images.
        seed: Seed of the order and the views.
        device: Device that the images are kept on.
    """

    def __init__(self, images: Images, normalise: Normalise, augment: Augment, seed: int, device: torch.device) -> None:
        self._set_up(images.size, torch.tensor(images.labels, device=device), normalise, augment, seed, device)
        self.pixels = torch.tensor(images.pixels, device=device)

    def _set_up(
        self, size: int, labels: Tensor, normalise: Normalise, augment: Augment, seed: int, device: torch.device
    ) -> None:
        self.size = size
        self.labels = labels
        self.normalise = normalise
        self.augment = augment
        self.seed = seed
        self.device = device
        self._sampling: BalancedSampling | None = None
        if augment.sampling == "balanced":
            self._sampling = BalancedSampling(labels.cpu().numpy(), lambda purpose: derived_seed(seed, purpose))
        # Row r of the bordered image shows row mirror[r] of the image: a border by reflection, without copying.
        shifted = torch.arange(-augment.crop, size + augment.crop).abs()
        self._mirror = torch.where(shifted < size, shifted, 2 * (size - 1) - shifted).to(device)
        self._span = torch.arange(size, device=device)

    def __len__(self) -> int:
        """Images in an epoch."""
        return len(self.labels)

    def plan(self, epoch: int) -> Plan:
        """Order and views of an epoch, a pure function of (seed, epoch).

        They are drawn on the CPU from generators of their own, so that they do not depend on the device or on
        torch's global random state, and so that switching one augmentation off leaves the others as they were.
        """

        def generator(purpose: str) -> torch.Generator:
            return torch.Generator().manual_seed(derived_seed(self.seed, epoch, purpose))

        augment, count, shifts = self.augment, len(self), 2 * self.augment.crop + 1
        flips = torch.randint(0, 2, (count,), generator=generator("flip")) if augment.flip else torch.zeros(count)
        crops = jitters = strengths = erased = None
        if augment.resized_crop:
            crops = torch.randint(0, 2**62, (count,), generator=generator("resized crop"))
        operations, magnitudes = draw_policy(augment, count, self.size, generator)
        if augment.jitter:
            jitters, strengths = draw_jitter(augment.jitter, count, generator)
        if augment.erasing:
            erased = draw_erasing(augment.erasing, count, self.size, generator).to(self.device)
        return Plan(
            order=self._order(epoch, generator("order")).to(self.labels.device),
            down=torch.randint(0, shifts, (count,), generator=generator("down")).to(self.device),
            right=torch.randint(0, shifts, (count,), generator=generator("right")).to(self.device),
            # Random resized crops are mirrored where they are decoded.
            flipped=flips.bool().to(self.device if crops is None else "cpu"),
            crops=crops,
            operations=operations,
            magnitudes=magnitudes,
            jitters=jitters,
            strengths=strengths,
            erased=erased,
            mixing=draw_mixing(augment, count, self.size, generator),
        )

    def _order(self, epoch: int, generator: torch.Generator) -> Tensor:
        """Returns the index of the image at each position of an epoch."""
        order = torch.randperm(len(self), generator=generator)
        return order if self._sampling is None else torch.from_numpy(self._sampling.chosen(epoch))[order]

    def spans(self, batch_size: int) -> Iterator[tuple[int, int]]:
        """First position of each batch of an epoch, and one past its last; the last batch may be smaller.

        A single image that is left over joins the batch before it: batch normalisation cannot learn from one image
        where its maps are a single position, and elsewhere it would learn from a very noisy estimate.
        """
        count = len(self)
        joined = joins_last(count, batch_size)
        stops = [*range(batch_size, count - joined, batch_size), count]
        yield from zip([0, *stops], stops, strict=False)

    def steps(self, batch_size: int) -> int:
        """Number of batches of an epoch."""
        return sum(1 for _ in self.spans(batch_size))

    def batches(self, plan: Plan, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The views of an epoch in batches, as `views` gives them.

        Several users of one plan create their batches before any of them takes one: images that must be decoded are
        then decoded once for all of them.
        """
        return (self.views(plan, start, stop) for start, stop in self.spans(batch_size))

    def views(self, plan: Plan, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The images that a plan has at positions `start` to `stop` (exclusive), as the student sees them.

        A view depends on its position alone, so that batches of any size cut the same sequence.

        Returns:
            Normalised images, float32 of shape (batch, channels, height, width), and labels, int64; `mixture` has the
            other labels of mixed images.
        """
        part = plan.with_partners(start, stop)
        return self._mixed(self._seen(self.pixels, part.order, part), plan, start, stop)

    def _mixed(self, seen: Tensor, plan: Plan, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Returns the images at some positions, mixed with those of their partners behind them, and their labels."""
        images = seen[: stop - start]
        if plan.mixing is not None:
            mixing = plan.mixing.at(start, stop)
            mix(images, seen[stop - start :], mixing.rows(), mixing)
        return images, self.labels[plan.order[start:stop]].to(self.device, non_blocking=True)

    def mixture(self, plan: Plan, start: int, stop: int) -> Mixture | None:
        """Returns the classes that are mixed into the labels of some positions, and the shares; None without mixing."""
        if plan.mixing is None:
            return None
        part = plan.mixing.at(start, stop)
        partners = self.labels[plan.order[part.partners.to(plan.order.device)]]
        return Mixture(partners.to(self.device), part.shares.to(self.device))

    def _seen(self, pixels: Tensor, index: Tensor | None, plan: Plan) -> Tensor:
        """Returns the images at `index` of `pixels` as they are seen at the positions of a plan, before they are mixed.

        Without an index, `pixels` are the images themselves.
        """
        seen = self._cut(pixels, index, plan)
        if plan.operations is not None and plan.magnitudes is not None:
            seen = apply_policy(seen, plan.operations, plan.magnitudes)
        if plan.jitters is not None and plan.strengths is not None:
            seen = apply_jitter(seen, plan.jitters, plan.strengths)
        images: Tensor = self.normalise(seen)
        return images if plan.erased is None else erase(images, plan.erased)

    def _cut(self, pixels: Tensor, index: Tensor | None, plan: Plan) -> Tensor:
        """Returns the images at `index` of `pixels` cut and mirrored, as bytes."""
        if not self.augment.crop:
            whole = pixels if index is None else pixels[index]
            return torch.where(plan.flipped[:, None, None, None], whole.flip(2), whole) if self.augment.flip else whole
        if index is None:
            index = torch.arange(len(pixels), device=pixels.device)
        rows = self._mirror[plan.down[:, None] + self._span]
        columns = self._mirror[plan.right[:, None] + self._span]
        columns = torch.where(plan.flipped[:, None], columns.flip(1), columns)
        return pixels[index[:, None, None], rows[:, :, None], columns[:, None, :]]
