"""Serve a trained network over HTTP, with a page that spells words.

python -m serving runs/cnn --port 8080
"""

import argparse
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides hints on unused CPU instructions
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import uvicorn

from evaluation.runs import RunError, read_run
from experiments.temporary_folder import enter_folder
from models.errors import TrainingError
from preprocessing.errors import InputError
from serving.app import Service, create_app
from serving.connections import Connection
from serving.limits import Limits
from serving.recognizer import Recognizer
from serving.remote_run import local_run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a trained network over HTTP.")
    parser.add_argument("run", help="the run directory, a local folder or a URL such as s3://BUCKET/runs/cnn")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--allow-origin", action="append", default=[], help="origin of a page on another host that may send requests"
    )
    arguments = parser.parse_args()
    with suppress(OSError):  # a container may have no writable folder
        enter_folder()
    try:
        with local_run(arguments.run) as folder:
            recognizer = Recognizer.of_run(folder, arguments.run)
            samples = Path(read_run(folder, str(folder)).files) / "samples"
            pictures = {file.stem: file.read_bytes() for file in sorted(samples.glob("*.png"))}
    except (InputError, RunError, TrainingError) as error:
        sys.exit(f"error: {error}")
    # not on the command line, which every user of the machine can read
    key = os.environ.get("HANDSHAPE_API_KEY") or None
    app = create_app(Service(recognizer, Limits(), key, pictures), tuple(arguments.allow_origin))
    # a logger with its own handler, as TensorFlow configures the root logger
    log, handler = logging.getLogger("handshape"), logging.StreamHandler(sys.stdout)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        http=Connection,
        ws="none",  # a WebSocket would bypass the limits of a connection
        backlog=256,  # accepted before any is closed; a process may have about a thousand files open
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
