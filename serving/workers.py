"""Work in a few threads, whatever is given up."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")


class Workers:
    """Threads that are taken until their work is over, also when nobody waits for it any more.

    The lightest work is next, and heavy work leaves one thread free: who asks for little does not wait for those who
    ask for much. Work that finds no free thread is not handed to one: when it is given up, nothing of it is left.

    Args:
        count: of the threads, two or more.
        heavy: work of more weight is heavy.
    """

    def __init__(self, count: int, heavy: float) -> None:
        self._heavy = heavy
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="bodies")
        self._free, self._order = count, itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    async def run(self, weight: float, work: Callable[Given, Made], *args: Given.args, **kwargs: Given.kwargs) -> Made:
        """What the work returns, or raises."""
        loop = asyncio.get_running_loop()
        await self._thread(weight)
        made = self._threads.submit(work, *args, **kwargs)
        made.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(made)

    def close(self) -> None:
        """Wait for what is being worked on."""
        self._threads.shutdown()

    async def _thread(self, weight: float) -> None:
        if self._free > self._left_free(weight):
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (weight, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # given up just when it was given a thread
                self._release()
            raise

    def _release(self) -> None:
        self._free += 1
        while self._waiting and self._free > self._left_free(self._waiting[0][0]):
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                self._free -= 1

    def _left_free(self, weight: float) -> int:
        return 1 if weight > self._heavy else 0
