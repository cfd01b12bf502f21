"""The two ways a command ends badly without a traceback."""


class UserError(Exception):
    """An error that the user can correct, with one line on how. The command exits with 2."""


class WorkFailed(Exception):
    """A failure of the work itself, not of the user's input. The command exits with 1."""
