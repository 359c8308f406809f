"""The error that explains in one message why training cannot start or continue; jobs print it without a traceback."""

import re


def without_password(url: str) -> str:
    """Return the URL with its user name and password replaced by ``…``."""
    return re.sub(r"//[^/@]*@", "//…@", url)


class TrainingError(RuntimeError):
    """The cluster or the settings do not allow training."""
