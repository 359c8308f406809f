"""The folders of a job's sources, and its temporary files."""

from pathlib import Path

import pytest

from experiments.configuration import Experiment
from experiments.data import open_sources
from preprocessing.errors import InputError
from preprocessing.storage import Storage


def test_temporary_files_are_deleted_at_the_end(storage: Storage, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with open_sources(storage, Experiment(store=store), store) as sources:
        assert [source.title for source in sources.folders] == ["synthetic sample"]
        assert (tmp_path / "store").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_written_is_rejected(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = str(tmp_path / "file/store")
    experiment = Experiment(data=str(tmp_path), store=store)
    with pytest.raises(InputError, match=r"--store .* cannot be written"), open_sources(storage, experiment, store):
        pass
