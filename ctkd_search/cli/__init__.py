"""The command line: the parser, the commands, the help."""

from ctkd_search.cli.parser import main

__all__ = ["main"]
