"""CTKD without its expert: the ablation of arXiv 1907.09643."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from ctkd_search.distill.methods.base import Baseline, Parameter, only
from ctkd_search.distill.methods.ctkd import AVERAGE, CTKD, SCRATCH

_NOTE = "`average`: the running average of the scratch teacher's weights over an epoch"


class ScratchOnly(CTKD):
    """L = CE(z_s, y) + alpha · L_step(z_s, z_scratch)."""

    name: ClassVar[str] = "scratch-only"
    summary: ClassVar[str] = "CTKD without its expert: the scratch teacher's logits at every step"
    parameters: ClassVar[tuple[Parameter, ...]] = tuple(
        dataclasses.replace(item, choices=(SCRATCH, AVERAGE), note=_NOTE) if item.name == "step_teacher" else item
        for item in only(
            CTKD.parameters,
            *("step_loss", "temperature", "standardised", "step_teacher", "alpha", "alpha_schedule", "alpha_share"),
        )
    )
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("scratch-only", "the scratch teacher's logits alone", usual=True),
    )


METHOD = ScratchOnly
