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
from experiments.packages import PRETRAINED, run_location
from experiments.temporary_folder import enter_folder
from models.errors import TrainingError
from preprocessing.errors import InputError
from serving.app import Service, create_app
from serving.connections import Connection
from serving.examples import Example, read_examples
from serving.limits import Limits
from serving.recognizer import Recognizer
from serving.remote_run import local_run
from serving.taught_pictures import TaughtPictures
from serving.teaching import Teaching


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a trained network over HTTP.")
    parser.add_argument(
        "run",
        nargs="?",
        default=PRETRAINED,
        help="the run directory, a local folder or a URL such as s3://BUCKET/runs/cnn. Default: pretrained, the network"
        " that comes with this project",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--allow-origin", action="append", default=[], help="origin of a page on another host that may send requests"
    )
    parser.add_argument(
        "--examples",
        type=Path,
        help="folder of pictures of a person's own hand, one subfolder per letter, to recognize it better",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        help="folder on this machine in which the page's mode Teach keeps pictures of a person's own hand, as examples",
    )
    arguments = parser.parse_args()
    # not on the command line, which every user of the machine can read
    key = os.environ.get("HANDSHAPE_API_KEY") or None
    if arguments.pictures is not None and key is None and arguments.host not in ("127.0.0.1", "localhost", "::1"):
        parser.error(f"--pictures with --host {arguments.host} needs an API key in the variable HANDSHAPE_API_KEY")
    with suppress(OSError):  # a container may have no writable folder
        enter_folder()
    try:
        with local_run(run_location(arguments.run)) as folder:
            recognizer = Recognizer.of_run(folder, arguments.run)
            samples = Path(read_run(folder, str(folder)).files) / "samples"
            pictures = {file.stem: file.read_bytes() for file in sorted(samples.glob("*.png"))}
        teaching = read_all_examples(recognizer, arguments.examples, arguments.pictures)
    except (InputError, OSError, RunError, TrainingError) as error:
        sys.exit(f"error: {error}")
    app = create_app(Service(recognizer, Limits(), key, pictures, teaching), tuple(arguments.allow_origin))
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


def read_all_examples(recognizer: Recognizer, examples: Path | None, pictures: Path | None) -> Teaching | None:
    """Read the examples at the start of the server, and return the handlers for further ones, if they are kept.

    Raises:
        InputError: the folder of examples does not exist, or a picture cannot be used.
    """

    def read(folder: Path) -> list[Example]:
        settings = recognizer.preprocessing
        return read_examples(folder, recognizer.class_names, settings, recognizer.features)

    if examples is not None and not examples.is_dir():
        raise InputError(f"--examples {examples}: no such folder")
    if examples is not None and pictures is not None and examples.resolve() == pictures.resolve():
        raise InputError(f"--examples {examples}: --pictures is the same folder, whose pictures are examples already")
    given = [] if examples is None else read(examples)
    recognizer.learn(given)
    if pictures is None:
        return None
    kept = read(pictures) if pictures.is_dir() else []
    return Teaching(recognizer, TaughtPictures(pictures, recognizer.class_names, kept), given)


if __name__ == "__main__":
    main()
