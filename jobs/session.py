"""The Spark session of a job, and how a job ends when what it was given cannot be used."""

import importlib
import io
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from jobs.java import WORKING, JavaError
from jobs.launch import prepare
from jobs.temporary import enter_folder
from models.imports import no_garbage
from preprocessing.java import reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark import SparkContext
    from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("evaluation", "jobs", "models", "preprocessing")

# The environment of executors, their Python workers and Horovod's processes.
WORKERS = {
    # `python -m`, which starts them, would take modules from the working directory first
    "PYTHONSAFEPATH": "1",
    "LC_ALL": "C.UTF-8",
}
# What they import of other packages.
NEEDED = ("numpy", "pandas", "pyarrow", "PIL", "cloudpickle", "petastorm", "horovod", "keras", "tensorflow")

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
    return f"Spark cannot be started: {reason(error)}"


def open_session(name: str, needed: tuple[str, ...] = ()) -> "SparkSession":
    """Start Spark, or join the session of ``spark-submit``, and send this project's packages to its executors.

    Args:
        name: of the job.
        needed: modules that it will import first, see :func:`import_ahead`.

    Raises:
        SessionError: Spark cannot be started, or its Python workers cannot run this project.
        OSError: nothing can be written to the temporary folder.
    """
    _silence_libraries()
    folder, _ = enter_folder()  # locked until this process ends
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # no spark-submit has started Java yet
        words = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell"))
        try:
            os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join([*prepare(os.environ, words), *words])
        except JavaError as error:
            raise SessionError(str(error)) from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

    import_ahead(*needed)

    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    # Java's own serializer keeps the last hundred objects of a stream: 400 MB of pictures a task that reads them back
    # from disk
    kryo = "org.apache.spark.serializer.KryoSerializer"
    builder = SparkSession.builder.appName(name).config("spark.serializer", kryo)
    for variable, value in (QUIET | WORKERS).items():
        builder = builder.config(f"spark.executorEnv.{variable}", value)
    try:
        SparkContext._ensure_initialized()  # type: ignore[attr-defined]
        _prepare_java(SparkContext._jvm, folder)
        spark = builder.getOrCreate()
    except SessionError:
        raise
    except Exception as error:
        raise SessionError(_unopened(error)) from error
    context = spark.sparkContext
    if str(context.master).split("[")[0] == "local":
        check_python(os.environ["PYSPARK_PYTHON"])
    if str(context.master).startswith("local"):
        _tune_local(spark, folder)
    # queries and Horovod have workers in common then: Spark starts others for another environment
    spark.conf.set("spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled", "false")
    # executors fetch it as long as the job lasts
    context.addPyFile(zip_packages(folder).as_uri())
    if str(context.master).split("[")[0] == "local":  # elsewhere there may be no slot
        # no daemon: Spark complains of a job that it is ended in the middle of
        threading.Thread(target=_start_workers, args=(context,)).start()
    return spark


def _silence_libraries() -> None:
    """Keep quiet what a user can do nothing about, here and in the processes that this one starts."""
    os.environ.update(QUIET)
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    # Horovod sends the network to its processes as HDF5, which Keras calls legacy
    warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
    # a name of the user's in a chart's title, such as one with an emoji
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
    # what Horovod hands back to the driver is a network that was never trained
    logging.getLogger("tensorflow").addFilter(
        lambda record: "compiled metrics have yet to be built" not in record.getMessage()
    )


def _tune_local(spark: "SparkSession", folder: Path) -> None:
    """What suits a few cores of one machine; its Python workers use the job's temporary folder."""
    context = spark.sparkContext
    context.environment["TMPDIR"] = str(folder)
    # with a task a core, the largest is what all wait for
    tasks = str(context.defaultParallelism * 2)
    spark.conf.set("spark.sql.files.minPartitionNum", tasks)
    # Spark's 200 are for clusters: on a few cores their start is most of a shuffle's time
    spark.conf.set("spark.sql.shuffle.partitions", tasks)
    # so few need not be put together while a query runs, each stage a job of its own
    spark.conf.set("spark.sql.adaptive.enabled", "false")


def _prepare_java(jvm: Any, folder: Path) -> None:
    """Check the Java that another spark-submit may have started, and let Spark's files lie in the job's folder."""
    system = jvm.java.lang.System
    version = str(system.getProperty("java.specification.version"))
    if version not in WORKING:
        raise SessionError(f"Java 17 is needed, found {version} ({system.getProperty('java.home')}): set JAVA_HOME")
    if "," not in str(folder):  # which parts two folders of Spark's
        system.setProperty("java.io.tmpdir", str(folder))


def check_python(python: str) -> None:
    """Make sure that Spark's Python workers, which a local Spark starts, can do what the driver asks of them.

    Raises:
        SessionError: it is not there, of another version than the driver's, or lacks packages.
    """
    found = shutil.which(python)
    if found is not None and Path(found).absolute() == Path(sys.executable).absolute():
        return
    remedy = f"unset PYSPARK_PYTHON, or set it to {sys.executable}"
    if found is None:
        raise SessionError(f"PYSPARK_PYTHON is {python}, which is not there or cannot be run: {remedy}")
    look = (
        "import sys, importlib.util as u; print('%d.%d' % sys.version_info[:2],"
        " *[name for name in sys.argv[1:] if u.find_spec(name) is None])"
    )
    try:
        asked = subprocess.run([found, "-c", look, *NEEDED], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SessionError(f"PYSPARK_PYTHON is {python}, which does not start ({error}): {remedy}") from error
    version, *missing = asked.stdout.split() or [""]
    driver = "{}.{}".format(*sys.version_info[:2])
    if not version:
        said = asked.stderr.strip().splitlines()[-1:] or [f"exit status {asked.returncode}"]
        raise SessionError(f"PYSPARK_PYTHON is {python}, which does not start ({said[0]}): {remedy}")
    if version != driver:
        raise SessionError(f"PYSPARK_PYTHON is {python}, Python {version}; the driver has Python {driver}: {remedy}")
    if missing:
        raise SessionError(f"PYSPARK_PYTHON is {python}, which lacks {', '.join(missing)}: {remedy}")


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


def zip_packages(folder: Path) -> Path:
    """Pack this project's packages for executors, in a folder of its own below ``folder``."""
    # jobs that another job or a notebook has started share its temporary folder
    path = Path(tempfile.mkdtemp(dir=folder)) / "handshape.zip"
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

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that are not UTF-8
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
        sys.exit(_message(f"Spark: {reason(error)}", error))
    except Py4JError as error:
        sys.exit(_message("Spark has ended", error))
    sys.exit(0)


def _message(text: str, error: BaseException) -> str:
    return "; ".join([f"error: {text}", *getattr(error, "__notes__", [])])
