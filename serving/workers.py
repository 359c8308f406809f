"""A small thread pool that runs the cheapest task first."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Params = ParamSpec("Params")
Result = TypeVar("Result")


class Workers:
    """Threads that stay taken until their task has finished, even if its caller no longer waits for it.

    The cheapest task runs next, and costly tasks leave one thread free, so that a small request does not wait for large
    ones. A task waits here until a thread is free: if it is canceled before, it never runs.

    Args:
        count: number of threads, two or more.
        costly_above: a task of a higher cost is costly.
    """

    def __init__(self, count: int, costly_above: float) -> None:
        self._costly_above = costly_above
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="bodies")
        self._free, self._order = count, itertools.count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    async def run(
        self, cost: float, task: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs
    ) -> Result:
        """Run a task in a thread and return its result, or raise its exception."""
        loop = asyncio.get_running_loop()
        await self._acquire(cost)
        future = self._threads.submit(task, *args, **kwargs)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Wait for the running tasks."""
        self._threads.shutdown()

    async def _acquire(self, cost: float) -> None:
        if self._free > self._reserved(cost):
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (cost, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # canceled just after it was given a thread
                self._release()
            raise

    def _release(self) -> None:
        self._free += 1
        while self._waiting and self._free > self._reserved(self._waiting[0][0]):
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                self._free -= 1

    def _reserved(self, cost: float) -> int:
        return 1 if cost > self._costly_above else 0
