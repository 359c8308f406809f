"""Jobs with data, store and runs in S3."""

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import requests
from PIL import Image

from preprocessing.errors import InputError
from tests.conftest import ROOT, Finished, RunJob
from tests.s3.conftest import BUCKET, Bucket
from tests.servers import free_port, served

FOLDER = f"s3a://{BUCKET}"
STORE = ["--store", f"{FOLDER}/store"]


@pytest.fixture(scope="module")
def cnn(bucket: Bucket, data: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("cnn")
    settings = ["--config", ROOT / "conf/sample.yaml", "--training.epochs", 6, "--training.batch_size", 30]
    finished = bucket.submit(
        "jobs/train_cnn.py", *settings, "--data", data, *STORE, "--run", f"{FOLDER}/runs/cnn", cwd=folder
    )
    assert list(folder.iterdir()) == []
    return finished


def test_a_network_is_trained_with_everything_in_the_bucket(cnn: Finished, bucket: Bucket) -> None:
    assert cnn.returncode == 0, cnn.stdout + cnn.stderr
    metrics = json.loads(bucket.read("runs/cnn/metrics.json"))
    assert metrics["test"]["accuracy"] > 0.5
    assert metrics["rows"] == {"train": 2160, "validation": 240, "test": 480, "rejected": 0}


def test_nothing_but_the_features_is_left_in_the_store(cnn: Finished, bucket: Bucket) -> None:
    folders = {key.split("/")[1].split("-")[0] for key in bucket.keys("store/")}
    assert folders == {"features"}
    assert not [key for key in bucket.keys("runs/cnn/") if key.split("/")[2].startswith(".")]


def test_no_secret_is_in_any_output_or_object(cnn: Finished, bucket: Bucket) -> None:
    assert "a-secret" not in cnn.stdout + cnn.stderr
    assert not [key for key in bucket.keys("") if b"a-secret" in bucket.read(key)]


def test_a_forest_is_trained_on_the_same_features_and_compared(
    cnn: Finished, bucket: Bucket, run_job: RunJob, tmp_path: Path
) -> None:
    trees = ["--forest.trees", 2, "--forest.max-depth", 4]
    data = ["--data", f"{FOLDER}/data", *STORE]
    run_job("train_random_forest", *trees, *data, "--run", f"{FOLDER}/runs/forest", cwd=tmp_path)
    assert len({key.split("/")[1] for key in bucket.keys("store/")}) == 1
    runs = [f"{FOLDER}/runs/cnn", f"{FOLDER}/runs/forest"]
    comparison = run_job("compare", *runs, "--output", f"{FOLDER}/runs/comparison", cwd=tmp_path)
    assert "cnn is better than forest" in comparison
    assert b"exact McNemar" in bucket.read("runs/comparison/report.html")


def test_prediction_reaches_the_accuracy_of_the_run(
    cnn: Finished, bucket: Bucket, run_job: RunJob, tmp_path: Path
) -> None:
    paths = [f"{FOLDER}/runs/cnn", f"{FOLDER}/data/sign_mnist_test.csv"]
    run_job("predict", *paths, "--output", f"{FOLDER}/answers", cwd=tmp_path)
    expected = json.loads(bucket.read("runs/cnn/metrics.json"))["test"]["accuracy"]
    assert json.loads(bucket.read("answers/metrics.json"))["accuracy"] == expected


def test_a_run_is_exported_into_the_bucket(cnn: Finished, bucket: Bucket, run_job: RunJob, tmp_path: Path) -> None:
    run_job("export", f"{FOLDER}/runs/cnn", "--format", "onnx", "--output", f"{FOLDER}/exported", cwd=tmp_path)
    names = {key.split("/")[1] for key in bucket.keys("exported/")}
    assert {"class_names.json", "model.onnx", "preprocessing.json"} < names


def test_pictures_that_land_in_the_bucket_are_predicted(
    cnn: Finished, bucket: Bucket, run_job: RunJob, tmp_path: Path
) -> None:
    for number in range(3):
        buffer = io.BytesIO()
        Image.new("L", (28, 28), 80 * number).save(buffer, "PNG")
        bucket.client.put_object(Bucket=BUCKET, Key=f"inbox/{number}.png", Body=buffer.getvalue())
    command = ["stream", f"{FOLDER}/runs/cnn", f"{FOLDER}/inbox", f"{FOLDER}/outbox"]
    run_job(*command, "--once", cwd=tmp_path)
    run_job(*command, "--once", cwd=tmp_path)
    files = [key for key in bucket.keys("outbox/") if "/part-" in key]
    answers = pd.concat(pd.read_parquet(io.BytesIO(bucket.read(key))) for key in files)
    assert sorted(Path(identifier).name for identifier in answers["id"]) == ["0.png", "1.png", "2.png"]


def test_a_study_and_its_trials_are_in_the_bucket(bucket: Bucket, data: str, run_job: RunJob, tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(
        "network: {name: baseline}\ntraining: {epochs: 1}\n"
        "search: {space: {training.learning_rate: {low: 0.001, high: 0.01}}}\n"
    )
    study = ["--study", f"{FOLDER}/runs/study", "--database", f"sqlite:///{tmp_path}/study.db"]
    command = ["tune", "--config", "search.yaml", "--data", data, *STORE, *study]
    run_job(*command, "--trials", 1, cwd=tmp_path)
    output = run_job(*command, "--trials", 2, cwd=tmp_path)
    assert "going on with 1 of 2 trials" in output
    assert len(bucket.read("runs/study/trials.csv").splitlines()) == 3
    assert b"<html" in bucket.read("runs/study/report.html")


def test_a_run_is_served_from_the_bucket(
    cnn: Finished, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    with served(f"{FOLDER}/runs/cnn", tmp_path / "log") as server:
        model = requests.get(f"{server.url}/v1/model", timeout=10).json()
    assert model["model"] == "cnn"
    assert len(model["pictures"]) == 24


class TestBadInput:
    """The exit status is not 0, one message is printed, and no object is written."""

    FOREST = ("jobs/train_random_forest.py", "--forest.trees", 1)

    def assert_rejected(self, bucket: Bucket, job: Finished, message: str) -> None:
        assert job.returncode != 0
        [line] = [line for line in job.stdout.splitlines() if not line.startswith("reading")]
        assert line.startswith(f"error: {message}")
        assert bucket.keys("rejected/") == []

    def rejected(self, bucket: Bucket, run_job: RunJob, folder: Path, **paths: str) -> str:
        """The error of a job in the session of the tests."""
        options = {"data": f"{FOLDER}/data", "run": f"{FOLDER}/rejected/run", "store": f"{FOLDER}/rejected/store"}
        words = [word for name, path in (options | paths).items() for word in (f"--{name}", path)]
        with pytest.raises(InputError) as error:
            run_job("train_random_forest", "--forest.trees", 1, *words, cwd=folder)
        assert bucket.keys("rejected/") == []
        return str(error.value)

    @pytest.mark.parametrize("option", ["data", "run", "store"])
    def test_a_bucket_that_does_not_exist(self, option: str, bucket: Bucket, run_job: RunJob, tmp_path: Path) -> None:
        message = self.rejected(bucket, run_job, tmp_path, **{option: f"s3a://nobody-{option}/folder"})
        assert message.startswith(f"s3a://nobody-{option}/folder: The specified bucket does not exist")

    @pytest.mark.parametrize(
        ("status", "code", "changes_only", "message"),
        [
            ("403 Forbidden", "AccessDenied", True, "AccessDenied"),
            # the answer to a HEAD request has no code
            ("400 Bad Request", "ExpiredToken", False, "Bad Request: are the credentials expired?"),
            ("301 Moved Permanently", "PermanentRedirect", False, "The bucket is in this region: eu-west-1"),
        ],
    )
    def test_what_the_service_rejects(
        self, status: str, code: str, changes_only: bool, message: str, bucket: Bucket, run_job: RunJob, tmp_path: Path
    ) -> None:
        """Credentials that may not write, credentials that have expired, and a bucket in another region."""
        bucket.gate.error = (status, code, changes_only)
        options = ["--data", f"{FOLDER}/data", "--run", f"{FOLDER}/rejected/run", "--store", f"{FOLDER}/rejected/store"]
        try:
            with pytest.raises(InputError, match=rf"^{FOLDER}/.*{re.escape(message)}"):
                run_job("train_random_forest", *options, cwd=tmp_path)
        finally:
            bucket.gate.error = None
        assert bucket.keys("rejected/") == []

    def test_credentials_that_are_missing(
        self, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        options = ["--store", f"{FOLDER}/rejected/store", "--run", f"{FOLDER}/rejected/run"]
        job = bucket.submit(*self.FOREST, *options, cwd=tmp_path)
        self.assert_rejected(bucket, job, f"{FOLDER}/rejected/store: Unable to load AWS credentials")

    def test_a_service_that_does_not_answer(self, bucket: Bucket, tmp_path: Path) -> None:
        endpoint = ["--conf", f"spark.hadoop.fs.s3a.endpoint=http://127.0.0.1:{free_port()}"]
        options = ["--store", f"{FOLDER}/rejected/store", "--run", f"{FOLDER}/rejected/run"]
        job = bucket.submit(*endpoint, *self.FOREST, *options, cwd=tmp_path)
        self.assert_rejected(bucket, job, f"{FOLDER}/rejected/store: java.net.ConnectException: Connection refused")

    def test_a_scheme_that_is_not_supported(self, bucket: Bucket, tmp_path: Path) -> None:
        job = bucket.submit(
            *self.FOREST, "--store", "gs://hands/store", "--run", f"{FOLDER}/rejected/run", cwd=tmp_path
        )
        self.assert_rejected(bucket, job, "gs://hands/store: ")
