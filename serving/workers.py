"""Work in a few threads, whatever is given up."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")


class Workers:
    """Threads that are taken until their work is over, also when nobody waits for it any more.

    Work that finds no free thread is not handed to one: when it is given up, nothing of it is left.

    Args:
        count: of the threads.
    """

    def __init__(self, count: int) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="bodies")
        self._free = asyncio.Semaphore(count)

    async def run(self, work: Callable[Given, Made], *args: Given.args, **kwargs: Given.kwargs) -> Made:
        """What the work returns, or raises."""
        loop = asyncio.get_running_loop()
        await self._free.acquire()
        made = self._threads.submit(work, *args, **kwargs)
        made.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free.release))
        return await asyncio.wrap_future(made)

    def close(self) -> None:
        """Wait for what is being worked on."""
        self._threads.shutdown()
