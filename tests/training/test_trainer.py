"""Checks before Horovod starts, the rows in the store and the reports to the driver, on real Spark."""

import itertools
import threading
import time
from dataclasses import replace
from multiprocessing import AuthenticationError
from pathlib import Path
from queue import Queue

import numpy as np
import pyarrow.parquet as pq
import pytest
from horovod.spark.common.store import Store
from pyspark.sql import DataFrame, SparkSession

from models.errors import TrainingError
from preprocessing.storage import Storage
from training import data_module
from training.cluster.hosts import check_slots
from training.cluster.reports import EpochReporter, ReceiverAddress, listening, receiving
from training.store import balanced, training_store, write_rows
from training.training_settings import Augmentation

ROWS = 50


def rows(spark: SparkSession) -> DataFrame:
    data = [(bytearray([i] * 4), float(i % 3), "validation" if i >= 40 else "train") for i in range(ROWS)]
    return spark.createDataFrame(data, "pixels binary, label_index double, split string")


def stored(table: DataFrame, storage: Storage, folder: Path, num_proc: int, train: int = 0) -> Store:
    sizes = {"train": train, "validation": 0}
    paths = write_rows(table, storage, folder.as_uri(), num_proc, sizes)
    return training_store(folder.as_uri(), paths)


def test_more_processes_than_task_slots_are_refused_at_once_with_both_numbers(spark: SparkSession) -> None:
    start = time.monotonic()
    with pytest.raises(TrainingError, match=r"--num-proc 3 needs 3 task slots .* has 2 free of 2"):
        check_slots(spark, 3)
    assert time.monotonic() - start < 30
    check_slots(spark, 2)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_ranks_read_all_rows_even_if_they_are_fewer_than_the_rows_were_written_for(
    spark: SparkSession, storage: Storage, tmp_path: Path, ranks: int
) -> None:
    store = stored(rows(spark), storage, tmp_path, 3)
    row_ids, shard_sizes = [], []
    for rank in range(ranks):
        module = data_module.data_module((2, 2, 1), 3, Augmentation())(
            train_dir=store.get_train_data_path(),
            val_dir=store.get_val_data_path(),
            train_batch_size=4,
            val_batch_size=4,
            cur_shard=rank,
            shard_count=ranks,
            random_seed=1,
        )
        # A batch of all rows of the shard is an epoch, in any order.
        with module._reader(module.train_dir, None) as reader:
            shard_size = sum(len(labels) for _, labels in data_module._chunks(reader))
        module.train_batch_size = shard_size
        for pixels, labels in module.train_data().take(2):
            np.testing.assert_array_equal(labels, np.eye(3)[pixels[:, 0] % 3])
            assert len(np.unique(pixels[:, 0])) == shard_size
        # The autotune thread would delay the end of a process.
        assert not any(data.options().autotune.enabled for data in (module.train_data(), module.val_data()))
        shard_sizes.append(shard_size)
        row_ids += pixels[:, 0].numpy().tolist()
        validation = next(iter(module.val_data()))[0]
        assert np.isin(validation[:, 0], range(40, 50)).all()
    assert sorted(row_ids) == list(range(40))
    assert max(shard_sizes) - min(shard_sizes) <= 12


def test_a_stream_shuffles_its_rows_and_repeats_all_of_them(
    spark: SparkSession, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "MEMORY_BYTES", 40)  # ten rows
    store = stored(rows(spark), storage, tmp_path, 2)
    module = data_module.data_module((2, 2, 1), 3, Augmentation())(
        train_dir=store.get_train_data_path(),
        val_dir=store.get_val_data_path(),
        train_batch_size=8,
        val_batch_size=4,
        cur_shard=0,
        shard_count=1,
        random_seed=1,
    )
    row_ids = [int(pixel) for pixels, _ in module.train_data().take(25) for pixel in pixels[:, 0]]
    assert {row: row_ids.count(row) for row in range(40)} == pytest.approx(dict.fromkeys(range(40), 5), abs=2)
    assert row_ids[:40] != row_ids[40:80]
    validation = [pixels[:, 0].numpy().tolist() for pixels, _ in module.val_data().take(6)]
    assert validation[:3] == validation[3:]
    assert sorted(itertools.chain(*validation[:3])) == list(range(40, 50))


def test_smaller_sources_are_repeated_until_all_have_equally_many_rows(spark: SparkSession) -> None:
    data = [(f"{i}", "large" if i < 300 else "small", "train" if i % 10 else "test") for i in range(400)]
    table = spark.createDataFrame(data, "id string, source string, split string")
    groups = balanced(table, {"large": 270, "small": 90}).groupBy("source", "split").count().collect()
    counts = {(row["source"], row["split"]): row["count"] for row in groups}
    assert counts == {
        ("large", "train"): 270, ("small", "train"): 270, ("large", "test"): 30, ("small", "test"): 10,
    }  # fmt: skip
    uneven = balanced(table, {"large": 270, "small": 180}).groupBy("source", "split").count().collect()
    count = next(row["count"] for row in uneven if (row["source"], row["split"]) == ("small", "train"))
    assert count == pytest.approx(90 * 1.5, rel=0.15)


def test_a_stored_row_is_little_larger_than_its_pixels(spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = [(bytearray(rng.bytes(784)), 1.0, "train") for _ in range(12_000)]
    table = spark.createDataFrame(data, "pixels binary, label_index double, split string")
    store = stored(table, storage, tmp_path, 2)
    stored_bytes = sum(file.stat().st_size for file in Path(store.get_train_data_path()[7:]).glob("*.parquet"))
    assert stored_bytes / 12_000 < 800


def test_large_data_is_written_in_part_files_of_one_row_group_equally_many_per_process(
    spark: SparkSession, storage: Storage, tmp_path: Path
) -> None:
    store = stored(rows(spark), storage, tmp_path, 2, 130 * 1024 * 1024)
    files = list(Path(store.get_train_data_path()[7:]).glob("*.parquet"))
    assert len(files) == 18  # the forty rows are in two partitions of twenty
    assert all(pq.ParquetFile(file).num_row_groups == 1 for file in files)


def test_existing_rows_are_not_written_again(spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
    def files() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}

    stored(rows(spark), storage, tmp_path, 2)
    previous_files = files()
    stored(rows(spark), storage, tmp_path, 2)
    assert files() == previous_files
    # A job that was killed while it wrote them leaves no _SUCCESS.
    (tmp_path / "train/_SUCCESS").unlink()
    stored(rows(spark), storage, tmp_path, 2)
    assert {name for name in files() if "/train/" in name}.isdisjoint(previous_files)
    assert {name for name in files() if "/validation/" in name} <= set(previous_files)


def test_the_driver_receives_an_epoch_while_the_process_is_running_and_the_process_does_not_wait_for_it(
    spark: SparkSession,
) -> None:
    messages: Queue[dict] = Queue()
    handled = threading.Event()

    def on_message(message: dict) -> None:
        messages.put(message)
        assert handled.wait(30)

    with listening(spark, on_message) as address:
        reporter = EpochReporter(address)
        for epoch in (1, 2):
            reporter.report({"epoch": epoch})
        assert messages.get(timeout=30) == {"epoch": 1}
        assert messages.empty()
        handled.set()
    assert messages.get_nowait() == {"epoch": 2}
    reporter.report({"epoch": 3})  # ignored
    assert messages.empty()


def test_a_client_without_the_key_is_rejected(spark: SparkSession) -> None:
    with receiving(spark, None) as address, pytest.raises(AuthenticationError):
        replace(address, key=b"wrong").connect()


def test_training_continues_if_the_driver_cannot_be_reached(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = EpochReporter(ReceiverAddress("127.0.0.1", 9, b"key", 0))
    reporter.report({"epoch": 1})
    assert "cannot report epochs to the driver" in capsys.readouterr().err
