"""Schemas of requests and answers in the OpenAPI document."""

from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from serving.bodies import CONTENT_TYPES
from serving.recognizer import Recognizer


class Likely(BaseModel):
    """A class and its probability."""

    letter: str = Field(examples=["A"])
    probability: float = Field(ge=0, le=1, examples=[0.02])


class Prediction(Likely):
    """The likeliest class of a picture, and the next likely ones, the likeliest first."""

    next: list[Likely]


class Predictions(BaseModel):
    """One prediction per picture, in the order of the request."""

    model: str = Field(examples=["cnn"])
    predictions: list[Prediction]


class Signed(BaseModel):
    """Letters as they were recognized."""

    letters: str = Field(min_length=1, max_length=40, pattern="^[A-Z0-9]+$", examples=["HELLD"])


class Words(BaseModel):
    """Candidate words, the likeliest first."""

    words: list[str] = Field(examples=[["HELLO", "HELLS"]])


class Model(BaseModel):
    """The network that is served."""

    model: str
    class_names: list[str]
    pictures: list[str] = Field(description="the classes that have an example picture")
    limits: dict[str, float]


class Error(BaseModel):
    """The reason why a request was rejected."""

    error: str


def predictions_of(recognizer: Recognizer, probabilities: np.ndarray) -> Predictions:
    """Convert a network's probabilities, ``float32`` of shape ``(n, classes)``, to an answer."""
    return Predictions(
        model=recognizer.name,
        predictions=[
            Prediction(
                letter=answer.letter,
                probability=answer.probability,
                next=[Likely(letter=letter, probability=probability) for letter, probability in answer.next],
            )
            for answer in recognizer.answers(probabilities)
        ],
    )


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error answers with these statuses, for the OpenAPI document."""
    return {status: {"model": Error} for status in statuses}


# The JSON form of a request: each instance is an array of pixels or the base64 of a picture file.
_INSTANCES = {
    "type": "object",
    "required": ["instances"],
    "properties": {
        "instances": {
            "type": "array",
            "minItems": 1,
            "items": {
                "oneOf": [
                    {"type": "array", "items": {}},
                    {"type": "object", "required": ["b64"], "properties": {"b64": {"type": "string"}}},
                ]
            },
        }
    },
}
REQUEST_BODY = {
    "required": True,
    "content": {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in CONTENT_TYPES}
    | {
        "text/csv": {"schema": {"type": "string"}, "example": ",".join(["127"] * 784)},
        "application/json": {"schema": _INSTANCES, "example": {"instances": [[127] * 784]}},
    },
}
