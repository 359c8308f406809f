"""Requests at once become one batch."""

import asyncio
import threading

import numpy as np
import pytest

from serving.batching import Batcher


def test_who_comes_while_the_model_is_busy_is_answered_in_one_batch() -> None:
    sizes: list[int] = []
    go_on = threading.Event()

    def predict(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        go_on.wait(10)
        return pixels * 2

    async def ask() -> list[np.ndarray]:
        async with Batcher(predict, size=8) as batcher:
            first = asyncio.create_task(batcher.predict(np.array([[0]])))
            while not sizes:
                await asyncio.sleep(0.01)
            others = [asyncio.create_task(batcher.predict(np.array([[i], [i + 100]]))) for i in range(1, 6)]
            await asyncio.sleep(0.05)
            go_on.set()
            return await asyncio.gather(first, *others)

    answers = asyncio.run(ask())
    assert sizes == [1, 8, 2]
    assert [answer.ravel().tolist() for answer in answers] == [[0], *([2 * i, 2 * i + 200] for i in range(1, 6))]


def test_a_failure_is_that_of_its_batch_alone_and_who_has_gone_is_not_predicted() -> None:
    seen: list[int] = []

    def predict(pixels: np.ndarray) -> np.ndarray:
        seen.extend(pixels.ravel().tolist())
        if 13 in pixels:
            raise ValueError("thirteen")
        return pixels

    async def ask() -> None:
        async with Batcher(predict, size=1) as batcher:
            with pytest.raises(ValueError, match="thirteen"):
                await batcher.predict(np.array([[13]]))
            tasks = [asyncio.create_task(batcher.predict(np.array([[i]]))) for i in (1, 2, 3)]
            await asyncio.sleep(0)
            tasks[2].cancel()
            assert [(await task).tolist() for task in tasks[:2]] == [[[1]], [[2]]]

    asyncio.run(ask())
    assert seen == [13, 1, 2]
