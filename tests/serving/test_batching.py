"""Concurrent requests become one batch."""

import asyncio
import threading

import numpy as np
import pytest

from serving.batching import Batcher


def test_requests_that_arrive_while_the_model_is_busy_become_one_batch() -> None:
    sizes: list[int] = []
    finish = threading.Event()

    def predict(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        finish.wait(10)
        return pixels * 2

    async def send_requests() -> list[np.ndarray]:
        async with Batcher(predict, size=8) as batcher:
            first = asyncio.create_task(batcher.predict(np.array([[0]])))
            while not sizes:
                await asyncio.sleep(0.01)
            later = [asyncio.create_task(batcher.predict(np.array([[i], [i + 100]]))) for i in range(1, 6)]
            await asyncio.sleep(0.05)
            finish.set()
            return await asyncio.gather(first, *later)

    answers = asyncio.run(send_requests())
    assert sizes == [1, 8, 2]
    assert [answer.ravel().tolist() for answer in answers] == [[0], *([2 * i, 2 * i + 200] for i in range(1, 6))]


def test_a_failure_affects_only_its_batch_and_a_canceled_request_is_not_predicted() -> None:
    predicted: list[int] = []

    def predict(pixels: np.ndarray) -> np.ndarray:
        predicted.extend(pixels.ravel().tolist())
        if 13 in pixels:
            raise ValueError("thirteen")
        return pixels

    async def send_requests() -> None:
        async with Batcher(predict, size=1) as batcher:
            with pytest.raises(ValueError, match="thirteen"):
                await batcher.predict(np.array([[13]]))
            tasks = [asyncio.create_task(batcher.predict(np.array([[i]]))) for i in (1, 2, 3)]
            await asyncio.sleep(0)
            tasks[2].cancel()
            assert [(await task).tolist() for task in tasks[:2]] == [[[1]], [[2]]]

    asyncio.run(send_requests())
    assert predicted == [13, 1, 2]
