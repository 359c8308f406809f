"""The routes of the page's mode Teach, which a server has that was started with ``--pictures``."""

import asyncio
import tempfile
import threading

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from serving.bodies import read_body, reading_cost
from serving.examples import Example
from serving.limits import Limits
from serving.picture_files import strip_metadata
from serving.recognizer import Recognizer
from serving.schema import REQUEST_BODY, Error, errors
from serving.taught_pictures import TaughtPictures
from serving.workers import Workers


class Picture(BaseModel):
    """A picture that was recorded."""

    letter: str = Field(examples=["A"])
    name: str = Field(examples=["20261128-1_01.jpg"])


class Pictures(BaseModel):
    """All pictures that were recorded, by letter and name."""

    pictures: list[Picture]


class Teaching:
    """The handlers of requests.

    Args:
        recognizer: the network, which answers with regard to the recorded pictures.
        taught: the recorded pictures.
        examples: other examples, which the server has read at its start.
    """

    def __init__(self, recognizer: Recognizer, taught: TaughtPictures, examples: list[Example]) -> None:
        self._recognizer, self._taught, self._examples = recognizer, taught, examples
        self._lock = threading.Lock()
        self._learn()

    def router(self, limits: Limits, workers: Workers) -> APIRouter:
        """The routes; the workers decode pictures."""
        self._limits, self._workers = limits, workers
        router = APIRouter()
        path, picture_path = "/v1/taught", "/v1/taught/{letter}/{name}"
        router.add_api_route(path, self.listed)
        router.add_api_route(path, self.delete_all, methods=["DELETE"], status_code=204, responses=errors(507))
        router.add_api_route("/v1/taught.zip", self.archive, response_class=Response)
        router.add_api_route(
            "/v1/taught/{letter}/{burst}",
            self.add,
            methods=["POST"],
            responses=errors(400, 403, 404, 408, 413, 415, 422, 429, 504, 507),
            openapi_extra={"requestBody": REQUEST_BODY},
        )
        router.add_api_route(picture_path, self.picture, response_class=Response, responses={404: {"model": Error}})
        router.add_api_route(picture_path, self.delete, methods=["DELETE"], status_code=204, responses=errors(404, 507))
        return router

    def listed(self, response: Response) -> Pictures:
        """List the recorded pictures."""
        response.headers["Cache-Control"] = "no-store"
        pictures = [Picture(letter=picture.letter, name=picture.name) for picture in self._taught.pictures]
        return Pictures(pictures=pictures)

    async def add(self, letter: str, burst: str, request: Request, consent: bool = False) -> Picture:
        """Keep a picture of a hand that signs a letter; the next prediction takes it into account."""
        if not consent:
            raise HTTPException(403, "the person in the picture has to agree that it is kept: consent=true")
        body = await request.body()
        content_type = request.headers.get("content-type", "")
        settings = self._recognizer.preprocessing
        cost = reading_cost(body, content_type, settings)
        try:
            async with asyncio.timeout(self._limits.seconds):
                pictures = await self._workers.run(cost, read_body, body, content_type, settings, self._limits)
        except TimeoutError as error:
            raise HTTPException(504, f"no answer within {self._limits.seconds:g} seconds") from error
        if len(pictures) > 1 or pictures[0].pixels is None:
            raise HTTPException(422, "one picture a request")
        if settings.crop == "hand" and pictures[0].hand is None:
            raise HTTPException(422, "no hand is in the picture")
        pixels = np.frombuffer(pictures[0].pixels, dtype=np.uint8)[np.newaxis]
        [features] = await self._workers.run(0, self._recognizer.features, pixels)
        media_type = content_type.split(";")[0].strip().lower()
        # without metadata, such as the place where a photograph was taken
        content, _ = strip_metadata(body)
        picture = self._taught.add(letter, burst, content, media_type, features)
        self._learn()
        return Picture(letter=picture.letter, name=picture.name)

    def picture(self, letter: str, name: str) -> Response:
        """A recorded picture."""
        content = self._taught.read(letter, name)
        media_type = "image/png" if name.endswith(".png") else "image/jpeg"
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-store"})

    def delete(self, letter: str, name: str) -> None:
        """Delete a recorded picture, and forget it."""
        self._taught.delete(letter, name)
        self._learn()

    def delete_all(self) -> None:
        """Delete all recorded pictures, and forget them."""
        try:
            self._taught.delete_all()
        finally:
            self._learn()

    def archive(self) -> StreamingResponse:
        """All recorded pictures as a ZIP file, one folder per letter."""
        headers = {"Content-Disposition": 'attachment; filename="my_hand.zip"', "Cache-Control": "no-store"}
        file = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed with the response
        self._taught.write_archive(file)
        file.seek(0)
        return StreamingResponse(
            file, media_type="application/zip", headers=headers, background=BackgroundTask(file.close)
        )

    def _learn(self) -> None:
        with self._lock:  # the last one to learn has the last list
            self._recognizer.learn([*self._examples, *self._taught.pictures])
