"""What can be known before Horovod starts, and the parts of its data path, on real Spark."""

import itertools
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from horovod.spark.common.store import Store
from pyspark.sql import DataFrame, SparkSession

from models import data_module
from models.cluster import check_slots
from models.errors import TrainingError
from models.progress import Message, Teller, epoch_listener
from models.settings import Augmentation
from models.store import balanced, training_store, write_rows
from preprocessing.storage import Storage

ROWS = 50


def rows(spark: SparkSession) -> DataFrame:
    data = [(bytearray([i] * 4), float(i % 3), "validation" if i >= 40 else "train") for i in range(ROWS)]
    return spark.createDataFrame(data, "pixels binary, label_index double, split string")


def stored(table: DataFrame, storage: Storage, folder: Path, num_proc: int, train: int = 0) -> Store:
    sizes = {"train": train, "validation": 0}
    paths = write_rows(table, storage, folder.as_uri(), num_proc, sizes)
    return training_store(folder.as_uri(), paths)


def test_more_processes_than_task_slots_are_refused_at_once_with_both_numbers(spark: SparkSession) -> None:
    begin = time.monotonic()
    with pytest.raises(TrainingError, match=r"--num-proc 3 needs 3 task slots .* has 2 free of 2"):
        check_slots(spark, 3)
    assert time.monotonic() - begin < 30
    check_slots(spark, 2)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_ranks_share_all_rows_also_when_there_are_fewer_than_at_first(
    spark: SparkSession, storage: Storage, tmp_path: Path, ranks: int
) -> None:
    store = stored(rows(spark), storage, tmp_path, 3)
    seen, shares = [], []
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
        # a batch of all there is: an epoch, in whatever order
        with module._reader(module.train_dir, None) as reader:
            whole = sum(len(labels) for _, labels in data_module._chunks(reader))
        module.train_batch_size = whole
        for pixels, labels in module.train_data().take(2):
            np.testing.assert_array_equal(labels, np.eye(3)[pixels[:, 0] % 3])
            assert len(np.unique(pixels[:, 0])) == whole
        # the thread that would tune them keeps a process waiting at its end
        assert not any(data.options().autotune.enabled for data in (module.train_data(), module.val_data()))
        shares.append(whole)
        seen += pixels[:, 0].numpy().tolist()
        validation = next(iter(module.val_data()))[0]
        assert np.isin(validation[:, 0], range(40, 50)).all()
    assert sorted(seen) == list(range(40))
    assert max(shares) - min(shares) <= 12


def test_a_stream_mixes_its_rows_and_reads_all_of_them_again_and_again(
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
    seen = [int(pixel) for pixels, _ in module.train_data().take(25) for pixel in pixels[:, 0]]
    assert {row: seen.count(row) for row in range(40)} == pytest.approx(dict.fromkeys(range(40), 5), abs=2)
    assert seen[:40] != seen[40:80]
    validation = [pixels[:, 0].numpy().tolist() for pixels, _ in module.val_data().take(6)]
    assert validation[:3] == validation[3:]
    assert sorted(itertools.chain(*validation[:3])) == list(range(40, 50))


def test_smaller_sources_are_repeated_until_all_have_equal_shares(spark: SparkSession) -> None:
    data = [(f"{i}", "large" if i < 300 else "small", "train" if i % 10 else "test") for i in range(400)]
    table = spark.createDataFrame(data, "id string, source string, split string")
    found = balanced(table, {"large": 270, "small": 90}).groupBy("source", "split").count().collect()
    counts = {(row["source"], row["split"]): row["count"] for row in found}
    assert counts == {
        ("large", "train"): 270, ("small", "train"): 270, ("large", "test"): 30, ("small", "test"): 10,
    }  # fmt: skip
    uneven = balanced(table, {"large": 270, "small": 180}).groupBy("source", "split").count().collect()
    times = next(row["count"] for row in uneven if (row["source"], row["split"]) == ("small", "train"))
    assert times == pytest.approx(90 * 1.5, rel=0.15)


def test_a_stored_row_costs_little_more_than_its_pixels(spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = [(bytearray(rng.bytes(784)), 1.0, "train") for _ in range(12_000)]
    table = spark.createDataFrame(data, "pixels binary, label_index double, split string")
    store = stored(table, storage, tmp_path, 2)
    written = sum(file.stat().st_size for file in Path(store.get_train_data_path()[7:]).glob("*.parquet"))
    assert written / 12_000 < 800


def test_many_bytes_are_written_in_pieces_of_one_row_group_as_many_for_each_process(
    spark: SparkSession, storage: Storage, tmp_path: Path
) -> None:
    store = stored(rows(spark), storage, tmp_path, 2, 130 * 1024 * 1024)
    files = list(Path(store.get_train_data_path()[7:]).glob("*.parquet"))
    assert len(files) == 18  # the forty rows lie in two partitions of twenty
    assert all(pq.ParquetFile(file).num_row_groups == 1 for file in files)


def test_rows_that_are_there_already_are_not_written_again(
    spark: SparkSession, storage: Storage, tmp_path: Path
) -> None:
    def files() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}

    stored(rows(spark), storage, tmp_path, 2)
    before = files()
    stored(rows(spark), storage, tmp_path, 2)
    assert files() == before
    # a job killed while it wrote them
    (tmp_path / "train/_SUCCESS").unlink()
    stored(rows(spark), storage, tmp_path, 2)
    assert {name for name in files() if "/train/" in name}.isdisjoint(before)
    assert {name for name in files() if "/validation/" in name} <= set(before)


def test_the_driver_hears_of_an_epoch_while_the_process_goes_on(spark: SparkSession) -> None:
    heard: list[Message] = []
    with epoch_listener(spark, heard.append) as address:
        teller = Teller(address)
        teller.tell({"epoch": 1, "loss": 0.5})
        deadline = time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            time.sleep(0.05)
        assert heard == [{"epoch": 1, "loss": 0.5}]


def test_a_driver_that_cannot_be_reached_costs_no_training(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller(("127.0.0.1", 9, b"key"))
    teller.tell({"epoch": 1})
    assert "cannot be told" in capsys.readouterr().out
