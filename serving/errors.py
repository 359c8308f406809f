"""What is wrong with a request's body."""


class BodyError(ValueError):
    """A body that cannot be used: the HTTP status, and what was found and is allowed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def cut(text: str, most: int = 60) -> str:
    """What was sent, as far as a message shows it."""
    return text if len(text) <= most else f"{text[:most]}…"
