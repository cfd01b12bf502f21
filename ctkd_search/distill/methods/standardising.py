"""Standardised logits (Sun, Ren, Li, Wang, Cao; arXiv 2403.01427), a parameter of methods that soften logits.

Methods without it soften none: those of feature maps and embeddings look at no logits, ``ctkd-as-released`` has their
squared distance, ``dml`` the divergence of predictions as they are, at temperature 1, and ``wttm`` softens the expert's
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctkd_search.distill.methods.parameter import Parameter
from ctkd_search.fields import Range

if TYPE_CHECKING:
    from ctkd_search.distill.methods.base import Method
    from ctkd_search.distill.methods.setting import Setting


def standardised(
    only_with: Mapping[str, tuple[Any, ...] | Range],
    name: str = "standardised",
    whose: str = "both",
) -> Parameter:
    """Returns the parameter, which is off by default.

    Args:
        only_with: Values of other parameters without which it has no effect.
        name: Its name.
        whose: The logits that are standardised, in a word or two.
    """
    return Parameter(
        name,
        False,
        f"whether {whose} logits are standardised first",
        "expert z=" if name.startswith("expert") else "z=",
        kind="choice",
        choices=(False, True),
        only_with=only_with,
        note="z-scores over the classes of each image (Sun et al., arXiv 2403.01427)",
        source="the paper, which does without",
    )


def standardised_fault(method: Method, setting: Setting, *names: str) -> str | None:
    """Returns why a method cannot standardise the logits of a setting's classes, or None.

    Args:
        method: The method.
        setting: The setting.
        names: Names of its parameters that `standardised` has made.
    """
    effective = {item.name for item in method.effective_parameters()}
    on = next((name for name in names if name in effective and method.values[name]), None)
    if on is None or setting.classes > 2:
        return None
    return f"{on} must be false for two classes, because their standardised logits are alike for every image"
