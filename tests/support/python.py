"""The environment of Python processes that tests start."""

import os
import sys


def environment(**more: str) -> dict[str, str]:
    """Returns this process's environment, in which Python finds the modules that this process finds."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | more
