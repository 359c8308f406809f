"""A server with S3's interface in this process, and jobs whose data, store and runs are in a bucket of it."""

import logging
import os
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from pyspark.sql import SparkSession
from werkzeug.serving import make_server

from experiments.session import open_session
from preprocessing.synthetic import write_sample
from tests.conftest import ROOT, ROWS, Finished, submit
from tests.servers import free_port

BUCKET = "hands"


class Gate:
    """The server behind a gate.

    Args:
        limit: the number of requests that may change something, before all further ones are rejected.
        error: status and code with which requests are answered, and whether only those that change something are.
    """

    def __init__(self) -> None:
        self.application = DomainDispatcherApplication(create_backend_app)
        self.limit: int | None = None
        self.error: tuple[str, str, bool] | None = None
        self.changes: list[str] = []
        self.reads: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_change = environ["REQUEST_METHOD"] not in ("GET", "HEAD")
        if self.error is not None:
            status, code, changes_only = self.error
            if is_change or not changes_only:
                start_response(status, [("Content-Type", "application/xml"), ("x-amz-bucket-region", "eu-west-1")])
                return [f"<Error><Code>{code}</Code><Message>{code}: a message</Message></Error>".encode()]
        if is_change and self.limit is not None and len(self.changes) >= self.limit:
            start_response("403 Forbidden", [])
            return []
        requests = self.changes if is_change else self.reads
        requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        return self.application(environ, start_response)


class Bucket:
    """A bucket, and the options with which jobs use it."""

    def __init__(self, port: int, gate: Gate) -> None:
        self.gate = gate
        self.endpoint = f"http://127.0.0.1:{port}"
        self.client = boto3.client("s3", endpoint_url=self.endpoint)
        self.client.create_bucket(Bucket=BUCKET)

    def upload(self, folder: Path, prefix: str) -> None:
        for file in folder.rglob("*"):
            if file.is_file():
                self.client.upload_file(str(file), BUCKET, f"{prefix}/{file.relative_to(folder)}")

    def keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def objects(self) -> dict[str, bytes]:
        """All objects of the bucket, for :meth:`restore`."""
        return {key: self.read(key) for key in self.keys("")}

    def restore(self, objects: dict[str, bytes]) -> None:
        """Give the bucket these objects, without requests that the gate would count."""
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for key in self.keys(""):
            backend.delete_object(BUCKET, key)
        for key, value in objects.items():
            backend.put_object(BUCKET, key, value)

    @property
    def options(self) -> list[str]:
        """Options of spark-submit."""
        settings = {
            "spark.jars": ",".join(str(jar) for jar in sorted((ROOT / ".jars/s3").glob("*.jar"))),
            "spark.hadoop.fs.s3a.endpoint": self.endpoint,
            "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
            "spark.hadoop.fs.s3a.path.style.access": "true",
        }
        return [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]

    def submit(self, *arguments: object, cwd: Path) -> Finished:
        return submit(*self.options, *arguments, cwd=cwd)


logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request


@pytest.fixture(scope="session")
def bucket() -> Iterator[Bucket]:
    """The bucket ``hands``, with the sample in ``data``."""
    # S3A's and pyarrow's clients find these as they would find a user's
    os.environ |= {"AWS_ACCESS_KEY_ID": "an-id", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"
    port, gate = free_port(), Gate()
    server = make_server("127.0.0.1", port, gate, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Bucket(port, gate)
    server.shutdown()
    thread.join()


@pytest.fixture(scope="session")
def spark(bucket: Bucket) -> Iterator[SparkSession]:
    """A session in this process. Its client does not repeat requests."""
    options = ["--master", "local[2]", *bucket.options, "--conf", "spark.ui.enabled=false"]
    for name, value in {"attempts.maximum": 1, "retry.limit": 0}.items():
        options += ["--conf", f"spark.hadoop.fs.s3a.{name}={value}"]
    os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join([*options, "pyspark-shell"])
    session = open_session("tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def data(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample in the bucket."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, ROWS)
    bucket.upload(folder, "data")
    return f"s3a://{BUCKET}/data"
