"""Tasks in a few threads."""

import asyncio
import threading

import pytest

from serving.workers import Workers


def test_a_thread_stays_taken_until_its_task_has_finished_and_canceled_tasks_do_not_run() -> None:
    started: list[str] = []
    finish = threading.Event()

    def task(name: str) -> str:
        started.append(name)
        finish.wait(10)
        return name

    async def run() -> None:
        workers = Workers(1, 10)
        for name in ("slow", "canceled while it waits"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(workers.run(1, task, name), 0.1)
        last = asyncio.create_task(workers.run(1, task, "last"))
        await asyncio.sleep(0.1)
        assert started == ["slow"]
        finish.set()
        assert await last == "last"
        workers.close()

    asyncio.run(run())
    assert started == ["slow", "last"]


def test_an_exception_reaches_the_caller_and_the_thread_goes_on() -> None:
    async def run() -> None:
        workers = Workers(1, 10)
        with pytest.raises(ZeroDivisionError):
            await workers.run(1, lambda: 1 // 0)
        assert await workers.run(1, lambda: 1) == 1
        workers.close()

    asyncio.run(run())


def test_the_cheapest_task_is_next() -> None:
    started: list[int] = []

    async def run() -> None:
        workers = Workers(1, 10)
        finish = threading.Event()
        first = asyncio.create_task(workers.run(9, finish.wait, 10))
        waiting = [asyncio.create_task(workers.run(cost, started.append, cost)) for cost in (3, 1, 2, 1)]
        await asyncio.sleep(0.05)
        waiting[2].cancel()
        finish.set()
        await asyncio.gather(first, *waiting, return_exceptions=True)
        workers.close()

    asyncio.run(run())
    assert started == [1, 1, 3]


def test_costly_tasks_leave_a_thread_free() -> None:
    async def run() -> None:
        workers = Workers(2, 10)
        finish = threading.Event()
        costly = [asyncio.create_task(workers.run(11, finish.wait, 10)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(workers.run(10, lambda: "cheap"), 5) == "cheap"
        finish.set()
        assert await asyncio.gather(*costly) == [True, True]
        workers.close()

    asyncio.run(run())
