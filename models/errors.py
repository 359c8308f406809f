"""Why a training cannot start or go on, in one message; jobs print it without a traceback."""

import re


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    return re.sub(r"//[^/@]*@", "//…@", url)


class TrainingError(RuntimeError):
    """The cluster or the settings do not allow the training."""
