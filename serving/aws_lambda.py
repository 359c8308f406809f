"""An AWS Lambda function for pictures that land in S3: it asks a SageMaker endpoint and writes the answer beside each.

The file stands alone: with Python and boto3, which Lambda has, it is all that the function needs.
``HANDSHAPE_ENDPOINT`` in its environment names the endpoint; its role needs ``s3:GetObject``, ``s3:PutObject`` and
``sagemaker:InvokeEndpoint``.
"""

import json
import os
from typing import Any
from urllib.parse import unquote_plus

import boto3
from botocore.exceptions import ClientError

_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


def handler(event: dict[str, Any], _: object = None) -> dict[str, int]:
    """Answer the pictures of an S3 event: that of ``hand.png`` is ``hand.png.json``.

    An answer is the endpoint's ``letter``, ``probability`` and ``next``, or ``error`` where the endpoint says that this
    is no picture to predict. What may go well another time (an endpoint that is overloaded or away) is raised, for
    Lambda to try the event again; an answer that is there is written anew then. Other files, such as the answers
    themselves, are passed over.

    Args:
        event: of ``s3:ObjectCreated:*``.

    Returns:
        ``answered`` and ``passed_over``: how many of the event's files.

    Raises:
        KeyError: ``HANDSHAPE_ENDPOINT`` is not set.
        botocore.exceptions.ClientError: the endpoint or the bucket cannot be used.
    """
    endpoint = os.environ["HANDSHAPE_ENDPOINT"]
    s3, runtime = boto3.client("s3"), boto3.client("sagemaker-runtime")
    answered = 0
    for record in event["Records"]:
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        kind = _TYPES.get(os.path.splitext(key)[1].lower())  # noqa: PTH122 - a key is no path
        if kind is None:
            continue
        picture = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        answer = json.dumps(_ask(runtime, endpoint, picture, kind), ensure_ascii=False)
        s3.put_object(Bucket=bucket, Key=f"{key}.json", Body=answer.encode(), ContentType="application/json")
        answered += 1
    return {"answered": answered, "passed_over": len(event["Records"]) - answered}


def _ask(runtime: Any, endpoint: str, picture: bytes, kind: str) -> dict[str, Any]:
    try:
        answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType=kind, Body=picture)
    except ClientError as error:
        status = int(error.response.get("OriginalStatusCode", 500))
        if error.response["Error"]["Code"] != "ModelError" or not 400 <= status < 500 or status in (408, 429):
            raise
        return {"error": _said(error.response["OriginalMessage"])}
    (prediction,) = json.loads(answer["Body"].read())["predictions"]
    return dict(prediction)


def _said(body: str) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body
