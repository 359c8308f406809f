"""Serve a trained run: its answers over HTTP, and a page that spells words.

python -m serving runs/cnn --port 8080
"""

import argparse
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # on what the processor could do, were TensorFlow built for it
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import uvicorn

from evaluation.runs import RunError, read_run
from jobs.temporary import enter_folder
from models.errors import TrainingError
from serving.app import Service, create_app
from serving.connections import Connection
from serving.recogniser import Recogniser
from serving.settings import Limits


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a trained network over HTTP.")
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at; 0.0.0.0: all of them")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--allow-origin", action="append", default=[], help="of a page on another host that may ask")
    arguments = parser.parse_args()
    with suppress(OSError):  # a container may have no folder that can be written
        enter_folder()
    try:
        recogniser = Recogniser.of_run(arguments.run)
        samples = Path(read_run(arguments.run, str(arguments.run)).files) / "samples"
    except (RunError, TrainingError) as error:
        sys.exit(f"error: {error}")
    pictures = {file.stem: file.read_bytes() for file in sorted(samples.glob("*.png"))}
    # not on the command line, which every user of the machine can read
    key = os.environ.get("HANDSHAPE_API_KEY") or None
    app = create_app(Service(recogniser, Limits(), key, pictures), tuple(arguments.allow_origin))
    # its own: TensorFlow has set up the root's
    log, handler = logging.getLogger("handshape"), logging.StreamHandler(sys.stdout)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        http=Connection,
        ws="none",  # it would take a connection out of its bounds
        backlog=256,  # that are let in before one of them is closed: files are open at once, a thousand at most
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
