"""Work in a few threads."""

import asyncio
import threading

import pytest

from serving.workers import Workers


def test_a_thread_stays_taken_until_its_work_is_over_and_nothing_waits_behind_it() -> None:
    begun: list[str] = []
    go_on = threading.Event()

    def work(name: str) -> str:
        begun.append(name)
        go_on.wait(10)
        return name

    async def run() -> None:
        workers = Workers(1, 10)
        for name in ("slow", "given up while it waits"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(workers.run(1, work, name), 0.1)
        last = asyncio.create_task(workers.run(1, work, "last"))
        await asyncio.sleep(0.1)
        assert begun == ["slow"]
        go_on.set()
        assert await last == "last"
        workers.close()

    asyncio.run(run())
    assert begun == ["slow", "last"]


def test_a_failure_is_that_of_its_work_and_its_thread_goes_on() -> None:
    async def run() -> None:
        workers = Workers(1, 10)
        with pytest.raises(ZeroDivisionError):
            await workers.run(1, lambda: 1 // 0)
        assert await workers.run(1, lambda: 1) == 1
        workers.close()

    asyncio.run(run())


def test_the_lightest_work_is_next() -> None:
    begun: list[int] = []

    async def run() -> None:
        workers = Workers(1, 10)
        go_on = threading.Event()
        first = asyncio.create_task(workers.run(9, go_on.wait, 10))
        others = [asyncio.create_task(workers.run(weight, begun.append, weight)) for weight in (3, 1, 2, 1)]
        await asyncio.sleep(0.05)
        others[2].cancel()
        go_on.set()
        await asyncio.gather(first, *others, return_exceptions=True)
        workers.close()

    asyncio.run(run())
    assert begun == [1, 1, 3]


def test_heavy_work_leaves_a_thread_free() -> None:
    async def run() -> None:
        workers = Workers(2, 10)
        go_on = threading.Event()
        heavy = [asyncio.create_task(workers.run(11, go_on.wait, 10)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(workers.run(10, lambda: "light"), 5) == "light"
        go_on.set()
        assert await asyncio.gather(*heavy) == [True, True]
        workers.close()

    asyncio.run(run())
