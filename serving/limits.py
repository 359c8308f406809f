"""Limits of the server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Upper limits of one request and of all requests together; requests beyond them are rejected.

    Args:
        body: bytes of a request body, both as received and after decompression.
        pixels: width times height, summed over the pictures of a request.
        pictures: number of pictures in a request.
        searches: number of pictures in a request that are searched for a hand, which takes 20 to 40 milliseconds.
        values: numbers, lists and objects in a JSON body. While Python parses them, all other threads wait.
        seconds: timeout of a request; receiving its head, receiving its body and answering it have this long each.
        requests: predictions in progress at the same time.
        threads: threads that read bodies and decode pictures; one of them is reserved for cheap tasks.
        connections: open connections; for a new one, the one that has waited for its client for longest is closed.
        memory: bytes of all request bodies together, and as many bytes of the pixels that were read from them.
    """

    body: int = 8 * 1024 * 1024
    pixels: int = 25_000_000
    pictures: int = 512
    searches: int = 64
    values: int = 1_000_000
    seconds: float = 10.0
    requests: int = 64
    threads: int = 3
    connections: int = 512
    memory: int = 256 * 1024 * 1024
