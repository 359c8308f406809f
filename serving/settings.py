"""What a server allows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request, and all at once, may ask for; more is refused.

    Args:
        body: bytes of a request, as they come and unpacked.
        pixels: of the pictures of a request in all, width times height.
        pictures: of a request.
        values: numbers, lists and objects of a JSON body; Python holds everything else up while it reads them.
        seconds: until a request is given up; its head, its body and its answer have as long each.
        requests: predictions at once.
        threads: that read bodies and decode pictures; one of them is left free for light ones.
        connections: at once; for another one, that which has been sending its request for longest is closed.
        memory: bytes of all bodies at once, and as many of the pixels that were read from them.
    """

    body: int = 8 * 1024 * 1024
    pixels: int = 25_000_000
    pictures: int = 512
    values: int = 1_000_000
    seconds: float = 10.0
    requests: int = 64
    threads: int = 3
    connections: int = 512
    memory: int = 256 * 1024 * 1024
