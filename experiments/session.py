"""The Spark session of a job."""

import functools
import importlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.java_runtime import SUPPORTED_VERSIONS, JavaError
from experiments.launch import prepare
from experiments.logs import LOGGER, configure_logging
from experiments.packages import zip_packages
from experiments.temporary_folder import enter_folder
from models.imports import no_garbage
from preprocessing.java import reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark import SparkContext
    from pyspark.sql import SparkSession

# Environment variables of executors, their Python workers and Horovod's processes.
WORKER_VARIABLES = {
    # they are started by `python -m`, which would search for modules in the working directory first
    "PYTHONSAFEPATH": "1",
    "LC_ALL": "C.UTF-8",
    # With one arena per thread, the default of glibc, a process keeps the memory that its threads have freed.
    "MALLOC_ARENA_MAX": "2",
}
# Third-party packages that the Python workers import.
REQUIRED_PACKAGES = (
    "numpy", "pandas", "pyarrow", "PIL", "cloudpickle", "petastorm", "horovod", "keras", "tensorflow", "onnx",
    "onnxruntime",
)  # fmt: skip

# Environment variables that silence warnings of libraries which the user cannot act on. They are also set for Horovod's
# processes and the Python workers of executors.
QUIET_VARIABLES = {
    # Petastorm 0.13 calls pyarrow's legacy API dozens of times per process; PySpark 3.5 uses the version module of
    # distutils; Spark ends a worker before Python has released the semaphores on which Horovod waited
    "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning,ignore:resource_tracker:UserWarning",
    # TensorFlow reports CPU instructions that it was not compiled for, and missing GPUs
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


# What PySpark looks up by name again and again, the first two for every expression. Java would search for it each time
# in all imported packages and in all jars, which is a tenth of the time of a query on few rows.
JAVA_NAMES = ("functions", "PythonUtils", "org", "PythonRDD", "SimplePythonFunction", "SparkSession")

PYTHON_DAEMON = "training.cluster.python_daemon"

# a standalone master's only response to a wrong secret, after a minute
_REJECTED = "Spark's master cannot be reached, or refused this job: does it have the cluster's secret (SPARK_SECRET)?"


S3A_SETTINGS = (
    "fs.s3a.endpoint",
    "fs.s3a.endpoint.region",
    "fs.s3a.path.style.access",
    "fs.s3a.connection.ssl.enabled",
)


class SessionError(RuntimeError):
    """Spark cannot be started, or rejects the job."""


def startup_error(error: Exception, master: str | None) -> str:
    """The message for a session that did not start.

    Args:
        error: what Spark raised.
        master: master of the session, as in ``spark://host:7077``.
    """
    # Spark stops a session that the master does not accept, even during its start, which then fails at any step
    was_stopped = "stopped SparkContext" in str(error) or "java.lang.NullPointerException" in str(error)
    if was_stopped and str(master).startswith("spark://"):
        return _REJECTED
    return f"Spark cannot be started: {reason(error)}"


def open_session(name: str, needed: tuple[str, ...] = (), worker_modules: tuple[str, ...] = ()) -> "SparkSession":
    """Start Spark, or use the JVM that ``spark-submit`` has started, and send this project's packages to the executors.

    Args:
        name: name of the job.
        needed: modules to import while Spark starts, see :func:`import_ahead`.
        worker_modules: modules that the Python workers of a local Spark need, and Horovod's processes. They are
            imported once for all of them, see :mod:`training.cluster.python_daemon`.

    Raises:
        SessionError: Spark cannot be started, or its Python workers cannot run this project.
        OSError: the temporary folder cannot be written.
    """
    configure_logging()  # for a notebook
    _silence_libraries()
    folder, _ = enter_folder()  # locked until this process ends
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # the job was not started by spark-submit
        arguments = shlex.split(os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell"))
        try:
            os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join([*prepare(os.environ, arguments), *arguments])
        except JavaError as error:
            raise SessionError(str(error)) from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)

    # imports PySpark before the thread below does: two imports at once fail, because its modules import each other
    from experiments.task_progress import print_task_progress

    import_ahead(*needed)

    spark = _start(name, folder, bool(worker_modules))
    context = spark.sparkContext
    is_local = str(context.master).split("[")[0] == "local"
    if is_local:
        check_python(os.environ["PYSPARK_PYTHON"])
        context.environment["TMPDIR"] = str(folder)  # the Python workers use the job's temporary folder, too
    _tune(spark, is_local)
    # the Python workers, and Horovod's processes, which they start, have these variables, too
    context.environment.update(QUIET_VARIABLES | WORKER_VARIABLES | _configure_s3(spark))
    # Spark starts new workers for a different environment; without this variable, queries and Horovod share workers
    spark.conf.set("spark.sql.execution.pyspark.udf.simplifiedTraceback.enabled", "false")
    packages = _send_packages(context, folder)
    if context.getConf().get("spark.python.daemon.module") == PYTHON_DAEMON:
        # with another environment, Spark would start another daemon
        context.environment.setdefault("PYTHONPATH", str(packages))
        context.environment.setdefault("HANDSHAPE_WORKER_MODULES", ",".join(worker_modules))
    if is_local:  # a cluster may have no free slot
        # not a daemon thread: Spark prints errors if the process ends in the middle of a Spark job
        threading.Thread(target=_start_workers, args=(context,)).start()
    print_task_progress(context)
    LOGGER.debug(
        f"Spark {context.version}, master {context.master}, application {context.applicationId},"
        f" {context.defaultParallelism} task slots, user interface {context.uiWebUrl}"
    )
    return spark


def _start(name: str, folder: Path, own_daemon: bool) -> "SparkSession":
    """Start the session of :func:`open_session`, or use the one that there is."""
    from py4j.protocol import Py4JError
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    # Java's own serializer keeps the last hundred objects of a stream, which are 400 MB of pictures per task that reads
    # them back from disk
    kryo = "org.apache.spark.serializer.KryoSerializer"
    builder = SparkSession.builder.appName(name).config("spark.serializer", kryo)
    # The files of a task appear in the result when the task ends: whether all are there is stated by a file that is
    # written last. The other algorithm renames them all in the end, which object stores do by copying one by one.
    builder = builder.config("spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version", "2")
    for variable, value in (QUIET_VARIABLES | WORKER_VARIABLES).items():
        builder = builder.config(f"spark.executorEnv.{variable}", value)
    master = None
    try:
        SparkContext._ensure_initialized()  # type: ignore[attr-defined]
        jvm: Any = SparkContext._jvm
        _prepare_java(jvm, folder)
        master = jvm.java.lang.System.getProperty("spark.master")
        # CUDA does not survive a fork; a colon separates the folders of PYTHONPATH
        can_fork = sys.platform == "linux" and not Path("/dev/nvidiactl").exists() and ":" not in str(folder)
        if own_daemon and can_fork and str(master).split("[")[0] == "local":
            builder = builder.config("spark.python.daemon.module", PYTHON_DAEMON)
        spark = builder.getOrCreate()
    except SessionError:
        raise
    except Exception as error:
        raise SessionError(startup_error(error, master)) from error
    context = spark.sparkContext
    for java_name in JAVA_NAMES:
        with suppress(Py4JError):
            setattr(jvm, java_name, getattr(jvm, java_name))
    if str(context.master).startswith("spark://") and not str(context.applicationId).startswith("app-"):
        raise SessionError(_REJECTED)  # the master gives an application that it accepts this name
    return spark


@functools.cache
def _send_packages(context: "SparkContext", folder: Path) -> Path:
    """Send this project's packages to the executors, once in a session, and return their ZIP file."""
    # the file must exist until the session ends, because executors may fetch it at any time
    packages = zip_packages(folder)
    context.addPyFile(packages.as_uri())
    return packages


def _silence_libraries() -> None:
    """Silence warnings that the user cannot act on, in this process and the processes that it starts."""
    os.environ.update(QUIET_VARIABLES)
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    # Horovod sends the network to its processes as HDF5, which Keras considers legacy
    warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
    # names from the user in the titles of charts may contain characters such as emoji
    warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
    # the network that Horovod returns to the driver has never been trained there
    logging.getLogger("tensorflow").addFilter(
        lambda record: "compiled metrics have yet to be built" not in record.getMessage()
    )


def _tune(spark: "SparkSession", is_local: bool) -> None:
    """Apply settings that depend on the number of task slots, unless the user has set them."""
    context = spark.sparkContext
    # with one task per core, all cores would wait for the largest task
    tasks = str(context.defaultParallelism * 2)
    # Spark's default of 200 is for large data: starting so many tasks takes most of a shuffle's time. For more data
    # the number is raised when their size is known, see preprocessing.prepare.
    settings = {"spark.sql.shuffle.partitions": tasks}
    if is_local:
        settings["spark.sql.files.minPartitionNum"] = tasks
        # so few partitions need no coalescing at run time, for which every stage would become a separate Spark job
        settings["spark.sql.adaptive.enabled"] = "false"
    given = context.getConf()
    for name, value in settings.items():
        if not given.contains(name):
            spark.conf.set(name, value)


def _configure_s3(spark: "SparkSession") -> dict[str, str]:
    """Apply Spark's settings of S3A to Python, and return the environment variables for its workers."""
    context: Any = spark.sparkContext
    values = {name: context._jsc.hadoopConfiguration().get(name) for name in S3A_SETTINGS}
    settings = {name: str(value) for name, value in values.items() if value}
    if not settings.get("fs.s3a.endpoint") and not settings.get("fs.s3a.endpoint.region"):
        return {}

    from preprocessing.file_systems import configure_s3  # imports fsspec and pyarrow

    return configure_s3(settings)


def _prepare_java(jvm: Any, folder: Path) -> None:
    """Check the version of Java, which another spark-submit may have started, and set Spark's temporary folder."""
    system = jvm.java.lang.System
    version = str(system.getProperty("java.specification.version"))
    if version not in SUPPORTED_VERSIONS:
        raise SessionError(f"Java 17 is needed, found {version} ({system.getProperty('java.home')}): set JAVA_HOME")
    if "," not in str(folder):  # Spark reads a comma as a separator of folders
        system.setProperty("java.io.tmpdir", str(folder))


def check_python(python: str) -> None:
    """Check that the Python of a local Spark's workers can run this project.

    Args:
        python: command or path of the Python interpreter.

    Raises:
        SessionError: the interpreter does not exist, differs from the driver's in its version, or lacks packages.
    """
    executable = shutil.which(python)
    if executable is not None and Path(executable).absolute() == Path(sys.executable).absolute():
        return
    remedy = f"unset PYSPARK_PYTHON, or set it to {sys.executable}"
    if executable is None:
        raise SessionError(f"PYSPARK_PYTHON is {python}, which does not exist or cannot be run: {remedy}")
    script = (
        "import sys, importlib.util as u; print('%d.%d' % sys.version_info[:2],"
        " *[name for name in sys.argv[1:] if u.find_spec(name) is None])"
    )
    try:
        command = [executable, "-c", script, *REQUIRED_PACKAGES]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SessionError(f"PYSPARK_PYTHON is {python}, which does not start ({error}): {remedy}") from error
    version, *missing = process.stdout.split() or [""]
    own_version = "{}.{}".format(*sys.version_info[:2])
    if not version:
        [cause] = process.stderr.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise SessionError(f"PYSPARK_PYTHON is {python}, which does not start ({cause}): {remedy}")
    if version != own_version:
        versions = f"Python {version}; the driver has Python {own_version}"
        raise SessionError(f"PYSPARK_PYTHON is {python}, {versions}: {remedy}")
    if missing:
        raise SessionError(f"PYSPARK_PYTHON is {python}, which lacks {', '.join(missing)}: {remedy}")


def _start_workers(context: "SparkContext") -> None:
    """Start the Python worker of every slot in advance, before the first query waits for them."""
    with suppress(Exception):  # the first query that needs the workers reports the error
        slots = context.defaultParallelism
        context.range(slots, numSlices=slots).foreachPartition(_import_in_worker)


def _import_in_worker(_: "Iterable[int]") -> None:
    importlib.import_module("horovod.spark.runner")


def import_ahead(*modules: str) -> None:
    """Import modules in a thread, for example while Java starts: TensorFlow alone takes seconds."""

    def import_modules() -> None:
        with no_garbage(), suppress(Exception):  # the regular import reports the error
            for module in modules:
                importlib.import_module(module)

    # not a daemon thread: a process that ends in the middle of TensorFlow's import may crash
    threading.Thread(target=import_modules).start()
