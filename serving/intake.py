"""Limits on request bodies while they are received, one by one and all together."""

import asyncio
import time

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.bodies import CONTENT_ENCODINGS
from serving.errors import shorten
from serving.limits import Limits

# Maximum bytes of a body that is read before the API key is checked, and that is JSON with a few letters.
_SMALL_BODIES = {"/v1/words": 1024}
_CLOSE = {"Connection": "close"}


class BoundedBodies:
    """Middleware: reading a body that is too large or too slow raises an HTTPException, on every route.

    When all bodies together exceed ``Limits.memory``, the oldest incomplete ones are rejected.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._bodies: dict[_Body, None] = {}  # in order of arrival

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, self._limits)
        self._bodies[body] = None

        async def bounded_receive() -> Message:
            message = await body.receive()
            self._free_memory()
            return message

        try:
            await self._app(scope, bounded_receive, send)
        finally:
            del self._bodies[body]

    def _free_memory(self) -> None:
        total = sum(body.received_bytes for body in self._bodies)
        for body in self._bodies:
            if total <= self._limits.memory:
                break
            if not body.is_complete:
                total -= body.received_bytes
                body.reject()


class _Body:
    """A body that is being received."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        headers, small_limit = Headers(scope=scope), _SMALL_BODIES.get(scope["path"])
        self._receive, self._seconds = receive, limits.seconds
        self._max_bytes = small_limit or limits.body
        self._encoding = headers.get("content-encoding", "").strip().lower()
        self._allowed_encodings = ("", "identity") if small_limit else CONTENT_ENCODINGS
        self._content_length = int(headers.get("content-length", "0"))
        self._deadline = time.monotonic() + limits.seconds
        self._timeout: asyncio.Timeout | None = None
        self._rejected = False
        self.received_bytes, self.is_complete = 0, False

    async def receive(self) -> Message:
        if self.is_complete:  # only the client's disconnect can follow
            return await self._receive()
        if self._encoding not in self._allowed_encodings:
            allowed = self._allowed_encodings[1:3]
            detail = f"Content-Encoding {shorten(self._encoding)}; it is one of {', '.join(allowed)}"
            raise HTTPException(415, detail, {"Accept-Encoding": ", ".join(allowed)} | _CLOSE)
        if self._content_length <= self._max_bytes:
            message = await self._receive_in_time()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the connection ended before the body did")
            self.received_bytes += len(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
        if max(self.received_bytes, self._content_length) > self._max_bytes:
            raise HTTPException(413, f"a body of more than {self._max_bytes:,} bytes", _CLOSE)
        return message

    async def _receive_in_time(self) -> Message:
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()) as self._timeout:
                if not self._rejected:
                    return await self._receive()
        except TimeoutError as error:
            if not self._rejected:
                detail = f"the body did not come within {self._seconds:g} seconds"
                raise HTTPException(408, detail, _CLOSE) from error
        finally:
            self._timeout = None
        raise HTTPException(429, "too many bodies at once, and this one was incomplete", {"Retry-After": "1"} | _CLOSE)

    def reject(self) -> None:
        """Drop the body; reading the rest of it raises an HTTPException."""
        self._rejected, self.received_bytes = True, 0
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())
