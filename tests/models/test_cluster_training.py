"""What can be known before Horovod starts, and the parts of its data path, on real Spark."""

import time
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from models.cluster import check_slots
from models.data_module import data_module
from models.errors import TrainingError
from models.progress import Message, Teller, epoch_listener
from models.settings import Augmentation
from models.store import training_store
from preprocessing.storage import Storage

ROWS = 50


def rows(spark: SparkSession) -> object:
    data = [(bytearray([i] * 4), float(i % 3), "validation" if i >= 40 else "train") for i in range(ROWS)]
    return spark.createDataFrame(data, "pixels binary, label_index double, split string")


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
    store = training_store(rows(spark), storage, tmp_path.as_uri(), 3)
    seen, shares = [], []
    for rank in range(ranks):
        module = data_module((2, 2, 1), 3, Augmentation())(
            train_dir=store.get_train_data_path(),
            val_dir=store.get_val_data_path(),
            train_batch_size=4,
            val_batch_size=4,
            cur_shard=rank,
            shard_count=ranks,
            random_seed=1,
        )
        # a batch of all there is: an epoch, in whatever order
        whole = len(module._read_shard(module.train_dir)[1])
        module.train_batch_size = whole
        for pixels, labels in module.train_data().take(2):
            np.testing.assert_array_equal(labels, np.eye(3)[pixels[:, 0] % 3])
            assert len(np.unique(pixels[:, 0])) == whole
        shares.append(whole)
        seen += pixels[:, 0].numpy().tolist()
        validation = next(iter(module.val_data()))[0]
        assert np.isin(validation[:, 0], range(40, 50)).all()
    assert sorted(seen) == list(range(40))
    assert max(shares) - min(shares) <= 12


def test_a_stored_row_costs_little_more_than_its_pixels(spark: SparkSession, storage: Storage, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = [(bytearray(rng.bytes(784)), 1.0, "train") for _ in range(12_000)]
    table = spark.createDataFrame(data, "pixels binary, label_index double, split string")
    store = training_store(table, storage, tmp_path.as_uri(), 2)
    written = sum(file.stat().st_size for file in Path(store.get_train_data_path()[7:]).glob("*.parquet"))
    assert written / 12_000 < 800


def test_rows_that_are_there_already_are_not_written_again(
    spark: SparkSession, storage: Storage, tmp_path: Path
) -> None:
    def files() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in tmp_path.rglob("*.parquet")}

    training_store(rows(spark), storage, tmp_path.as_uri(), 2)
    before = files()
    training_store(rows(spark), storage, tmp_path.as_uri(), 2)
    assert files() == before
    # a job killed while it wrote them
    (tmp_path / "train/_SUCCESS").unlink()
    training_store(rows(spark), storage, tmp_path.as_uri(), 2)
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
