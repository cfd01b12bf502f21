"""Searches on batch systems: the scripts that are submitted to them."""
