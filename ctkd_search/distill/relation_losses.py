"""Losses that compare how the images of a batch lie to each other, as pure functions of tensors.

The student's vectors and the expert's may differ in width, because neither is compared with the other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Added to norms and probabilities, as in the code of arXiv 1803.10837.
_EPSILON = 1e-7
# Square of a distance below which two vectors are the same, as in the code of arXiv 1904.05068.
_SQUARE = 1e-12


def similarity(student: Tensor, expert: Tensor) -> Tensor:
    """Distance of the similarities of the images (arXiv 1907.09682, equations 1 to 4).

    With Q the activations of a network, one row for each image, G = Q · Qᵀ, and G̃ = G with each row divided by its L2
    norm, the distance is ‖G̃_expert - G̃_student‖² / batch², of the Frobenius norm.

    Args:
        student: Activations of the student, shape (batch, ...).
        expert: Activations of the expert, shape (batch, ...); no gradient flows to them.

    Returns:
        The distance; a scalar.
    """
    own, given = (_similarities(each.flatten(1)) for each in (student, expert.detach()))
    return (given - own).square().mean()


def _similarities(rows: Tensor) -> Tensor:
    return F.normalize(rows @ rows.T, dim=1)


def neighbours(student: Tensor, expert: Tensor) -> Tensor:
    """Divergence of the probabilities with which images are neighbours (arXiv 1803.10837, equations 5 to 7).

    With K(a, b) = (cos(a, b) + 1) / 2, the probability of image j being image i's neighbour is
    p(j | i) = K(x_i, x_j) / Σ_k K(x_i, x_k). As in the authors' code, k includes i, the mean is over both i and j, and
    1e-7 is added to norms and probabilities.

    Args:
        student: Embedding of the student, shape (batch, width).
        expert: Embedding of the expert, shape (batch, width); no gradient flows to it.

    Returns:
        Mean over i and j of p_expert(j | i) · log(p_expert(j | i) / p_student(j | i)); a scalar.
    """
    own, given = (_probabilities(each) for each in (student, expert.detach()))
    return (given * ((given + _EPSILON) / (own + _EPSILON)).log()).mean()


def _probabilities(rows: Tensor) -> Tensor:
    # Of a vector of zeros, the norm of this function has a finite gradient.
    unit = rows / (torch.linalg.vector_norm(rows, dim=1, keepdim=True) + _EPSILON)
    kernel = (unit @ unit.T + 1) / 2
    return kernel / kernel.sum(dim=1, keepdim=True)


def distances(student: Tensor, expert: Tensor) -> Tensor:
    """Distance of the images' distances to each other (arXiv 1904.05068, section 3.2).

    Each network's distances are divided by their mean over all pairs of different images, and compared by Huber's loss,
    mean over all pairs; as in the authors' code, an image beside itself is a pair too, whose distance is 0.

    Args:
        student: Embedding of the student, shape (batch, width).
        expert: Embedding of the expert, shape (batch, width); no gradient flows to it.

    Returns:
        The mean; a scalar.
    """
    own, given = (_scaled_distances(each) for each in (student, expert.detach()))
    return F.smooth_l1_loss(own, given)


def angles(student: Tensor, expert: Tensor) -> Tensor:
    """Distance of the angles that the images form (arXiv 1904.05068, section 3.2).

    The cosine of the angle at image i between images j and k, compared by Huber's loss, mean over all triples; as in
    the authors' code of triples with equal images too, whose cosine is 0, or 1 where j = k.

    Args:
        student: Embedding of the student, shape (batch, width).
        expert: Embedding of the expert, shape (batch, width); no gradient flows to it.

    Returns:
        The mean; a scalar. It takes memory for batch³ numbers.
    """
    own, given = (_cosines(each) for each in (student, expert.detach()))
    return F.smooth_l1_loss(own, given)


def _differences(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the vectors from each image i to each other j, shape (batch, batch, width), and their lengths.

    Vectors of no length are 0 and have no gradient, because the direction of any is as good as that of another.
    """
    vectors = rows.unsqueeze(0) - rows.unsqueeze(1)
    squares = vectors.square().sum(dim=2)
    apart = squares > _SQUARE
    return vectors * apart.unsqueeze(2), squares.clamp_min(_SQUARE).sqrt() * apart


def _scaled_distances(rows: Tensor) -> Tensor:
    _, lengths = _differences(rows)
    # A count and not a mask of the lengths, whose result would have no shape that a captured step knows.
    mean = lengths.sum() / (lengths > 0).sum().clamp_min(1)
    return lengths / mean.clamp_min(_SQUARE)


def _cosines(rows: Tensor) -> Tensor:
    vectors, lengths = _differences(rows)
    unit = vectors / lengths.clamp_min(_SQUARE**0.5).unsqueeze(2)
    return unit @ unit.transpose(1, 2)
