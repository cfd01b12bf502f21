"""Slips in mappings in braces, as they are typed in a shell, which YAML reads as something else."""

from __future__ import annotations

import yaml


def unspaced_key(node: yaml.Node | None) -> str | None:
    """Returns a key such as ``top:2``, which has no value because a space is missing after its colon; None without one.

    Args:
        node: What YAML has read.
    """
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(unspaced_key, node.value)), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        # A quoted key is meant as it is, and so is one with a null that is written out.
        plain = isinstance(key, yaml.ScalarNode) and key.style is None
        if plain and ":" in key.value and isinstance(value, yaml.ScalarNode) and not value.value and not value.style:
            return str(key.value)
        if found := unspaced_key(value):
            return found
    return None
