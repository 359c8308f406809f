"""The HTTP service of a trained network: SageMaker's contract, the same under /v1, and the page."""

import asyncio
import functools
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
from serving.bodies import pixels_of, read_body, reading_cost
from serving.errors import BodyError
from serving.intake import BoundedBodies
from serving.limits import Limits
from serving.recognizer import Recognizer
from serving.schema import REQUEST_BODY, Error, Model, Predictions, Signed, Words, errors, predictions_of
from serving.spelling import Speller
from serving.teaching import Teaching
from serving.workers import Workers

PAGE = Path(__file__).parent / "page"
_log = logging.getLogger("handshape")

# Reading a body is costly above this number of pixels or bytes, which take a tenth of a second.
_COSTLY_ABOVE = 2_000_000

# The page sends requests only to this server; the browser enforces it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "Permissions-Policy": "camera=(self), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))]


class Service:
    """The handlers of requests.

    Args:
        recognizer: the network.
        limits: of the requests.
        api_key: key that all requests need, except those for the page, health and metrics; None: no key is needed.
        pictures: an example picture of each class, as PNG, for practice.
        teaching: handlers for the pictures that the page records. None: it records none.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        limits: Limits,
        api_key: str | None = None,
        pictures: dict[str, bytes] | None = None,
        teaching: Teaching | None = None,
    ) -> None:
        self.teaching = teaching
        self.recognizer, self.limits, self.api_key, self.pictures = recognizer, limits, api_key, pictures or {}
        self.batcher = Batcher(recognizer.probabilities)
        self.registry = CollectorRegistry()
        self.workers = Workers(limits.threads, _COSTLY_ABOVE)
        self._active_predictions = self._pixel_bytes = 0
        self._loads_speller = False
        labels = ["path", "status"]
        self._seconds = Histogram("handshape_request_seconds", "Duration of a request", labels, registry=self.registry)
        self._pictures = Counter("handshape_pictures", "Pictures answered", registry=self.registry)
        active = Gauge("handshape_requests_at_once", "Predictions in progress", registry=self.registry)
        active.set_function(lambda: self._active_predictions)

    def check_key(self, bearer: _Bearer) -> None:
        if self.api_key is None:
            return
        given = bearer.credentials if bearer else ""
        if not hmac.compare_digest(given.encode(), self.api_key.encode()):
            headers = {"WWW-Authenticate": "Bearer"}
            raise HTTPException(401, "no API key, or a wrong one: Authorization: Bearer KEY", headers)

    @functools.cached_property
    def _speller(self) -> Speller:
        """Its dictionary takes seconds to load, and predictions do not need it."""
        return Speller(self.recognizer.class_names, self.recognizer.confusion)

    async def predict(self, request: Request) -> Predictions:
        """Predict a letter for each picture of the body."""
        limits = self.limits
        body = await request.body()  # received before the request counts, so that slow clients block nobody
        if self._active_predictions >= limits.requests:
            raise HTTPException(429, f"{limits.requests} requests at once are the most", {"Retry-After": "1"})
        self._active_predictions += 1
        try:
            async with asyncio.timeout(limits.seconds):
                content_type = request.headers.get("content-type", "")
                encoding = request.headers.get("content-encoding", "").strip().lower()
                settings = self.recognizer.preprocessing
                cost = reading_cost(body, content_type, settings, encoding)
                pictures = await self.workers.run(cost, read_body, body, content_type, settings, limits, encoding)
                probabilities = await self._probabilities(pixels_of(pictures))
        except TimeoutError as error:
            raise HTTPException(504, f"no answer within {limits.seconds:g} seconds") from error
        finally:
            self._active_predictions -= 1
        self._pictures.inc(len(pictures))
        request.state.pictures = len(pictures)
        if not self._loads_speller:
            self._loads_speller = True
            asyncio.get_running_loop().run_in_executor(None, lambda: self._speller)
        return predictions_of(self.recognizer, probabilities, pictures)

    async def _probabilities(self, pixels: np.ndarray) -> np.ndarray:
        if self._pixel_bytes + pixels.nbytes > self.limits.memory:
            raise HTTPException(429, "too many pictures at once", {"Retry-After": "1"})
        self._pixel_bytes += pixels.nbytes
        try:
            return await self.batcher.predict(pixels)
        finally:
            self._pixel_bytes -= pixels.nbytes

    def words(self, signed: Signed) -> Words:
        """Find words for signed letters, considering which letters this network confuses."""
        return Words(words=self._speller.candidates(signed.letters))

    def model(self) -> Model:
        """Describe the network that is served."""
        limits = {name: float(value) for name, value in asdict(self.limits).items()}
        class_names, pictures = self.recognizer.class_names, sorted(self.pictures)
        crop = self.recognizer.preprocessing.crop
        return Model(
            model=self.recognizer.name,
            class_names=class_names,
            pictures=pictures,
            crop=crop,
            teaches=self.teaching is not None,
            limits=limits,
        )

    def picture(self, letter: str) -> Response:
        """The example picture of a class."""
        if letter not in self.pictures:
            raise HTTPException(404, "there is no picture of this class")
        return Response(self.pictures[letter], media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    def metrics(self) -> Response:
        """Metrics in the format of Prometheus."""
        return PlainTextResponse(generate_latest(self.registry))

    def log_request(self, scope: Scope, status: int, seconds: float) -> None:
        """Log one line of JSON per request, without the content of the request."""
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
    """Answer that the server is healthy and ready."""
    return Response()


def create_app(service: Service, origins: tuple[str, ...] = ()) -> FastAPI:
    """Create the application with its routes.

    Args:
        service: the handlers of requests.
        origins: origins of pages on other hosts that may send requests, such as ``https://school.example``.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.batcher:
            yield
        service.workers.close()

    # no redirects: they would lead to the host in the request's Host header, which anyone can set
    app = FastAPI(
        title="Handshape",
        version="1",
        description="Letters of the ASL alphabet",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    protected = APIRouter(dependencies=[Depends(service.check_key)], responses={401: {"model": Error}})
    error_responses = errors(400, 408, 413, 415, 422, 429, 504)
    for path in ("/v1/predict", "/invocations"):
        protected.add_api_route(
            path,
            service.predict,
            methods=["POST"],
            responses=error_responses,
            openapi_extra={"requestBody": REQUEST_BODY},
        )
    protected.add_api_route("/v1/words", service.words, methods=["POST"], responses=errors(400, 408, 413, 422))
    protected.add_api_route("/v1/model", service.model)
    protected.add_api_route(
        "/v1/pictures/{letter}",
        service.picture,
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, 404: {"model": Error}},
    )
    if service.teaching is not None:
        protected.include_router(service.teaching.router(service.limits, service.workers))
    app.include_router(protected)
    app.add_api_route("/ping", ping, response_class=Response)
    app.add_api_route("/metrics", service.metrics, response_class=PlainTextResponse)
    for route, (name, media_type) in _PAGE_FILES.items():
        app.add_api_route(route, _static_file((PAGE / name).read_bytes(), media_type), include_in_schema=False)
    for error in (BodyError, StarletteError, RequestValidationError):
        app.add_exception_handler(error, _answer_error)
    if origins:
        methods, headers = ["GET", "POST"], ["Authorization", "Content-Encoding", "Content-Type"]
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=methods, allow_headers=headers)
    app.add_middleware(BoundedBodies, limits=service.limits)
    app.add_middleware(_RequestLog, service=service)
    return app


_PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def _static_file(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=media_type, headers=_PAGE_HEADERS)

    return answer


class _RequestLog:
    """Middleware that logs every request. HEAD is answered like GET, and Uvicorn omits the body."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        inner_scope = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        start_time, status = time.perf_counter(), 500

        async def send_and_keep_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(inner_scope, receive, send_and_keep_status)
        finally:
            seconds = time.perf_counter() - start_time
            self._service.log_request({**inner_scope, "method": scope["method"]}, status, seconds)


async def _answer_error(_: Request, error: Exception) -> Response:
    headers = getattr(error, "headers", None)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{field}: {first['msg']}" if field else first["msg"]}, 422)
    status = error.status if isinstance(error, BodyError) else int(getattr(error, "status_code", 500))
    return JSONResponse({"error": getattr(error, "detail", None) or str(error)}, status, headers)
