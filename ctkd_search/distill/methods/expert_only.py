"""CTKD without its scratch teacher: the ablation of arXiv 1907.09643."""

from __future__ import annotations

from typing import ClassVar

from ctkd_search.distill.methods.base import Baseline, Parameter, only
from ctkd_search.distill.methods.ctkd import CTKD


class ExpertOnly(CTKD):
    """L = CE(z_s, y) + beta · Σ_j L_att(F_s^j, F_e^j), and the expert's predictions where a space asks for them."""

    name: ClassVar[str] = "expert-only"
    summary: ClassVar[str] = (
        "CTKD without its scratch teacher: the expert's attention maps, and its predictions if asked for"
    )
    parameters: ClassVar[tuple[Parameter, ...]] = only(
        CTKD.parameters,
        *(
            "beta",
            "beta_schedule",
            "beta_share",
            "attention_layers",
            "attention_loss",
            "first_weight",
            "last_weight",
            "expert_kd",
            "expert_temperature",
            "expert_standardised",
        ),
    )
    # With the paper's settings this is attention transfer, which is a baseline already.
    baselines: ClassVar[tuple[Baseline, ...]] = ()


METHOD = ExpertOnly
