"""Configs of methods."""

from ctkd_search.config import MethodConfig


def with_values(config, **values):
    """The config of the same method with other values of some parameters."""
    return MethodConfig(config.name, {**config.values, **values})
