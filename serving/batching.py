"""Batching of concurrent requests."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

PendingRows = tuple[np.ndarray, "asyncio.Future[np.ndarray]"]


class Batcher:
    """Passes pictures to a model, from a single thread, in batches of what arrived while the model was busy.

    It does not wait for a batch to fill: a request that arrives while the model is idle is predicted immediately.

    Args:
        predict: maps rows of pixels to one answer per row.
        size: maximum rows of a batch. A larger request is split; if it is canceled, its remaining rows are dropped.
    """

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray], size: int = 64) -> None:
        self._predict, self._size = predict, size
        self._pending: deque[PendingRows] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batcher":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown()

    async def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Answers for pixels of shape ``(n, pixels)``, in the order of the rows."""
        loop = asyncio.get_running_loop()
        parts = [pixels[start : start + self._size] for start in range(0, len(pixels), self._size)]
        answers: list[asyncio.Future[np.ndarray]] = [loop.create_future() for _ in parts]
        self._pending.extend(zip(parts, answers, strict=True))
        self._arrived.set()
        return np.concatenate(await asyncio.gather(*answers))

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if not batch:
                continue
            pixels = np.concatenate([rows for rows, _ in batch])
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, pixels)
            except Exception as error:  # it fails the requests of this batch only
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            start = 0
            for rows, answer in batch:
                if not answer.done():
                    answer.set_result(answers[start : start + len(rows)])
                start += len(rows)

    def _next_batch(self) -> list[PendingRows]:
        """Take the next batch from the queue, without canceled requests."""
        batch: list[PendingRows] = []
        count = 0
        while self._pending and (not batch or count + len(self._pending[0][0]) <= self._size):
            rows, answer = self._pending.popleft()
            if not answer.done():
                batch.append((rows, answer))
                count += len(rows)
        if not self._pending:
            self._arrived.clear()
        return batch
