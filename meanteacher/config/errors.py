"""The one error a user is meant to see, and the messages of other errors, each in one line."""


class UserError(Exception):
    """Bad input: what is wrong, where, and what to do, in one line.

    `run.py` prints the text and exits with status 1; nothing else is caught there.
    """


class LostProcess(UserError):
    """Another process of the run has ended, so this one cannot go on."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]
