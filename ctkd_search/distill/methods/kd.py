"""Knowledge distillation (Hinton, Vinyals, Dean; arXiv 1503.02531)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, ClassVar

from ctkd_search.config import Range
from ctkd_search.distill.methods.base import LOGITS, Method, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.teachers import Lesson


class KD(Method):
    """One teacher, which has been trained before: the expert's softened predictions beside the labels.

    L = (1 - weight) · CE(z_s, y) + weight · T² · KL(softmax(z_expert / T) ‖ softmax(z_s / T)).

    The defaults are those with which the distillation papers since (arXiv 1910.10699 and its followers) run it.

    Args:
        temperature: T.
        weight: Share of the second term.
    """

    name: ClassVar[str] = "kd"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("temperature", 4.0, "temperature that softens both logits", "T=", range=Range(0, open_low=True)),
        Parameter("weight", 0.9, "share of the expert's predictions beside the labels", "w=", range=Range(0, 1)),
    )

    def __init__(self, temperature: float, weight: float) -> None:
        # Imported here so that the parameters above can be read without torch.
        from ctkd_search.distill import losses

        self._losses = losses
        self.temperature = temperature
        self.weight = weight
        self._expert_layers = (LOGITS,) if weight > 0 else ()

    @property
    def needs_scratch(self) -> bool:
        """Never."""
        return False

    @property
    def expert_layers(self) -> tuple[int, ...]:
        """The expert's logits; nothing if the weight is 0."""
        return self._expert_layers

    def structure(self) -> Hashable:
        """Whether there is an expert."""
        return self.name, self._expert_layers

    def terms(self, logits: Tensor, maps: Sequence[Tensor], lesson: Lesson) -> dict[str, Tensor]:
        """Cross-entropy and divergence, each with its share."""
        terms = {"loss_ce": (1 - self.weight) * self._losses.F.cross_entropy(logits, lesson.labels)}
        if self.expert_layers:
            divergence = self._losses.softened_divergence(logits, lesson.expert_says[LOGITS], self.temperature)
            terms["loss_kd"] = self.weight * divergence
        return terms


METHOD = KD
