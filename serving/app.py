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
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException as StarletteError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.batching import Batcher
from serving.bodies import read_body, weight
from serving.errors import BodyError
from serving.intake import BoundedBodies
from serving.recogniser import Recogniser
from serving.schema import REQUEST_BODY, Error, Model, Predictions, Signed, Words, errors, predictions_of
from serving.settings import Limits
from serving.spelling import Speller
from serving.workers import Workers

PAGE = Path(__file__).parent / "page"
_log = logging.getLogger("handshape")

# Pixels that are decoded in a tenth of a second, or bytes that are read in as much.
_HEAVY = 2_000_000

# The page asks nobody but this server, and the browser sees to it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]


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
        self.workers = Workers(limits.threads, _HEAVY)
        self._at_once = self._held = 0
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
        body = await request.body()  # who is slow to send it keeps nobody out
        if self._at_once >= limits.requests:
            raise HTTPException(429, f"{limits.requests} requests at once are the most", {"Retry-After": "1"})
        self._at_once += 1
        try:
            async with asyncio.timeout(limits.seconds):
                kind, encoding = (request.headers.get(f"content-{name}", "") for name in ("type", "encoding"))
                settings = self.recogniser.preprocessing
                encoding = encoding.strip().lower()
                heavy = weight(body, kind, encoding)
                pixels = await self.workers.run(heavy, read_body, body, kind, settings, limits, encoding)
                probabilities = await self._probabilities(pixels)
        except TimeoutError as error:
            raise HTTPException(504, f"no answer within {limits.seconds:g} seconds") from error
        finally:
            self._at_once -= 1
        self._pictures.inc(len(pixels))
        request.state.pictures = len(pixels)
        return predictions_of(self.recogniser, probabilities)

    async def _probabilities(self, pixels: np.ndarray) -> np.ndarray:
        if self._held + pixels.nbytes > self.limits.memory:
            raise HTTPException(429, "too many pictures at once", {"Retry-After": "1"})
        self._held += pixels.nbytes
        try:
            return await self.batcher.predict(pixels)
        finally:
            self._held -= pixels.nbytes

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

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """A line of JSON a request, without what it holds."""
        route = scope.get("route")
        path = "other" if route is None else route.path
        self._seconds.labels(path, status).observe(seconds)
        line = {
            "time": round(time.time(), 3),
            "method": scope["method"],
            "path": path,
            "status": status,
            "milliseconds": round(1000 * seconds, 2),
            "pictures": scope.get("state", {}).get("pictures", 0),
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
        service.workers.close()

    # a redirect would lead to whatever host the request names
    app = FastAPI(
        title="Handshape",
        version="1",
        description="Letters of the ASL alphabet",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    keyed = APIRouter(dependencies=[Depends(service.check_key)], responses={401: {"model": Error}})
    refused = errors(400, 408, 413, 415, 422, 429, 504)
    for path in ("/v1/predict", "/invocations"):
        keyed.add_api_route(
            path, service.predict, methods=["POST"], responses=refused, openapi_extra={"requestBody": REQUEST_BODY}
        )
    keyed.add_api_route("/v1/words", service.words, methods=["POST"], responses=errors(400, 408, 413, 422))
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
        methods, headers = ["GET", "POST"], ["Authorization", "Content-Encoding", "Content-Type"]
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=methods, allow_headers=headers)
    app.add_middleware(BoundedBodies, limits=service.limits)
    app.add_middleware(_Noted, service=service)
    return app


_PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def _fixed(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=kind, headers=_PAGE_HEADERS)

    return answer


class _Noted:
    """Notes every request. HEAD is answered as GET is, and Uvicorn leaves the body out."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        inner = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        start, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(inner, receive, noted)
        finally:
            self._service.note({**inner, "method": scope["method"]}, status, time.perf_counter() - start)


async def _answer_error(_: Request, error: Exception) -> Response:
    headers = getattr(error, "headers", None)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{place}: {first['msg']}" if place else first["msg"]}, 422)
    status = error.status if isinstance(error, BodyError) else int(getattr(error, "status_code", 500))
    return JSONResponse({"error": getattr(error, "detail", None) or str(error)}, status, headers)
