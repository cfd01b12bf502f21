"""Collaborative Teaching Knowledge Distillation (Zhao et al., arXiv 1907.09643)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, ClassVar

from ctkd_search.config import Range
from ctkd_search.distill.methods.base import Method, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.teachers import Lesson

_ABOVE_ZERO = Range(0, open_low=True)


class CTKD(Method):
    """Two teachers at once: logits of a scratch teacher at every step, attention maps of an expert.

    L = CE(z_s, y) + alpha · L_step(z_s, z_scratch) + beta · Σ_j L_att(F_s^j, F_e^j), where no gradient reaches
    either teacher.

    Args:
        step_loss: ``kl`` or ``mse``.
        temperature: Temperature of ``kl``.
        alpha: Weight of the step loss; at 0 no scratch teacher is needed.
        beta: Weight of the attention loss; at 0 no expert is needed.
        attention_layers: The feature maps compared, numbered from 1.
    """

    name: ClassVar[str] = "ctkd"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "step_loss",
            "kl",
            "how the student follows the scratch teacher's logits",
            kind="choice",
            choices=("kl", "mse"),
            only_with={"alpha": _ABOVE_ZERO},
            note="`kl`: the divergence of softened predictions; `mse`: the squared distance, as in the authors' code",
        ),
        Parameter(
            "temperature",
            4.0,
            "temperature that softens both logits in step_loss kl",
            "T=",
            range=_ABOVE_ZERO,
            only_with={"step_loss": ("kl",), "alpha": _ABOVE_ZERO},
        ),
        Parameter("alpha", 1.0, "weight of the step loss", "a=", range=Range(0)),
        Parameter("beta", 1000.0, "weight of the attention loss", "b=", range=Range(0)),
        Parameter(
            "attention_layers",
            (1, 2, 3),
            "which feature maps the expert's attention guides",
            "L",
            kind="layers",
            only_with={"beta": _ABOVE_ZERO},
        ),
    )

    def __init__(
        self, step_loss: str, temperature: float, alpha: float, beta: float, attention_layers: Sequence[int]
    ) -> None:
        # Imported here so that the parameters above can be read without torch.
        from ctkd_search.distill import losses

        self._losses = losses
        self.step_loss = step_loss
        self.temperature = temperature
        self.alpha = alpha
        self.beta = beta
        self.attention_layers = tuple(attention_layers)
        self._needs_scratch = alpha > 0
        self._expert_layers = self.attention_layers if beta > 0 else ()

    @property
    def needs_scratch(self) -> bool:
        """True unless alpha is 0."""
        return self._needs_scratch

    @property
    def expert_layers(self) -> tuple[int, ...]:
        """The compared layers; none if beta is 0."""
        return self._expert_layers

    def structure(self) -> Hashable:
        """Which terms there are, the kind of the step loss, and the compared layers."""
        return self.name, self.step_loss, self._needs_scratch, self._expert_layers

    def terms(self, logits: Tensor, maps: Sequence[Tensor], lesson: Lesson) -> dict[str, Tensor]:
        """Cross-entropy, step loss and attention loss, each with its weight."""
        terms = {"loss_ce": self._losses.F.cross_entropy(logits, lesson.labels)}
        if self.needs_scratch:
            if lesson.scratch_logits is None:
                raise TypeError("the lesson lacks the scratch teacher's logits")
            terms["loss_step"] = self.alpha * self._step(logits, lesson.scratch_logits)
        if self.expert_layers:
            compared = [
                self._losses.attention(maps[layer - 1], lesson.expert_says[layer]) for layer in self.expert_layers
            ]
            terms["loss_attention"] = self.beta * sum(compared[1:], compared[0])
        return terms

    def _step(self, student: Tensor, scratch: Tensor) -> Tensor:
        if self.step_loss == "kl":
            return self._losses.softened_divergence(student, scratch, self.temperature)
        return self._losses.step_mse(student, scratch)


METHOD = CTKD
