"""Errors in the input of a user; jobs print their message without a traceback."""


class InputError(ValueError):
    """A file, row, path or setting cannot be used; the message names it and the problem."""
