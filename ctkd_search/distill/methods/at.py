"""Attention transfer (Zagoruyko and Komodakis, arXiv 1612.03928)."""

from __future__ import annotations

from typing import ClassVar

from ctkd_search.distill.methods.base import Baseline, Parameter, only
from ctkd_search.distill.methods.ctkd import CTKD


class AttentionTransfer(CTKD):
    """Attention transfer, a part of CTKD: L = CE(z_s, y) + beta · Σ_j L_att(F_s^j, F_e^j)."""

    name: ClassVar[str] = "at"
    summary: ClassVar[str] = "the expert's attention maps beside the labels"
    paper: ClassVar[str] = "arXiv 1612.03928"
    parameters: ClassVar[tuple[Parameter, ...]] = only(CTKD.parameters, "beta", "attention_layers")
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("at", "the expert's attention alone (Zagoruyko and Komodakis, arXiv 1612.03928)", usual=True),
    )


METHOD = AttentionTransfer
