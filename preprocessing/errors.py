"""What is wrong with what a user gave, in one message that names it; jobs print it without a traceback."""


class InputError(ValueError):
    """A file, row or path that cannot be used as it is."""
