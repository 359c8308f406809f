"""Prediction with finished runs, as a user does it: in one batch, as a stream, and with exported networks."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.runs import RunError
from models.onnx_network import read_onnx
from preprocessing.errors import InputError
from tests.conftest import BRIEF, ROOT, RunJob, as_on_terminal, submit
from tests.pictures import write_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module", params=["cnn", "forest"])
def run(request: pytest.FixtureRequest, folder: Path, sample: Path, run_job: RunJob) -> str:
    job, options = {
        "cnn": ("train_cnn", ("--config", ROOT / "conf/sample.yaml", "--training.epochs", 2)),
        "forest": ("train_random_forest", ("--forest.trees", 3, "--forest.max-depth", 4)),
    }[request.param]
    run_job(job, *options, "--data", sample, "--run", f"runs/{request.param}", cwd=folder)
    return f"runs/{request.param}"


Predict = Callable[..., tuple[pd.DataFrame, dict, str]]


@pytest.fixture(scope="module")
def predict(folder: Path, run_job: RunJob) -> Predict:
    """Run ``jobs/predict.py``; return its predictions by id, its metrics, and its output."""

    def predict(run: str, path: object, *options: object) -> tuple[pd.DataFrame, dict, str]:
        output = run_job("predict", run, path, "--output", "answers", "--overwrite", *options, cwd=folder)
        metrics = json.loads((folder / "answers/metrics.json").read_text())
        return pd.read_parquet(folder / "answers/predictions").set_index("id").sort_index(), metrics, output

    return predict


@pytest.fixture(scope="module")
def labeled(run: str, predict: Predict, sample: Path) -> pd.DataFrame:
    """The predictions of the run for the sample's test file."""
    return predict(run, sample / "sign_mnist_test.csv")[0]


def test_the_test_file_gives_the_runs_own_test_accuracy(folder: Path, run: str, predict: Predict, sample: Path) -> None:
    answers, metrics, output = predict(run, sample / "sign_mnist_test.csv", "--num-examples", 5)
    expected = json.loads((folder / run / "metrics.json").read_text())["test"]
    assert metrics["accuracy"] == expected["accuracy"]
    assert metrics["confusion"] == expected["confusion"]
    assert len(answers) == metrics["rows"] == 480
    assert sorted(answers.index)[:2] == ["sign_mnist_test.csv:10", "sign_mnist_test.csv:100"]
    assert f"accuracy {expected['accuracy']:.4f}" in output
    for row in answers.itertuples():
        next_probabilities = [runner_up["probability"] for runner_up in row.next]
        assert len(next_probabilities) == 4
        assert row.probability >= next_probabilities[0] >= next_probabilities[3]
        assert row.letter not in [runner_up["letter"] for runner_up in row.next]
    assert Image.open(folder / "answers/predictions.png").width > 500


def test_rows_without_labels_get_the_same_predictions_and_invalid_rows_get_a_reason(
    folder: Path, run: str, predict: Predict, labeled: pd.DataFrame, sample: Path
) -> None:
    lines = (sample / "sign_mnist_test.csv").read_text().splitlines()
    unlabeled = [line.split(",", 1)[1] for line in lines]
    unlabeled[3] = unlabeled[3].rsplit(",", 1)[0]
    unlabeled[5] = "256" + unlabeled[5][unlabeled[5].index(",") :]
    (folder / "unlabeled.csv").write_text("\n".join(unlabeled) + "\n")
    answers, metrics, _ = predict(run, "unlabeled.csv")
    assert (metrics["rows"], metrics["rejected"], metrics["unlabeled"], metrics["labeled"]) == (480, 2, 478, 0)
    assert "accuracy" not in metrics
    assert answers.loc["unlabeled.csv:4", "detail"] == "783, 784 expected"
    assert answers.loc["unlabeled.csv:6", "reason"] == "pixel out of range"
    valid = answers[answers["reason"].isna()]
    expected = labeled.rename(lambda name: name.replace("sign_mnist_test", "unlabeled")).loc[valid.index]
    assert valid["letter"].tolist() == expected["letter"].tolist()
    np.testing.assert_allclose(valid["probability"], expected["probability"], rtol=1e-5)


@pytest.mark.parametrize("run", ["cnn"], indirect=True)
def test_a_run_is_evaluated_on_several_sets_of_labeled_pictures(
    folder: Path, run: str, sample: Path, run_job: RunJob
) -> None:
    write_pictures(folder / "own", "BL", 6, side=28)
    test = sample / "sign_mnist_test.csv"
    output = run_job("evaluate", run, test, "own", "--output", "evaluation", "--overwrite", cwd=folder)
    results = json.loads((folder / "evaluation/metrics.json").read_text())
    own = json.loads((folder / run / "metrics.json").read_text())["test"]
    assert {name: one["labeled"] for name, one in results["sets"].items()} == {"sign_mnist_test.csv": 480, "own": 12}
    assert results["sets"]["sign_mnist_test.csv"]["accuracy"] == pytest.approx(own["accuracy"])
    assert f"{own['accuracy']:.4f}" in output
    report = (folder / "evaluation/report.html").read_text()
    assert "most often missed" in report
    with_mistakes = [one for one in results["sets"].values() if one["accuracy"] < 1]
    assert report.count("data:image/png;base64,") == 1 + len(with_mistakes)
    write_pictures(folder / "unlabeled", "B", 1, name="picture.png", side=28)
    with pytest.raises(InputError, match="no picture has a label"):
        run_job("evaluate", run, "unlabeled", "--output", "rejected", cwd=folder)
    assert not (folder / "rejected").exists()


@pytest.mark.parametrize("run", ["cnn"], indirect=True)
def test_pictures_in_folders_get_one_row_each(
    folder: Path, run: str, predict: Predict, labeled: pd.DataFrame, sample: Path
) -> None:
    lines = (sample / "sign_mnist_test.csv").read_text().splitlines()[1:7]
    pictures = folder / "pictures"
    for number, line in enumerate(lines):
        label, *pixels = (int(field) for field in line.split(","))
        class_folder = pictures / ("unsorted" if number == 0 else chr(65 + label))
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(pixels, dtype=np.uint8).reshape(28, 28)).save(class_folder / f"{number}.png")
    (pictures / "unsorted/notes.txt").write_text("no picture")
    (pictures / "unsorted/empty.png").touch()
    answers, metrics, _ = predict(run, "pictures")
    assert (metrics["rows"], metrics["rejected"], metrics["unlabeled"], metrics["labeled"]) == (8, 2, 1, 5)
    assert answers.loc["unsorted/notes.txt", "reason"] == "not a picture"
    assert answers.loc["unsorted/empty.png", "reason"] == "empty file"
    by_number = answers[answers["reason"].isna()].sort_index(key=lambda names: names.str.rsplit("/").str[-1])
    expected = labeled.loc[[f"sign_mnist_test.csv:{number + 2}" for number in range(6)]]
    assert by_number["letter"].tolist() == expected["letter"].tolist()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing", "pictures"], "nothing: no such run directory"),
        (["RUN", "nothing"], "no such file or folder"),
        (["RUN", "empty"], "the folder is empty"),
        (["RUN", "other.csv"], "with or without the label"),
    ],
)
@pytest.mark.parametrize("run", ["cnn"], indirect=True)
def test_invalid_input_is_an_error(
    folder: Path, run: str, run_job: RunJob, arguments: list[str], expected: str
) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "other.csv").write_text("a,b\n1,2\n")
    arguments = [run if argument == "RUN" else argument for argument in arguments]
    with pytest.raises((InputError, RunError), match=expected):
        run_job("predict", *arguments, "--output", "other", cwd=folder)
    assert not (folder / "other").exists()


@pytest.mark.parametrize("run", ["cnn"], indirect=True)
def test_each_picture_that_lands_is_predicted_once_even_if_the_job_is_killed(
    folder: Path, run: str, labeled: pd.DataFrame, sample: Path, run_job: RunJob
) -> None:
    inbox, outbox = folder / "inbox", folder / "outbox"
    inbox.mkdir()
    lines = (sample / "sign_mnist_test.csv").read_text().splitlines()[1:]
    pictures = [np.array(line.split(",")[1:], dtype=np.uint8).reshape(28, 28) for line in lines[:250]]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(inbox / f"{number:03}.png")
    complete = (inbox / "000.png").read_bytes()
    (inbox / "cut off.png").write_bytes(complete[: len(complete) // 2])
    os.utime(inbox / "cut off.png", (time.time() - 3600,) * 2)  # it has not been written to for an hour
    (inbox / "half.png").write_bytes(complete[: len(complete) // 2])
    command = [ROOT / ".venv/bin/spark-submit", ROOT / "jobs/stream.py", run, "inbox", "outbox"]
    with subprocess.Popen(
        command, cwd=folder, env=os.environ | BRIEF, text=True, stdout=subprocess.PIPE, start_new_session=True
    ) as job:
        assert job.stdout is not None
        while not as_on_terminal(job.stdout.readline()).startswith("batch"):
            assert job.poll() is None
        with pytest.raises(InputError, match="outbox: another job runs it"):
            run_job("stream", run, "inbox", "outbox", cwd=folder)
        os.killpg(job.pid, signal.SIGKILL)
    (inbox / "half.png").write_bytes(complete)
    run_job("stream", run, "inbox", "outbox", "--once", cwd=folder)
    answers = pd.read_parquet(outbox / "predictions")
    assert sorted(answers["id"]) == [*(f"{number:03}.png" for number in range(250)), "half.png"]
    expected = labeled.loc[[f"sign_mnist_test.csv:{number + 2}" for number in range(250)], "letter"].tolist()
    assert answers.set_index("id").sort_index()["letter"].tolist()[:250] == expected
    assert json.loads((outbox / "quarantine/cut off.png.json").read_text())["reason"] == "truncated picture"
    assert (outbox / "quarantine/cut off.png").exists()


@pytest.mark.parametrize("run", ["cnn"], indirect=True)
@pytest.mark.parametrize(
    ("inbox", "outbox", "expected"),
    [
        ("nothing", "out", "no such folder"),
        ("a file", "out", "a file; pictures land in a folder"),
        ("empty", "empty/out", "lies within the inbox"),
    ],
)
def test_invalid_folders_of_a_stream_are_an_error(
    folder: Path, run: str, run_job: RunJob, inbox: str, outbox: str, expected: str
) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    (folder / "a file").touch()
    with pytest.raises(InputError, match=expected):
        run_job("stream", run, inbox, outbox, cwd=folder)
    assert not (folder / outbox).exists()


@pytest.mark.parametrize("run", ["cnn"], indirect=True)
def test_an_outbox_that_cannot_be_written_ends_the_stream_with_one_message(folder: Path, run: str) -> None:
    for name in ("full/inbox", "full/outbox"):
        (folder / name).mkdir(parents=True)
    Image.new("L", (28, 28)).save(folder / "full/inbox/a.png")
    (folder / "full/outbox/predictions").write_text("a file instead of a folder")
    job = submit("jobs/stream.py", run, "full/inbox", "full/outbox", "--once", cwd=folder)
    assert job.returncode == 1
    message = job.stdout.splitlines()[-1]
    assert message.startswith("error: ")
    assert "predictions" in message
    assert not any(line.startswith(("Traceback", "\tat ")) for line in job.stdout.splitlines())


@pytest.mark.parametrize("run", ["cnn"], indirect=True)
def test_an_exported_network_gives_the_same_predictions_as_the_run(folder: Path, run: str, run_job: RunJob) -> None:
    output = run_job("export", run, "--format", "onnx", "--output", "onnx", cwd=folder)
    assert "256 of its test pictures, 0 with another letter" in output
    assert json.loads((folder / "onnx/preprocessing.json").read_text())["size"] == 28
    assert json.loads((folder / "onnx/class_names.json").read_text())[0] == "A"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 784), dtype=np.uint8)
    probabilities = read_onnx((folder / "onnx/model.onnx").read_bytes())(pixels)
    network = keras.models.load_model(folder / run / "model.keras", compile=False)
    np.testing.assert_allclose(probabilities, network(pixels).numpy(), atol=1e-5)


@pytest.mark.parametrize("run", ["forest"], indirect=True)
def test_an_image_table_in_parquet_is_predicted_and_its_invalid_rows_get_a_reason(
    folder: Path, run: str, predict: Predict, labeled: pd.DataFrame, sample: Path, run_job: RunJob
) -> None:
    lines = (sample / "sign_mnist_test.csv").read_text().splitlines()[1:]
    rows = [np.array(line.split(",")[1:], dtype=np.uint8).tobytes() for line in lines[:50]]
    names = [f"row {number}" for number in range(50)]
    table = pd.DataFrame({"id": names, "pixels": rows, "height": 28, "width": 28, "channels": 1})
    table.loc[7, "width"] = 27
    table.to_parquet(folder / "table.parquet")
    answers, metrics, _ = predict(run, "table.parquet")
    assert (metrics["rows"], metrics["rejected"]) == (50, 1)
    rejection = answers.loc["row 7", ["reason", "detail"]].tolist()
    assert rejection == ["wrong number of pixels", "784 bytes for 28 x 27 x 1"]
    for number in (0, 49):
        assert answers.loc[f"row {number}", "letter"] == labeled.loc[f"sign_mnist_test.csv:{number + 2}", "letter"]
    table.drop(columns="height").to_parquet(folder / "table.parquet")
    with pytest.raises(InputError, match="has no column height"):
        run_job("predict", run, "table.parquet", "--output", "none", cwd=folder)
