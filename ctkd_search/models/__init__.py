"""Architectures by name, and where their features are tapped.

`describe` answers from the name alone and imports no torch, so that a space can be checked in no time;
`build` makes the network. A family of architectures is one module of `ctkd_search.models.families`.
"""

from ctkd_search.models.architecture import Architecture, MapShape
from ctkd_search.models.registry import build, code_of, describe, maps

__all__ = ["Architecture", "MapShape", "build", "code_of", "describe", "maps"]
