"""Requests and answers as the OpenAPI document has them."""

from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from serving.bodies import CONTENT_TYPES
from serving.recogniser import Recogniser


class Likely(BaseModel):
    """A class and how likely it is."""

    letter: str = Field(examples=["A"])
    probability: float = Field(ge=0, le=1, examples=[0.02])


class Prediction(Likely):
    """What a picture shows, and the next likely classes, the likeliest first."""

    next: list[Likely]


class Predictions(BaseModel):
    """An answer for each picture, in their order."""

    model: str = Field(examples=["cnn"])
    predictions: list[Prediction]


class Signed(BaseModel):
    """Letters as they were recognized."""

    letters: str = Field(min_length=1, max_length=40, pattern="^[A-Z0-9]+$", examples=["HELLD"])


class Words(BaseModel):
    """The words that they may be, the likeliest first."""

    words: list[str] = Field(examples=[["HELLO", "HELLS"]])


class Model(BaseModel):
    """What is served."""

    model: str
    classes: list[str]
    pictures: list[str] = Field(description="the classes of which there is a picture")
    limits: dict[str, float]


class Error(BaseModel):
    """What was wrong with a request."""

    error: str


def predictions_of(recogniser: Recogniser, probabilities: np.ndarray) -> Predictions:
    """What a network's probabilities, ``float32`` of shape ``(n, classes)``, say."""
    return Predictions(
        model=recogniser.name,
        predictions=[
            Prediction(
                letter=answer.letter,
                probability=answer.probability,
                next=[Likely(letter=letter, probability=probability) for letter, probability in answer.next],
            )
            for answer in recogniser.answers(probabilities)
        ],
    )


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers with these statuses."""
    return {status: {"model": Error} for status in statuses}


# Of the OpenAPI document: a picture's file, Sign-MNIST's rows, or arrays.
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
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in CONTENT_TYPES}
    | {
        "text/csv": {"schema": {"type": "string"}, "example": ",".join(["127"] * 784)},
        "application/json": {"schema": _INSTANCES, "example": {"instances": [[127] * 784]}},
    },
}
