"""Logits of which only the largest are kept, with the log-sum of the others.

A row of 16-bit words holds an image's k largest logits in float16, their classes, and the log-sum-exp of all other
logits in float32. Read back, the kept logits are as they were, and all others have one value, with which their log-sum
is as it was. So the predictions of the kept classes are those of all logits, up to float16. Softened ones are near:
at other temperatures than 1 the share of the others depends on how they differ from each other.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ctkd_search.storage import MOST_CLASSES, Storage, TopLogits


def pack_logits(logits: Tensor, storage: Storage) -> np.ndarray:
    """Returns logits as they are recorded.

    Args:
        logits: Logits, shape (images, classes).
        storage: The storage.

    Returns:
        For `TopLogits`, rows of int16, shape (images, 2 · top + 2); else numbers of its type, shape (images, classes).

    Raises:
        ValueError: There are no other logits than the kept ones, or too many classes.
    """
    if not isinstance(storage, TopLogits):
        return logits.cpu().numpy().astype(storage)
    classes = logits.shape[1]
    if not storage.top < classes <= MOST_CLASSES:
        raise ValueError(f"classes must be more than top {storage.top} and at most {MOST_CLASSES:,}, but are {classes}")
    logits = logits.float()
    values, chosen = logits.topk(storage.top, dim=1)
    others = logits.scatter(1, chosen, -torch.inf).logsumexp(dim=1, keepdim=True)
    parts = (
        values.cpu().numpy().astype(np.float16),
        chosen.cpu().numpy().astype(np.uint16),
        others.cpu().numpy().astype(np.float32),
    )
    return np.concatenate([np.ascontiguousarray(part).view(np.int16) for part in parts], axis=1)


def unpack_logits(rows: Tensor, storage: Storage, classes: int) -> Tensor:
    """Returns logits as the losses take them.

    Args:
        rows: Rows that `pack_logits` has made, as a tensor on any device.
        storage: Their storage.
        classes: Number of classes.

    Returns:
        Logits in float32, shape (images, classes).
    """
    if not isinstance(storage, TopLogits):
        return rows.float()
    top = storage.top
    values = rows[:, :top].contiguous().view(torch.float16).float()
    chosen = rows[:, top : 2 * top].long() & 0xFFFF
    others = rows[:, 2 * top :].contiguous().view(torch.float32)
    each = others - math.log(classes - top)
    return each.expand(-1, classes).scatter(1, chosen, values)
