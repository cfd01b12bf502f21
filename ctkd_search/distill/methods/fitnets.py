"""FitNets: hints for thin deep nets (Romero, Ballas, Kahou, Chassang, Gatta, Bengio; arXiv 1412.6550)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import ABOVE_ZERO, Baseline, Parameter
from ctkd_search.distill.methods.kd import KD
from ctkd_search.distill.methods.parameter import COMPARISONS, OURS
from ctkd_search.distill.requests import Needs, TeacherOutput
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.network import TappedNetwork

_TWO_STAGES: dict[str, tuple[str, ...] | Range] = {"training": ("stages",), "hint_weight": ABOVE_ZERO}


class FitNets(KD):
    """Hints: the expert's feature maps, which regressors r predict from the student's.

    L_hint = Σ_j mean over batch, channels and positions of (r_j(F_s^j) - F_e^j)², the larger map averaged down if
    their sizes differ, in one of two ways:

    joint:  L = CE(z_s, y) + hint_weight · L_hint throughout, as in the comparisons since (arXiv 1910.10699).
    stages: as in the paper, L = hint_weight · L_hint for the first epochs, then the loss of KD. Layers behind the hint
        layer get no gradient in the first stage, but weight decay. The learning rate follows the recipe over both
        stages, and the weight of the expert's predictions does not fall as the paper's does.

    A regressor is a 1x1 convolution and a batch normalisation, as in the code of arXiv 1910.10699, without the final
    ReLU there: maps compared here may be negative. Without the normalisation, weights like theirs let it diverge.
    """

    name: ClassVar[str] = "fitnets"
    summary: ClassVar[str] = "the expert's feature maps, predicted from the student's through a 1x1 convolution"
    paper: ClassVar[str] = "arXiv 1412.6550"
    scheduled: ClassVar[tuple[str, ...]] = ("hints_now", "labels_now")
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter(
            "hint_weight", 100.0, "weight of the hints", "h=", range=Range(0), term="loss_hint", source=COMPARISONS
        ),
        Parameter(
            "hint_layers",
            (2,),
            "which of the expert's feature maps are hints",
            "L",
            kind="layers",
            only_with={"hint_weight": ABOVE_ZERO},
            source=COMPARISONS,
        ),
        Parameter(
            "training",
            "joint",
            "how hints and labels are combined",
            kind="choice",
            choices=("joint", "stages"),
            only_with={"hint_weight": ABOVE_ZERO},
            note="`joint`: both throughout; `stages`: hints first, then KD, as in the paper",
            source=COMPARISONS,
        ),
        Parameter(
            "hint_share",
            0.5,
            "share of the epochs with hints, in training stages",
            "h%",
            range=Range(0, 1, open_low=True, open_high=True),
            only_with=_TWO_STAGES,
            source=OURS,
        ),
        *(dataclasses.replace(item, only_with={**item.only_with, **_TWO_STAGES}) for item in KD.parameters),
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline(
            "fitnets", "the expert's feature maps as hints (Romero et al., arXiv 1412.6550)", {"training": "joint"}
        ),
    )

    @property
    def layers(self) -> tuple[int, ...]:
        """Returns the layers whose maps are hints; none if they have no weight."""
        layers: tuple[int, ...] = self.values["hint_layers"]
        return layers if self.values["hint_weight"] > 0 else ()

    @property
    def in_stages(self) -> bool:
        """Returns whether there is a stage of hints alone."""
        return bool(self.layers) and self.values["training"] == "stages"

    @property
    def learns_labels(self) -> bool:
        """Returns whether the cross-entropy has a weight, which is always so beside the hints."""
        return not self.in_stages or super().learns_labels

    @property
    def needs(self) -> Needs:
        """Returns the maps that are hints; in two stages the expert's logits too."""
        hints = Needs(expert=tuple(TeacherOutput("features", layer) for layer in self.layers))
        return hints | super().needs if self.in_stages else hints

    def training_network(self, student: TappedNetwork, context: Context) -> TappedNetwork | TrainingNetwork:
        """Returns the student with its regressors."""
        if not self.layers:
            return student
        from ctkd_search.distill.auxiliary import Bridged

        return Bridged(student, context, self.layers, normalised=True)

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns the parameters of the second of two stages if there is one epoch."""
        if setting.epochs > 1 or not self.in_stages:
            return {}
        reason = "there is one epoch, in which the stage of KD never comes"
        return dict.fromkeys(("hint_share", *(item.name for item in KD.parameters)), reason)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the current stage: each has an epoch at least, of more than one."""
        hints = epoch < max(1, min(epochs - 1, round(self.values["hint_share"] * epochs)))
        self.set_number("hints_now", float(hints or not self.in_stages))
        self.set_number("labels_now", float(not hints or not self.in_stages))

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns cross-entropy, the expert's predictions in the second of two stages, and the hints."""
        from ctkd_search.distill import losses

        if self.in_stages:
            terms = {name: self.labels_now * term for name, term in super().terms(output, lesson).items()}
        else:
            terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.layers:
            hints = [lesson.expert_outputs[TeacherOutput("features", layer)] for layer in self.layers]
            missed = [losses.hint(bridged, hint) for bridged, hint in zip(output.more, hints, strict=True)]
            terms["loss_hint"] = self.hints_now * self.hint_weight * sum(missed[1:], missed[0])
        return terms


METHOD = FitNets
