"""Losses on logits beyond the divergence of softened predictions, as pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ctkd_search.distill.losses import by_share, one_and_others

if TYPE_CHECKING:
    from ctkd_search.distill.lesson import Lesson

# Logit of a class that is left out.
_MASKED = -1e9
# Added to the deviation, as in the code of arXiv 2403.01427.
_EPSILON = 1e-7


def standardised(logits: Tensor) -> Tensor:
    """Standardised logits: their z-scores over the classes (arXiv 2403.01427, algorithm 1).

    z' = (z - mean(z)) / (std(z) + 1e-7) for each image, where the deviation divides by classes - 1, as in the authors'
    code. Equal logits of all classes become 0, with a finite gradient.

    Args:
        logits: Logits, shape (batch, classes), of two classes or more.

    Returns:
        Logits of the same shape; those of each image have mean 0 and deviation 1.
    """
    # The root's gradient at 0 is infinite; a smaller deviation than epsilon is nothing but rounding.
    deviation = logits.var(dim=1, keepdim=True).clamp_min(_EPSILON**2).sqrt()
    return (logits - logits.mean(dim=1, keepdim=True)) / (deviation + _EPSILON)


def relations(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Distances of the relations in softened predictions (arXiv 2205.10536, section 4).

    With p = softmax(z / T) for the batch, and ρ Pearson's correlation: T² · (1 - mean over images of ρ between the
    predictions of an image), and T² · (1 - mean over classes of ρ between the probabilities of a class along the
    batch). Of what does not vary, as the batch of one image, the correlation is 0.

    Args:
        student: Logits of the student, shape (batch, classes).
        teacher: Logits of a teacher, same shape; no gradient flows to them.
        temperature: Divisor of the logits, greater than 0.

    Returns:
        The distance between classes and that within classes, scalars.
    """
    own, given = F.softmax(student / temperature, dim=1), F.softmax(teacher.detach() / temperature, dim=1)
    between, within = (1 - _correlation(own, given, dim).mean() for dim in (1, 0))
    return temperature**2 * between, temperature**2 * within


def _correlation(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Returns Pearson's correlation along a dimension; in the denominator 1e-8 is added, as in the authors' code."""
    one, other = (values - values.mean(dim=dim, keepdim=True) for values in (one, other))
    lengths = torch.linalg.vector_norm(one, dim=dim) * torch.linalg.vector_norm(other, dim=dim)
    return (one * other).sum(dim=dim) / (lengths + 1e-8)


def transformed_divergence(student: Tensor, teacher: Tensor, exponent: float | Tensor, weighted: bool) -> Tensor:
    """Divergence from a teacher's predictions raised to a power (arXiv 2402.11148, equations 15 and 20).

    With p = softmax(z_t), q = softmax(z_s) and u = Σ_c p_c^γ, it is the mean over the batch of u · KL(p^γ / u ‖ q). A
    power of predictions is a temperature of 1 / γ of their logits; the student has none.

    Args:
        student: Logits of the student, shape (batch, classes).
        teacher: Logits of a teacher, same shape; no gradient flows to them.
        exponent: γ, greater than 0.
        weighted: Whether images are weighed by u, which is large where the teacher is unsure; else by 1.

    Returns:
        The divergence, a scalar.
    """
    powers = exponent * F.log_softmax(teacher.detach(), dim=1)
    divergences = F.kl_div(
        F.log_softmax(student, dim=1), F.log_softmax(powers, dim=1), log_target=True, reduction="none"
    ).sum(dim=1)
    return (powers.exp().sum(dim=1) * divergences if weighted else divergences).mean()


def refined_divergences(
    student: Tensor,
    teacher: Tensor,
    lesson: Lesson,
    confidence_temperature: float | Tensor,
    temperature: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Divergences from what a teacher is right about (arXiv 2408.07703, section 4).

    Confidence: T_c² · KL((p_max, 1 - p_max) ‖ (q_y, 1 - q_y)), of the teacher's most probable class, which may be
    wrong, and of the student's right one, both at T_c. Correlation: T² · KL(p̂ ‖ q̂) at T among the classes that the
    teacher takes for less probable than the right one; 0 where there are none.

    The paper has no mixed labels. Of a mixed image each part is that of both its classes, weighed by their shares, as
    mixup weighs the cross-entropy.

    Args:
        student: Logits of the student, shape (batch, classes).
        teacher: Logits of a teacher, same shape; no gradient flows to them.
        lesson: The lesson, which has the right classes.
        confidence_temperature: T_c, greater than 0.
        temperature: T, greater than 0.

    Returns:
        Both parts, means over the batch, scalars.
    """
    given = teacher.detach()
    sure = _one_against_rest(given / confidence_temperature, given.argmax(dim=1))

    def divergences(labels: Tensor) -> Tensor:
        own = _one_against_rest(student / confidence_temperature, labels)
        # All others get a share of exactly 0; if none is left, every class has the same share in both.
        masked = given >= given.gather(1, labels.unsqueeze(1))
        theirs, ours = (
            F.log_softmax((logits / temperature).masked_fill(masked, _MASKED), dim=1) for logits in (given, student)
        )
        return torch.stack(
            [
                F.kl_div(own, sure, log_target=True, reduction="none").sum(dim=1),
                F.kl_div(ours, theirs, log_target=True, reduction="none").sum(dim=1),
            ]
        )

    confidence, correlation = by_share(divergences, lesson).mean(dim=1)
    return confidence_temperature**2 * confidence, temperature**2 * correlation


def _one_against_rest(logits: Tensor, classes: Tensor) -> Tensor:
    """Returns the log probabilities of one class and of all others together, shape (batch, 2)."""
    one, others = one_and_others(logits, classes)
    return F.log_softmax(torch.cat([one, others.logsumexp(dim=1, keepdim=True)], dim=1), dim=1)
