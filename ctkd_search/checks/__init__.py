"""Checks before a search runs: faults of the space, networks, disk space and time."""
