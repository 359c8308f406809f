"""Requests that come at once become one batch."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

Asked = tuple[np.ndarray, "asyncio.Future[np.ndarray]"]


class Batcher:
    """Hands pictures to a model, from one thread, in batches of what has come while it was busy.

    Nobody waits for a batch to fill: who comes alone is answered at once.

    Args:
        predict: gives an answer for each row of pixels.
        size: rows of a batch at most; a request with more has several, and those left are dropped when it is given up.
    """

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], size: int = 64) -> None:
        self._predict, self._size = predict, size
        self._waiting: deque[Asked] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batcher":
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown()

    async def predict(self, pixels: np.ndarray) -> np.ndarray:
        """The answers for ``(n, pixels)``, in their order."""
        loop = asyncio.get_running_loop()
        parts = [pixels[start : start + self._size] for start in range(0, len(pixels), self._size)]
        answers: list[asyncio.Future[np.ndarray]] = [loop.create_future() for _ in parts]
        self._waiting.extend(zip(parts, answers, strict=True))
        self._arrived.set()
        return np.concatenate(await asyncio.gather(*answers))

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                continue
            pixels = np.concatenate([pixels for pixels, _ in batch])
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, pixels)
            except Exception as error:  # theirs alone: others go on
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            start = 0
            for asked, answer in batch:
                if not answer.done():
                    answer.set_result(answers[start : start + len(asked)])
                start += len(asked)

    def _take(self) -> list[Asked]:
        """The next batch, without those who have gone."""
        batch: list[Asked] = []
        rows = 0
        while self._waiting and (not batch or rows + len(self._waiting[0][0]) <= self._size):
            asked = self._waiting.popleft()
            if not asked[1].done():
                batch.append(asked)
                rows += len(asked[0])
        if not self._waiting:
            self._arrived.clear()
        return batch
