"""An AWS Lambda function for pictures that land in S3: it asks a SageMaker endpoint and writes an answer for each.

This file is self-contained: the function needs only Python and boto3, which Lambda provides. The environment variable
``HANDSHAPE_ENDPOINT`` names the endpoint; the function's role needs ``s3:GetObject``, ``s3:PutObject`` and
``sagemaker:InvokeEndpoint``.
"""

import json
import os
from typing import Any
from urllib.parse import unquote_plus

import boto3
from botocore.exceptions import ClientError

_CONTENT_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


def handler(event: dict[str, Any], _: object = None) -> dict[str, int]:
    """Answer the pictures of an S3 event; the answer for ``hand.png`` is written to ``hand.png.json``.

    An answer has the endpoint's ``letter``, ``probability`` and ``next``, or ``error`` if the endpoint rejects the
    picture. A temporary failure (the endpoint is overloaded or unavailable) is raised, so that Lambda retries the
    event; existing answers are then overwritten. Other files, such as the answers themselves, are skipped.

    Args:
        event: of type ``s3:ObjectCreated:*``.

    Returns:
        ``answered`` and ``passed_over``: the number of answered and of skipped files.

    Raises:
        KeyError: ``HANDSHAPE_ENDPOINT`` is not set.
        botocore.exceptions.ClientError: the endpoint or the bucket cannot be used.
    """
    endpoint = os.environ["HANDSHAPE_ENDPOINT"]
    s3, runtime = boto3.client("s3"), boto3.client("sagemaker-runtime")
    answered = 0
    for record in event["Records"]:
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        content_type = _CONTENT_TYPES.get(os.path.splitext(key)[1].lower())  # noqa: PTH122 - a key is not a path
        if content_type is None:
            continue
        picture = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        answer = json.dumps(_ask(runtime, endpoint, picture, content_type), ensure_ascii=False)
        s3.put_object(Bucket=bucket, Key=f"{key}.json", Body=answer.encode(), ContentType="application/json")
        answered += 1
    return {"answered": answered, "passed_over": len(event["Records"]) - answered}


def _ask(runtime: Any, endpoint: str, picture: bytes, content_type: str) -> dict[str, Any]:
    try:
        response = runtime.invoke_endpoint(EndpointName=endpoint, ContentType=content_type, Body=picture)
    except ClientError as error:
        status = int(error.response.get("OriginalStatusCode", 500))
        if error.response["Error"]["Code"] != "ModelError" or not 400 <= status < 500 or status in (408, 429):
            raise
        return {"error": _error_message(error.response["OriginalMessage"])}
    (prediction,) = json.loads(response["Body"].read())["predictions"]
    return dict(prediction)


def _error_message(body: str) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body
