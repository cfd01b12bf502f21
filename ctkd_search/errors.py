"""The two ways a command ends badly without a traceback."""


class UserError(Exception):
    """Something the user must change; one line says what. The command exits with 2."""


class WorkFailed(Exception):
    """The work itself failed, through nobody's typing. The command exits with 1."""
