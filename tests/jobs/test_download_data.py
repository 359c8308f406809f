from pathlib import Path

import kagglehub
import pytest

from jobs import download_data


def test_the_two_files_are_downloaded_and_a_second_call_leaves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle = tmp_path / "kaggle"
    (kaggle / "sign_mnist_train").mkdir(parents=True)
    (kaggle / "sign_mnist_train/sign_mnist_train.csv").write_text("train")
    (kaggle / "sign_mnist_test.csv").write_text("test")
    monkeypatch.setattr(kagglehub, "dataset_download", lambda name: str(kaggle))
    monkeypatch.chdir(tmp_path)
    download_data.main()
    assert {path.name: path.read_text() for path in (tmp_path / "data/sign_mnist").iterdir()} == {
        "sign_mnist_train.csv": "train",
        "sign_mnist_test.csv": "test",
    }
    monkeypatch.setattr(kagglehub, "dataset_download", lambda name: pytest.fail("downloaded again"))
    download_data.main()
    assert "there already" in capsys.readouterr().out


def test_without_a_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(kagglehub, "dataset_download", unreachable)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"Kaggle cannot be reached.*download the two CSV files"):
        download_data.main()
    assert list(tmp_path.iterdir()) == []
