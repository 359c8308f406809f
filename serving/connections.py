"""HTTP connections with timeouts for slow clients."""

import asyncio
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.limits import Limits

# A body may have this many small chunks; further chunks need this many bytes on average. The smallest network packets
# have twice as many, and chunks of one byte would cost the server a thousand times what they cost the client.
_SMALL_CHUNKS, _BYTES_PER_CHUNK = 1_000, 256
_TOO_LATE = b'{"error": "the head of the request did not come within %g seconds"}'


class Connection(H11Protocol):
    """Uvicorn's connection, with timeouts for everything that waits for the client.

    The head of a request has to arrive within ``Limits.seconds``, even if single bytes keep arriving, and an answer has
    to be taken within as long. At ``Limits.connections``, a new connection closes the one that has waited for its
    client for longest, so that idle clients cannot block active ones.
    """

    # a class attribute, as Uvicorn creates the connections
    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _BoundedChunks(h11.SERVER, self.conn._max_incomplete_event_size)
        self._waiting_since = 0.0
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None

    @property
    def waits_for_client(self) -> bool:
        """Whether it waits for a head, for the rest of a body, or for an answer to be taken."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return True
        return self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > self.limits.connections:
            connections = [other for other in self.connections if isinstance(other, Connection) and other is not self]
            waiting = [connection for connection in connections if connection.waits_for_client]
            min(waiting, key=lambda connection: connection._waiting_since, default=self).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._head_timer, self._answer_timer)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        try:
            super().handle_events()
        except h11.LocalProtocolError:  # invalid bytes after an answer: a second answer cannot be sent
            self.abort()
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._head_timer)  # the head has arrived

    def on_response_complete(self) -> None:
        self._expect_head()
        if self.transport.is_closing():  # it closes when the client has taken what was written
            self._expect_answer_taken()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_answer_taken()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_answer_taken()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._answer_timer)

    def abort(self) -> None:
        """Close the connection immediately."""
        # the count must drop now: the event loop calls connection_lost only after it has accepted all new connections
        self.connections.discard(self)
        self.transport.abort()

    def _expect_head(self) -> None:
        _cancel(self._head_timer)
        self._waiting_since = time.monotonic()
        self._head_timer = self.loop.call_later(self.limits.seconds, self._time_out_head)

    def _expect_answer_taken(self) -> None:
        _cancel(self._answer_timer)
        self._answer_timer = self.loop.call_later(self.limits.seconds, self.abort)

    def _time_out_head(self) -> None:
        if self.conn.trailing_data[0] and self.conn.our_state is h11.IDLE:
            body = _TOO_LATE % self.limits.seconds
            head = b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
            self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.abort()


class _BoundedChunks(h11.Connection):
    """Rejects a body with too many small chunks, which are costly to read."""

    _chunks = _bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += 1
            self._bytes += len(event.data)
            if self._chunks > _SMALL_CHUNKS + self._bytes // _BYTES_PER_CHUNK:
                raise h11.RemoteProtocolError("the chunks of the body are too small")
        return event


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
