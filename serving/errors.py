"""Errors in the body of a request."""


class BodyError(ValueError):
    """A request body that cannot be used: the HTTP status, and what was received and what is allowed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def shorten(text: str, limit: int = 60) -> str:
    """Shorten text from a request to at most ``limit`` characters, for an error message."""
    return text if len(text) <= limit else f"{text[:limit]}…"
