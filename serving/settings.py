"""What a server allows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request, and all at once, may ask for; more is refused.

    Args:
        body: bytes of a request.
        pixels: of the pictures of a request in all, width times height.
        pictures: of a request.
        seconds: until a request is given up.
        requests: at once.
    """

    body: int = 8 * 1024 * 1024
    pixels: int = 25_000_000
    pictures: int = 512
    seconds: float = 10.0
    requests: int = 64
