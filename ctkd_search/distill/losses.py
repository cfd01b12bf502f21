"""The losses, as pure functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.top_logits import KeptLogits


def step_mse(student: Tensor, scratch: Tensor) -> Tensor:
    """Squared distance of the logits, as in the CTKD authors' released code (arXiv 1907.09643).

    Args:
        student: Logits of the student, shape (batch, classes).
        scratch: Logits of the scratch teacher, same shape.

    Returns:
        Mean over the batch of the squared distance, summed over classes; a scalar.
    """
    return (student - scratch.detach()).pow(2).sum(dim=1).mean()


def softened_divergence(student: Tensor, teacher: Tensor | KeptLogits, temperature: float | Tensor) -> Tensor:
    """Divergence of the softened predictions (Hinton et al., arXiv 1503.02531).

    Args:
        student: Logits of the student, shape (batch, classes).
        teacher: Logits of a teacher, same shape; no gradient flows to them. Of the largest logits alone, the
            predictions of all other classes are equal.
        temperature: Divisor of the logits, greater than 0.

    Returns:
        temperature² · KL(teacher ‖ student), mean over the batch; a scalar. The square keeps the size of the
        gradient from falling as the temperature rises.
    """
    if not isinstance(teacher, Tensor):
        return temperature**2 * teacher.divergence(student, temperature).mean()
    return mutual_divergence(student, teacher.detach(), temperature)


def mutual_divergence(follower: Tensor, leader: Tensor, temperature: float | Tensor) -> Tensor:
    """Divergence of the softened predictions of two networks that are both taught by it: gradients reach either.

    Args:
        follower: Logits of one, shape (batch, classes).
        leader: Logits of the other, same shape.
        temperature: Divisor of the logits, greater than 0.

    Returns:
        temperature² · KL(leader ‖ follower), mean over the batch; a scalar.
    """
    softened = F.log_softmax(follower / temperature, dim=1)
    target = F.log_softmax(leader / temperature, dim=1)
    return temperature**2 * F.kl_div(softened, target, log_target=True, reduction="batchmean")


def active_distance(branch: Tensor, backbone: Tensor) -> Tensor:
    """Squared distance of features where either is positive, as in the TESKD authors' code (arXiv 2110.00329).

    Args:
        branch: Features of a branch, shape (batch, width).
        backbone: Features of the backbone, same shape; no gradient flows to them.

    Returns:
        Sum over batch and width; a scalar.
    """
    target = backbone.detach()
    return (branch - target).pow(2).where((branch > 0) | (target > 0), 0).sum()


class _Energy(torch.autograd.Function):
    """Mean over channels of the squared activations, reading the feature map once forward and once backward."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        # Lower precisions are widened on the way, without a copy; a higher one must be narrowed first.
        narrow = features.float() if features.dtype == torch.float64 else features
        norm = torch.linalg.vector_norm(narrow, dim=1, dtype=torch.float32)
        return norm.square_().div_(features.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        return features * gradient.mul(2 / features.shape[1]).to(features.dtype).unsqueeze(1)


def _energy(features: Tensor) -> Tensor:
    energy: Tensor = _Energy.apply(features)
    return energy


def attention_map(features: Tensor) -> Tensor:
    """Attention map: a feature map reduced over its channels (arXiv 1612.03928, section 3.1).

    Args:
        features: A stage's feature map, shape (batch, channels, height, width), in any precision.

    Returns:
        Mean over channels of the squared activations, flattened and divided by its L2 norm for each image;
        float32, shape (batch, height · width). A map of zeros stays zero.
    """
    return F.normalize(_energy(features).flatten(1), dim=1)


def attention(student: Tensor, expert: Tensor) -> Tensor:
    """Distance of two attention maps (arXiv 1612.03928, in the scale of its released code).

    Where one map is larger than the other, it is averaged down to the other's size before it is normalised. (The code
    of arXiv 1910.10699 averages the features themselves, before they are squared and folded; of a recorded expert only
    the folded map is known. Averaging that and normalising it again gives what averaging before would have given,
    because the norm is one number for each image.)

    Args:
        student: Feature map of the student, shape (batch, channels, height, width).
        expert: Attention map of the expert, shape (batch, height · width); of a square, where its size is another one.

    Returns:
        Mean over batch and positions of the smaller map of the squared difference; a scalar.
    """
    own, seen = compared_maps(student, expert)
    return (own - seen).pow(2).mean()


def attention_cosine(student: Tensor, expert: Tensor) -> tuple[Tensor, int]:
    """Cosine distance of two attention maps, which `attention` compares by their squared differences.

    For maps of length 1 and n positions the mean square is 2/n of it: the two differ in how layers of different sizes
    count. A mean of several experts' maps is shorter than 1; its product with the student's is their mean cosine.

    Args:
        student: Feature map of the student, shape (batch, channels, height, width).
        expert: Attention map of the expert, shape (batch, height · width); of a square, where its size is another one.

    Returns:
        1 - the product of both maps, mean over the batch, a scalar; and the positions of the smaller map.
    """
    own, seen = compared_maps(student, expert)
    return 1 - (own * seen).sum(dim=1).mean(), own.shape[1]


def compared_maps(student: Tensor, expert: Tensor) -> tuple[Tensor, Tensor]:
    """Attention maps as `attention` compares them: at the size of the smaller one.

    Args:
        student: Feature map of the student, shape (batch, channels, height, width).
        expert: Attention map of the expert, shape (batch, height · width); of a square, where its size is another one.

    Returns:
        The student's map and the expert's, both of shape (batch, positions of the smaller map) and of length 1.
    """
    energy, seen = _energy(student), expert.detach()
    if energy[0].numel() != seen.shape[1]:
        side = math.isqrt(seen.shape[1])
        if side < energy.shape[1]:
            energy = F.adaptive_avg_pool2d(energy, (side, side))
        else:
            # As (images, side, side): pooling takes the first dimension for channels.
            _, height, width = energy.shape
            smaller = F.adaptive_avg_pool2d(seen.view(-1, side, side), (height, width))
            seen = F.normalize(smaller.flatten(1), dim=1)
    return F.normalize(energy.flatten(1), dim=1), seen


def channel_statistics(features: Tensor) -> Tensor:
    """Mean and variance of each channel over the positions of a feature map.

    Args:
        features: A stage's feature map, shape (batch, channels, height, width), in any precision.

    Returns:
        Means and variances (of the population, so that a single position has none), float32, shape
        (batch, 2, channels).
    """
    flat = features.float().flatten(2)
    return torch.stack([flat.mean(dim=2), flat.var(dim=2, unbiased=False)], dim=1)


def hint(predicted: Tensor, expert: Tensor) -> Tensor:
    """Distance of two feature maps (arXiv 1412.6550). The larger one is averaged down to the other's size.

    Args:
        predicted: Prediction from the student's map, shape (batch, channels, height, width), in any precision.
        expert: Feature map of the expert, with as many channels.

    Returns:
        Mean over batch, channels and positions of the smaller map of the squared difference; a scalar.
    """
    own, given = predicted.float(), expert.detach()
    if own.shape[2:] != given.shape[2:]:
        height, width = min(own.shape[2:], given.shape[2:])
        own, given = (F.adaptive_avg_pool2d(features, (height, width)) for features in (own, given))
    return (own - given).pow(2).mean()


def statistics(student: Tensor, expert: Tensor) -> Tensor:
    """Distance of the statistics of two feature maps.

    Args:
        student: Feature map of the student, shape (batch, channels, height, width).
        expert: Means and variances of the expert's, shape (batch, 2, channels).

    Returns:
        Squared differences of means and of variances, added up, mean over batch and channels; a scalar.
    """
    return (channel_statistics(student) - expert.detach()).pow(2).sum(dim=1).mean()


def cross_entropy(logits: Tensor, lesson: Lesson) -> Tensor:
    """Cross-entropy with the labels of a lesson, which may be mixed, smoothed and weighted.

    A mixed label is one class to the share of the image itself, and its partner's to the rest (arXiv 1710.09412). Of a
    smoothed one, a share is spread evenly over all classes (arXiv 1512.00567, section 7); torch's own function takes no
    tensor for it, which a captured step must read from one.

    A weight is that of the image: of a class's whole smoothed label, and of each class of a mixed label by its share.
    So weights act as if images were shown that many times. The sum is divided by the number of images, as torch's
    cross-entropy divides it for probabilities; for classes it divides by the sum of a batch's weights, with which the
    images of one class would count for more or less with each batch. Of smoothed labels torch weighs each class's share
    by that class's weight, which moves what is predicted of every image towards the heavy classes.

    Args:
        logits: Logits, shape (batch, classes).
        lesson: The lesson.

    Returns:
        Mean over the batch, in nats; a scalar.
    """
    smoothing, weights = lesson.smoothing, lesson.class_weights
    sharp = isinstance(smoothing, float | int) and not smoothing
    if lesson.partners is None and weights is None and sharp:
        return F.cross_entropy(logits, lesson.labels)
    predicted = F.log_softmax(logits, dim=1)

    def loss(labels: Tensor) -> Tensor:
        own = F.nll_loss(predicted, labels, reduction="none")
        smoothed = own if sharp else (1 - smoothing) * own - smoothing * predicted.mean(dim=1)
        return smoothed if weights is None else weights[labels] * smoothed

    return by_share(loss, lesson).mean()


def by_share(loss: Callable[[Tensor], Tensor], lesson: Lesson) -> Tensor:
    """Returns the loss of each image for its label: of a mixed one, its losses for both classes by their shares.

    Args:
        loss: Returns the loss of each image for its class, shape (batch,), given classes of shape (batch,).
        lesson: The lesson.
    """
    own = loss(lesson.labels)
    if lesson.partners is None or lesson.shares is None:
        return own
    return lesson.shares * own + (1 - lesson.shares) * loss(lesson.partners)


def decoupled_divergences(
    student: Tensor, teacher: Tensor, lesson: Lesson, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """The divergence of softened predictions in two parts (arXiv 2203.08679, section 3.1).

    The paper has no mixed labels. Of a mixed image each part is that of both its classes, weighed by their shares, as
    mixup weighs the cross-entropy.

    Args:
        student: Logits of the student, shape (batch, classes).
        teacher: Logits of a teacher, same shape; no gradient flows to them.
        lesson: The lesson, which has the right classes.
        temperature: Divisor of the logits, greater than 0.

    Returns:
        temperature² · KL of the right class against all others, and temperature² · KL of the other classes among
        themselves; both teacher ‖ student, means over the batch, scalars.
    """
    own, given = student / temperature, teacher.detach() / temperature

    def divergences(labels: Tensor) -> Tensor:
        def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
            right, rest = one_and_others(logits, labels)
            binary = torch.cat([right, rest.logsumexp(dim=1, keepdim=True)], dim=1)
            return F.log_softmax(binary, dim=1), F.log_softmax(rest, dim=1)

        found = zip(parts(own), parts(given), strict=True)
        return torch.stack(
            [F.kl_div(ours, theirs, log_target=True, reduction="none").sum(dim=1) for ours, theirs in found]
        )

    target, among = temperature**2 * by_share(divergences, lesson).mean(dim=1)
    return target, among


def one_and_others(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Divides each image's logits into those of one class and of all others.

    Args:
        logits: Logits, shape (batch, classes).
        classes: A class of each image, shape (batch,).

    Returns:
        Their logits, shapes (batch, 1) and (batch, classes - 1).
    """
    chosen = classes.unsqueeze(1)
    # Indices rather than a mask, whose result would have no shape that a captured step knows.
    others = torch.arange(logits.shape[1] - 1, device=classes.device).expand(len(classes), -1)
    return logits.gather(1, chosen), logits.gather(1, others + (others >= chosen))


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the number of correct predictions, as a scalar tensor on the same device."""
    return (logits.argmax(dim=1) == labels).sum()
