"""The one error a user is meant to see: what is wrong, where, and what to do, in one line."""


class UserError(Exception):
    """Bad input. `run.py` prints its text as one line and exits with status 1; nothing else is caught there."""
