"""The HTTP service of a trained run: SageMaker's contract, the same under /v1, and the page."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.batching import Batcher
from serving.bodies import CONTENT_TYPES, BodyError, read_body
from serving.recogniser import Recogniser
from serving.settings import Limits
from serving.spelling import Speller

PAGE = Path(__file__).parent / "page"
_log = logging.getLogger("handshape")

# The page asks nobody but this server, and the browser sees to it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]


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
    """Letters as they were recognised."""

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


class Service:
    """What answers requests.

    Args:
        recogniser: what answers.
        limits: what a request may ask for.
        api_key: that every request but those for the page, health and metrics has to bring, if any.
        pictures: a PNG of a class each, for practice.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        limits: Limits,
        api_key: str | None = None,
        pictures: dict[str, bytes] | None = None,
    ) -> None:
        self.recogniser, self.limits, self.api_key, self.pictures = recogniser, limits, api_key, pictures or {}
        self.speller = Speller(recogniser.classes, recogniser.confusion)
        self.batcher = Batcher(recogniser.probabilities)
        self.registry = CollectorRegistry()
        self._at_once = 0
        labels = ["path", "status"]
        self._seconds = Histogram("handshape_request_seconds", "Time of a request", labels, registry=self.registry)
        self._pictures = Counter("handshape_pictures", "Pictures answered", registry=self.registry)
        busy = Gauge("handshape_requests_at_once", "Predictions that are being made", registry=self.registry)
        busy.set_function(lambda: self._at_once)

    def check_key(self, bearer: _Bearer) -> None:
        if self.api_key is None:
            return
        given = bearer.credentials if bearer else ""
        if not hmac.compare_digest(given.encode(), self.api_key.encode()):
            wanted = {"WWW-Authenticate": "Bearer"}
            raise HTTPException(401, "no API key, or a wrong one: Authorization: Bearer KEY", wanted)

    async def predict(self, request: Request) -> Predictions:
        """A letter for each picture of the body."""
        limits = self.limits
        if self._at_once >= limits.requests:
            raise HTTPException(429, f"{limits.requests} requests at once are the most", {"Retry-After": "1"})
        self._at_once += 1
        try:
            body = await request.body()
            async with asyncio.timeout(limits.seconds):
                kind = request.headers.get("content-type", "")
                pixels = await asyncio.to_thread(read_body, body, kind, self.recogniser.preprocessing, limits)
                probabilities = await self.batcher.predict(pixels)
        except TimeoutError as error:
            raise HTTPException(504, f"no answer within {limits.seconds:g} seconds") from error
        finally:
            self._at_once -= 1
        self._pictures.inc(len(pixels))
        request.state.pictures = len(pixels)
        return _predictions(self.recogniser, probabilities)

    def words(self, signed: Signed) -> Words:
        """The words that signed letters may be, by what this network confuses."""
        return Words(words=self.speller.candidates(signed.letters))

    def model(self) -> Model:
        """What is served."""
        limits = {name: float(value) for name, value in asdict(self.limits).items()}
        classes, pictures = self.recogniser.classes, sorted(self.pictures)
        return Model(model=self.recogniser.name, classes=classes, pictures=pictures, limits=limits)

    def picture(self, letter: str) -> Response:
        """A picture of a class."""
        if letter not in self.pictures:
            raise HTTPException(404, "there is no picture of this class")
        return Response(self.pictures[letter], media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    def metrics(self) -> Response:
        """For Prometheus."""
        return PlainTextResponse(generate_latest(self.registry))

    async def log(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        """A line of JSON a request, without what it holds."""
        start, status = time.perf_counter(), 500
        try:
            response = await call_next(request)
            status = response.status_code
            return response
        finally:
            took = time.perf_counter() - start
            route = request.scope.get("route")
            path = "other" if route is None else route.path
            self._seconds.labels(path, status).observe(took)
            line = {
                "time": round(time.time(), 3),
                "method": request.method,
                "path": path,
                "status": status,
                "milliseconds": round(1000 * took, 2),
                "pictures": getattr(request.state, "pictures", 0),
            }
            _log.info(json.dumps(line))


def ping() -> Response:
    """Healthy and ready."""
    return Response()


def create_app(service: Service, origins: tuple[str, ...] = ()) -> FastAPI:
    """Its routes.

    Args:
        service: what answers.
        origins: of pages on other hosts that may ask, such as ``https://school.example``.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.batcher:
            yield

    app = FastAPI(title="Handshape", version="1", description="Letters of the ASL alphabet", lifespan=lifespan)
    keyed = APIRouter(dependencies=[Depends(service.check_key)], responses={401: {"model": Error}})
    refused = _errors(400, 408, 413, 415, 422, 429, 504)
    for path in ("/v1/predict", "/invocations"):
        keyed.add_api_route(
            path, service.predict, methods=["POST"], responses=refused, openapi_extra={"requestBody": _REQUEST_BODY}
        )
    keyed.add_api_route("/v1/words", service.words, methods=["POST"], responses=_errors(400, 408, 413, 422))
    keyed.add_api_route("/v1/model", service.model)
    keyed.add_api_route(
        "/v1/pictures/{letter}",
        service.picture,
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, 404: {"model": Error}},
    )
    app.include_router(keyed)
    app.add_api_route("/ping", ping, response_class=Response)
    app.add_api_route("/metrics", service.metrics, response_class=PlainTextResponse)
    for route, (name, kind) in _PAGE_FILES.items():
        app.add_api_route(route, _fixed((PAGE / name).read_bytes(), kind), include_in_schema=False)
    for error in (BodyError, StarletteError, RequestValidationError):
        app.add_exception_handler(error, _answer_error)
    if origins:
        methods, headers = ["GET", "POST"], ["Authorization", "Content-Type"]
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=methods, allow_headers=headers)
    app.add_middleware(_BoundedBody, limits=service.limits)
    app.middleware("http")(service.log)
    return app


_PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Error} for status in statuses}


def _fixed(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=kind, headers=_PAGE_HEADERS)

    return answer


# Bytes of a body that is read before the key is asked for.
_MOST = {"/v1/words": 1024}


class _BoundedBody:
    """Who reads a body gets an HTTPException when it is too large or does not come in time, on every route."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limits, read, whole = self._limits, 0, False
        most = _MOST.get(scope.get("path", ""), limits.body)
        until = time.monotonic() + limits.seconds
        announced = int(Headers(scope=scope).get("content-length", "0")) if scope["type"] == "http" else 0

        async def bounded() -> Message:
            nonlocal read, whole
            if whole:  # what comes now is that the client has gone
                return await receive()
            if announced <= most:
                try:
                    async with asyncio.timeout(until - time.monotonic()):
                        message = await receive()
                except TimeoutError as error:
                    said = f"the body did not come within {limits.seconds:g} seconds"
                    raise HTTPException(408, said, {"Connection": "close"}) from error
                read += len(message.get("body", b""))
                whole = not message.get("more_body", False)
            if max(read, announced) > most:
                raise HTTPException(413, f"a body of more than {most:,} bytes", {"Connection": "close"})
            return message

        await self._app(scope, bounded if scope["type"] == "http" else receive, send)


def _predictions(recogniser: Recogniser, probabilities: np.ndarray) -> Predictions:
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


async def _answer_error(_: Request, error: Exception) -> Response:
    headers = getattr(error, "headers", None)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{place}: {first['msg']}" if place else first["msg"]}, 422)
    status = error.status if isinstance(error, BodyError) else int(getattr(error, "status_code", 500))
    return JSONResponse({"error": getattr(error, "detail", None) or str(error)}, status, headers)


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
_REQUEST_BODY = {
    "required": True,
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in CONTENT_TYPES}
    | {
        "text/csv": {"schema": {"type": "string"}, "example": ",".join(["127"] * 784)},
        "application/json": {"schema": _INSTANCES, "example": {"instances": [[127] * 784]}},
    },
}
