"""Architectures by name, and where their features are tapped.

`describe` answers from the name alone and imports no torch, so that a space can be checked in no time;
`build` makes the network. A family of architectures is one module of `ctkd_search.models.families`.
"""

from ctkd_search.models.registry import MIN_SIZE, Architecture, Geometry, MapShape, build, code_of, describe, maps

__all__ = ["MIN_SIZE", "Architecture", "Geometry", "MapShape", "build", "code_of", "describe", "maps"]
