"""Schemas of requests and answers in the OpenAPI document."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from preprocessing import hand_detection
from preprocessing.decoding import Decoded
from serving.bodies import CONTENT_TYPES
from serving.recognizer import Recognizer


class Likely(BaseModel):
    """A class and its probability."""

    letter: str = Field(examples=["A"])
    probability: float = Field(ge=0, le=1, examples=[0.02])


class Hand(BaseModel):
    """The largest hand in a picture; positions are fractions of the picture's width and height, from the top left."""

    confidence: float = Field(ge=0, le=1, description="probability that it is a hand")
    handedness: float = Field(ge=0, le=1, description="probability that it is a right hand, if nothing is mirrored")
    box: list[float] = Field(min_length=4, max_length=4, description="left, top, right and bottom of the landmarks")
    landmarks: list[list[float]] = Field(description="x, y and z of the wrist and of four joints of each finger")


class Prediction(Likely):
    """The likeliest class of a picture, and the next likely ones, the likeliest first."""

    next: list[Likely]
    searched: bool = Field(description="whether the picture was searched for a hand")
    hand: Hand | None = Field(description="null if no hand was found")


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
    crop: Literal["hand", "center"] = Field(description="what is cropped from a picture before it is recognized")
    teaches: bool = Field(description="whether the page can record pictures of one's own hand, under /v1/taught")
    limits: dict[str, float]


class Error(BaseModel):
    """The reason why a request was rejected."""

    error: str


def predictions_of(recognizer: Recognizer, probabilities: np.ndarray, pictures: list[Decoded]) -> Predictions:
    """Convert probabilities, ``float32`` of shape ``(n, classes)``, and the hands of the pictures to an answer."""
    return Predictions(
        model=recognizer.name,
        predictions=[
            Prediction(
                letter=answer.letter,
                probability=answer.probability,
                next=[Likely(letter=letter, probability=probability) for letter, probability in answer.next],
                searched=picture.searched,
                hand=None if picture.hand is None else _to_hand(picture.hand),
            )
            for answer, picture in zip(recognizer.answers(probabilities), pictures, strict=True)
        ],
    )


def _to_hand(hand: hand_detection.Hand) -> Hand:
    # a ten thousandth is less than a pixel
    return Hand(
        confidence=round(hand.confidence, 4),
        handedness=round(hand.handedness, 4),
        box=[round(value, 4) for value in hand.box],
        landmarks=np.round(hand.landmarks.astype(float), 4).tolist(),
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
