"""Connections whose clients may not keep the server waiting."""

import asyncio
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.settings import Limits

# Pieces of a body that may be small; beyond them they have so many bytes on average. The smallest packets of a network
# have twice as many, and a byte a piece would cost a thousand times what it costs to send.
_SMALL_PIECES, _BYTES_A_PIECE = 1_000, 256
_TOO_LATE = b'{"error": "the head of the request did not come within %g seconds"}'


class Connection(H11Protocol):
    """Uvicorn's, with an end to all waiting for the client.

    The head of a request has ``Limits.seconds`` to come, however its bytes trickle, and so has an answer to be taken.
    When there are ``Limits.connections``, that which has waited for its client for longest is closed for a new one: who
    is quick is let in, whoever else may sit there.
    """

    # of the class: Uvicorn makes its connections by itself
    limits = Limits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Pieces(h11.SERVER, self.conn._max_incomplete_event_size)
        self._since = 0.0
        self._head: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    @property
    def waits_for_client(self) -> bool:
        """For a head, for the rest of a body, or for an answer to be taken."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return True
        return self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()
        if len(self.connections) > self.limits.connections:
            others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
            waiting = [other for other in others if other.waits_for_client]
            min(waiting, key=lambda other: other._since, default=self).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._head, self._reading)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        try:
            super().handle_events()
        except h11.LocalProtocolError:  # what cannot be read follows an answer, and there can be no other one
            self.abort()
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._head)  # the head is there

    def on_response_complete(self) -> None:
        self._expect_head()
        if self.transport.is_closing():  # as soon as the client has taken what was written
            self._expect_reading()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._reading)

    def abort(self) -> None:
        """Close the connection, and wait for nothing."""
        # the set that is counted: the loop tells of what is lost only when all that have come have been let in
        self.connections.discard(self)
        self.transport.abort()

    def _expect_head(self) -> None:
        _cancel(self._head)
        self._since = time.monotonic()
        self._head = self.loop.call_later(self.limits.seconds, self._give_up_head)

    def _expect_reading(self) -> None:
        _cancel(self._reading)
        self._reading = self.loop.call_later(self.limits.seconds, self.abort)

    def _give_up_head(self) -> None:
        if self.conn.trailing_data[0] and self.conn.our_state is h11.IDLE:
            said = _TOO_LATE % self.limits.seconds
            head = b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
            self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(said) + said)
        self.abort()


class _Pieces(h11.Connection):
    """Refuses a body in pieces so small that reading it is work."""

    _pieces = _bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > _SMALL_PIECES + self._bytes // _BYTES_A_PIECE:
                raise h11.RemoteProtocolError("the body comes in too small pieces")
        return event


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
