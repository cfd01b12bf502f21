"""Operations on images of bytes, of which every image may have another magnitude.

They are those of torchvision, whose own kernels take one magnitude for all images of a call. Images that share an
operation go through it together here, whatever their magnitudes are. Each result depends on its own image alone, to the
last bit: every step is exact, or a single operation on single numbers, which rounds alike for one image and for many.
(A convolution, or a product and a sum in one instruction, need not.)

Images are uint8 of shape (images, height, width, channels), on any device. Magnitudes are float64 of shape (images,),
on the CPU, so that their sines and tangents are the same for every device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

Operation = Callable[[Tensor, Tensor], Tensor]
# Weights of red, green and blue in a grey value, as in torchvision.
_LUMA = (0.2989, 0.587, 0.114)
# Added before a position is rounded to a pixel, so that those half-way between two, which are not exact, fall to the
# same one on every device.
_TIE = 1e-6


def operated(pixels: Tensor, chosen: Tensor, magnitudes: Tensor, operations: tuple[Operation, ...]) -> Tensor:
    """Applies to each image one of several operations.

    Args:
        pixels: The images; they are not changed.
        chosen: Number of the operation of each, shape (images,), on the CPU.
        magnitudes: Its magnitude.
        operations: The operations; one that is `unchanged` is skipped.

    Returns:
        The images after it.
    """
    result = pixels.clone()
    for number, operation in enumerate(operations):
        rows = (chosen == number).nonzero().squeeze(1)
        if operation is not unchanged and len(rows):
            where = rows.to(pixels.device)
            result.index_copy_(0, where, operation(pixels[where], magnitudes[rows]))
    return result


def unchanged(pixels: Tensor, magnitudes: Tensor) -> Tensor:
    """Returns the images as they are."""
    return pixels


def sheared_across(pixels: Tensor, tangents: Tensor) -> Tensor:
    """Returns images whose rows are shifted by a share of their distance from the top."""
    rows, columns = _places(pixels)
    return _sampled(pixels, rows, columns + _each(tangents, pixels) * (rows + 0.5))


def sheared_down(pixels: Tensor, tangents: Tensor) -> Tensor:
    """Returns images whose columns are shifted by a share of their distance from the left."""
    rows, columns = _places(pixels)
    return _sampled(pixels, rows + _each(tangents, pixels) * (columns + 0.5), columns)


def shifted_across(pixels: Tensor, distances: Tensor) -> Tensor:
    """Returns images shifted to the right by whole pixels."""
    rows, columns = _places(pixels)
    return _sampled(pixels, rows, columns - _each(distances, pixels))


def shifted_down(pixels: Tensor, distances: Tensor) -> Tensor:
    """Returns images shifted downwards by whole pixels."""
    rows, columns = _places(pixels)
    return _sampled(pixels, rows - _each(distances, pixels), columns)


def rotated(pixels: Tensor, degrees: Tensor) -> Tensor:
    """Returns images turned counter-clockwise around their centres."""
    rows, columns = _places(pixels)
    middle, centre = ((side - 1) / 2 for side in pixels.shape[1:3])
    down, right, angles = rows - middle, columns - centre, degrees.deg2rad()
    sines, cosines = _each(angles.sin(), pixels), _each(angles.cos(), pixels)
    return _sampled(pixels, sines * right + cosines * down + middle, cosines * right - sines * down + centre)


def brightened(pixels: Tensor, factors: Tensor) -> Tensor:
    """Returns images multiplied by a factor."""
    return _bytes(pixels * _numbers(factors, pixels))


def contrasted(pixels: Tensor, factors: Tensor) -> Tensor:
    """Returns images whose distances from their mean grey value are multiplied by a factor."""
    grey = _grey(pixels)
    mean = grey.sum(dim=(1, 2, 3), dtype=torch.float64) / grey[0].numel()
    return _blended(pixels, _numbers(mean, pixels), factors)


def saturated(pixels: Tensor, factors: Tensor) -> Tensor:
    """Returns images whose distances from their grey images are multiplied by a factor; grey ones as they are."""
    return pixels if pixels.shape[-1] == 1 else _blended(pixels, _grey(pixels), factors)


def sharpened(pixels: Tensor, factors: Tensor) -> Tensor:
    """Returns images whose distances from their smoothed images are multiplied by a factor, but for their borders.

    The smoothed image is a mean over nine pixels, of which the middle one counts five times.
    """
    if min(pixels.shape[1:3]) <= 2:
        return pixels
    image = pixels.float()
    inner = image[:, 1:-1, 1:-1]
    # Whole numbers up to here, and a thirteenth of one is never half-way between two.
    triples = image[:, :-2] + image[:, 1:-1] + image[:, 2:]
    smooth = triples[:, :, :-2] + triples[:, :, 1:-1] + triples[:, :, 2:] + 4 * inner
    smooth.mul_(1 / 13).round_()
    inner.add_(smooth.sub_(inner).mul_(_numbers(1 - factors, pixels)))
    return _bytes(image)


def posterised(pixels: Tensor, bits: Tensor) -> Tensor:
    """Returns images of which the highest bits of each value are kept."""
    masks = (256 - 2 ** (8 - bits)).to(torch.uint8)
    return pixels & masks.view(-1, 1, 1, 1).to(pixels.device)


def solarised(pixels: Tensor, thresholds: Tensor) -> Tensor:
    """Returns images of which the values from a threshold on are inverted."""
    return torch.where(pixels >= _numbers(thresholds, pixels), ~pixels, pixels)


def stretched(pixels: Tensor, magnitudes: Tensor) -> Tensor:
    """Returns images whose every channel reaches from the lowest to the highest value."""
    return functional.autocontrast(pixels.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)


def equalised(pixels: Tensor, magnitudes: Tensor) -> Tensor:
    """Returns images whose every channel has all values about as often."""
    return functional.equalize(pixels.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)


def hue_turned(pixels: Tensor, turns: Tensor) -> Tensor:
    """Returns images in colour whose hues are turned by a share of the circle."""
    red, green, blue = planes = _planes(pixels)
    top, low = (extreme(extreme(red, green), blue) for extreme in (torch.maximum, torch.minimum))
    chroma = top - low
    # Whole numbers: where it is 0, the image is grey and its hue has no effect.
    divisor = chroma.clamp(min=1)
    of_green = torch.where(top == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    hue = torch.where(top == red, (green - blue) / divisor, of_green) + _numbers(6 * turns, pixels).squeeze(-1)
    turned = torch.empty_like(planes)
    for plane, sixth in zip(turned, (5, 3, 1), strict=True):
        place = hue + sixth
        place.sub_((place * (1 / 6)).floor_().mul_(6))
        torch.sub(top, torch.minimum(place, 4 - place).clamp_(0, 1).mul_(chroma), out=plane)
    # As torchvision rounds numbers in [0, 1].
    return _bytes(turned.mul_(255.999 / 255)).permute(1, 2, 3, 0)


def _places(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the numbers of the rows, shape (1, height, 1), and of the columns, shape (1, 1, width), as float64."""
    rows, columns = (torch.arange(side, dtype=torch.float64, device=pixels.device) for side in pixels.shape[1:3])
    return rows.view(1, -1, 1), columns.view(1, 1, -1)


def _each(values: Tensor, pixels: Tensor) -> Tensor:
    """Returns a number for each image as float64 in the shape of a map, on the device of the images."""
    return values.view(-1, 1, 1).to(pixels.device)


def _sampled(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns images that show at every place the pixel nearest to another one, and black where there is none.

    Args:
        pixels: The images.
        rows: Row of the other place, float64 of shape (images, height, width), or 1 where it is the same for all.
        columns: Its column, likewise.
    """
    count, height, width, channels = pixels.shape
    row, column = ((places + (0.5 + _TIE)).floor_() for places in (rows, columns))
    near_row, near_column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    first = torch.arange(count, device=pixels.device).view(-1, 1, 1) * (height * width)
    index = (near_row * width + near_column + first).long()
    # Behind the last pixel there is a black one.
    index.masked_fill_((near_row != row) | (near_column != column), count * height * width)
    flat = torch.cat([pixels.reshape(-1, channels), pixels.new_zeros(1, channels)])
    return flat.index_select(0, index.flatten()).view(pixels.shape)


def _grey(pixels: Tensor) -> Tensor:
    """Returns the grey values of images, whole numbers in float32, with one channel."""
    if pixels.shape[-1] == 1:
        return pixels.float()
    red, green, blue = (plane.mul_(weight) for plane, weight in zip(_planes(pixels), _LUMA, strict=True))
    return red.add_(green).add_(blue).floor_().unsqueeze(-1)


def _planes(pixels: Tensor) -> Tensor:
    """Returns the channels of images, float32 of shape (channels, images, height, width), each one piece of memory."""
    return pixels.permute(3, 0, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def _blended(pixels: Tensor, other: Tensor, factors: Tensor) -> Tensor:
    """Returns images moved away from others of the same shape, by factors above 1, or towards them."""
    return _bytes((pixels * _numbers(factors, pixels)).add_(other * _numbers(1 - factors, pixels)))


def _numbers(values: Tensor, pixels: Tensor) -> Tensor:
    """Returns a number for each image as float32 on the device of the images."""
    return values.to(torch.float32).view(-1, 1, 1, 1).to(pixels.device)


def _bytes(values: Tensor) -> Tensor:
    """Returns numbers cut to the range of bytes, without their fractions."""
    return values.clamp_(0, 255).to(torch.uint8)
