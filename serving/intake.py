"""Bodies of requests as they come, each and all of them within bounds."""

import asyncio
import time

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.bodies import CONTENT_ENCODINGS
from serving.errors import cut
from serving.settings import Limits

# Bytes of a body that is read before the key is asked for, and is JSON of a few letters.
_SMALL = {"/v1/words": 1024}
_CLOSE = {"Connection": "close"}


class BoundedBodies:
    """Who reads a body gets an HTTPException when it is too large or does not come in time, on every route.

    When all bodies have more than ``Limits.memory``, the oldest that is not whole is given up.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._bodies: dict[_Body, None] = {}  # in the order in which they began

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, self._limits)
        self._bodies[body] = None

        async def bounded() -> Message:
            message = await body.receive()
            self._make_room()
            return message

        try:
            await self._app(scope, bounded, send)
        finally:
            del self._bodies[body]

    def _make_room(self) -> None:
        held = sum(body.held for body in self._bodies)
        for body in self._bodies:
            if held <= self._limits.memory:
                break
            if not body.whole:
                held -= body.held
                body.give_up()


class _Body:
    """A body that is received."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        headers, small = Headers(scope=scope), _SMALL.get(scope["path"])
        self._receive, self._seconds = receive, limits.seconds
        self._most = small or limits.body
        self._encoding = headers.get("content-encoding", "").strip().lower()
        self._encodings = ("", "identity") if small else CONTENT_ENCODINGS
        self._announced = int(headers.get("content-length", "0"))
        self._until = time.monotonic() + limits.seconds
        self._waiting: asyncio.Timeout | None = None
        self._given_up = False
        self.held, self.whole = 0, False

    async def receive(self) -> Message:
        if self.whole:  # what comes now is that the client has gone
            return await self._receive()
        if self._encoding not in self._encodings:
            allowed = self._encodings[1:3]
            said = f"Content-Encoding {cut(self._encoding)}; it is one of {', '.join(allowed)}"
            raise HTTPException(415, said, {"Accept-Encoding": ", ".join(allowed)} | _CLOSE)
        if self._announced <= self._most:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the connection ended before the body did")
            self.held += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
        if max(self.held, self._announced) > self._most:
            raise HTTPException(413, f"a body of more than {self._most:,} bytes", _CLOSE)
        return message

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(self._until - time.monotonic()) as self._waiting:
                if not self._given_up:
                    return await self._receive()
        except TimeoutError as error:
            if not self._given_up:
                said = f"the body did not come within {self._seconds:g} seconds"
                raise HTTPException(408, said, _CLOSE) from error
        finally:
            self._waiting = None
        raise HTTPException(429, "too many bodies at once, and this one was not whole", {"Retry-After": "1"} | _CLOSE)

    def give_up(self) -> None:
        """Who waits for the rest is told so."""
        self._given_up, self.held = True, 0
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())
