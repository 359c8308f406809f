"""Pictures that land in S3 are answered in a file beside them. Moto simulates AWS."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest
import requests
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto import mock_aws

from serving import aws_lambda

ANSWER = {"letter": "A", "probability": 0.9, "next": [{"letter": "S", "probability": 0.05}]}


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("HANDSHAPE_ENDPOINT", "letters")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="hands")
        yield


def event(*keys: str) -> dict[str, Any]:
    return {"Records": [{"s3": {"bucket": {"name": "hands"}, "object": {"key": quote_plus(key)}}} for key in keys]}


def answer_of(key: str) -> Any:
    return json.loads(boto3.client("s3").get_object(Bucket="hands", Key=f"{key}.json")["Body"].read())


def test_a_picture_is_answered_in_a_file_beside_it_and_other_files_are_skipped() -> None:
    s3 = boto3.client("s3")
    for key in ("new/my hand (1).PNG", "new/notes.txt"):
        s3.put_object(Bucket="hands", Key=key, Body=b"content")
    result = {"Body": json.dumps({"model": "cnn", "predictions": [ANSWER]}), "ContentType": "application/json"}
    url = "http://motoapi.amazonaws.com/moto-api/static/sagemaker/endpoint-results"
    requests.post(url, json={"results": [result], "region": "us-east-1", "account_id": "123456789012"}, timeout=60)
    counts = aws_lambda.handler(event("new/my hand (1).PNG", "new/notes.txt", "new/my hand (1).PNG.json"))
    assert counts == {"answered": 1, "passed_over": 2}
    assert answer_of("new/my hand (1).PNG") == ANSWER
    objects = s3.list_objects_v2(Bucket="hands")["Contents"]
    assert len(objects) == 3


def replace_endpoint(monkeypatch: pytest.MonkeyPatch, code: str, status: int) -> None:
    """Replace the endpoint by one that answers with an error, which Moto cannot simulate."""
    runtime = boto3.client("sagemaker-runtime")
    stub = Stubber(runtime)
    fields = {"OriginalStatusCode": status, "OriginalMessage": '{"error": "not a picture"}'}
    fields = fields if code == "ModelError" else {}
    stub.add_client_error("invoke_endpoint", code, http_status_code=424, modeled_fields=fields)
    stub.activate()
    original_client = boto3.client
    monkeypatch.setattr(boto3, "client", lambda name: runtime if name == "sagemaker-runtime" else original_client(name))


def test_a_rejected_picture_is_answered_with_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    boto3.client("s3").put_object(Bucket="hands", Key="a.jpg", Body=b"no picture")
    replace_endpoint(monkeypatch, "ModelError", 422)
    assert aws_lambda.handler(event("a.jpg"))["answered"] == 1
    assert answer_of("a.jpg") == {"error": "not a picture"}


@pytest.mark.parametrize(("code", "status"), [("ModelError", 429), ("ModelError", 500), ("ServiceUnavailable", 503)])
def test_a_temporary_failure_is_raised(monkeypatch: pytest.MonkeyPatch, code: str, status: int) -> None:
    s3 = boto3.client("s3")
    s3.put_object(Bucket="hands", Key="a.jpg", Body=b"picture")
    replace_endpoint(monkeypatch, code, status)
    with pytest.raises(ClientError):
        aws_lambda.handler(event("a.jpg"))
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="hands")["Contents"]] == ["a.jpg"]
