"""CTKD as the authors' released code does it, where that departs from their paper (arXiv 1907.09643)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import Baseline, Method, Parameter, only
from ctkd_search.distill.methods.ctkd import CTKD, attention_faults
from ctkd_search.distill.requests import Needs, TeacherOutput

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.distill.lesson import Lesson
    from ctkd_search.distill.methods.setting import Setting
    from ctkd_search.distill.training_network import Context, TrainingNetwork
    from ctkd_search.models.architecture import Architecture
    from ctkd_search.models.network import TappedNetwork


class AsReleased(Method):
    """L = CE(z_s, y) + alpha · ||z_s - z_scratch||² + CE(z_scratch, y) + beta · Σ_j L_att(F_scratch^j, F_e^j).

    Scratch teacher and student share their first convolution, so that the teacher depends on the student and is
    trained with it in every trial, by the student's recipe; and the expert's attention guides the scratch teacher, not
    the student. The expert's maps are recorded and replayed as for any method.
    """

    name: ClassVar[str] = "ctkd-as-released"
    summary: ClassVar[str] = (
        "CTKD as in the authors' code: a shared first convolution, attention on the scratch teacher"
    )
    paper: ClassVar[str] = "arXiv 1907.09643"
    auxiliary: ClassVar[str] = "a scratch teacher that shares the student's first convolution"
    parameters: ClassVar[tuple[Parameter, ...]] = only(CTKD.parameters, "alpha", "beta", "attention_layers")
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("ctkd-as-released", "CTKD as in the authors' code, where it departs from their paper", papers=True),
    )

    @property
    def needs(self) -> Needs:
        """Returns the attention of the compared layers, unless beta is 0."""
        layers = self.values["attention_layers"] if self.values["beta"] > 0 else ()
        return Needs(expert=tuple(TeacherOutput("attention", layer) for layer in layers))

    def fault(self, teacher: Architecture, student: Architecture) -> str | None:
        """Refuses pairs whose networks do not begin with the same convolution, so that none can be shared."""
        stems = [network.blocks.stem if network.blocks else None for network in (teacher, student)]
        if None in stems or stems[0] != stems[1]:
            both = f"{teacher.name} and {student.name}"
            return f"{both} do not begin with the same convolution, so that none can be shared"
        return super().fault(teacher, student)

    def idle(self, setting: Setting) -> dict[str, str]:
        """Returns the parameters of attention at maps of one position; both compared maps are the teacher's."""
        layers = self.values["attention_layers"] if self.values["beta"] > 0 else ()
        sides = {layer: found.side for layer, found in enumerate(setting.teacher_maps, start=1)}
        return attention_faults(layers, sides)

    def training_network(self, student: TappedNetwork, context: Context) -> TrainingNetwork:
        """Returns the student with a scratch teacher that shares its first convolution."""
        from ctkd_search.distill.shared_stem import SharedStem

        return SharedStem(student, context.build(context.teacher.name, "scratch teacher"))

    def terms(self, output: StudentOutput, lesson: Lesson) -> dict[str, Tensor]:
        """Returns the cross-entropy of both, the step loss, and the attention loss of the scratch teacher."""
        from ctkd_search.distill import losses

        logits, maps = output.more
        logits = logits.float()
        terms = {
            "loss_ce": losses.cross_entropy(output.logits, lesson),
            "loss_scratch": losses.cross_entropy(logits, lesson),
        }
        if self.values["alpha"] > 0:
            terms["loss_step"] = self.alpha * losses.step_mse(output.logits, logits)
        if self.values["beta"] > 0:
            compared = [
                losses.attention(maps[layer - 1], lesson.expert_outputs[TeacherOutput("attention", layer)])
                for layer in self.values["attention_layers"]
            ]
            terms["loss_attention"] = self.beta * sum(compared[1:], compared[0])
        return terms


METHOD = AsReleased
