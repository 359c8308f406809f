"""The reason in Java's long error messages, and the file names that Java cannot read."""

from types import SimpleNamespace

import pytest
from pyspark.sql import SparkSession

from preprocessing.errors import InputError
from preprocessing.java import check_java_reads, reason

UNRESOLVED = """An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.
: org.apache.spark.SparkException: External scheduler cannot be instantiated
\tat org.apache.spark.SparkContext$.org$apache$spark$SparkContext$$createTaskScheduler(SparkContext.scala:3204)
\tat java.base/java.lang.Thread.run(Thread.java:840)
Caused by: java.lang.reflect.InvocationTargetException
\tat java.base/jdk.internal.reflect.NativeConstructorAccessorImpl.newInstance0(Native Method)
\t... 15 more
Caused by: io.fabric8.kubernetes.client.KubernetesClientException: An error has occurred.
\tat io.fabric8.kubernetes.client.KubernetesClientException.launderThrowable(KubernetesClientException.java:129)
\t... 20 more
Caused by: java.net.UnknownHostException: kubernetes.invalid: Name or service not known
\tat java.base/java.net.Inet6AddressImpl.lookupAllHostAddr(Native Method)
\t... 35 more
"""

DAEMON = """An error occurred while calling o55.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 0.0 failed 1 times, most recent \
failure: Lost task 0.0 in stage 0.0 (TID 0) (vm executor driver): org.apache.spark.SparkException:
Error from python worker:
  Traceback (most recent call last):
    File "<frozen runpy>", line 189, in _run_module_as_main
    File "/home/user/preprocessing.py", line 1, in <module>
      import missing
  ModuleNotFoundError: No module named 'missing'
PYTHONPATH was:
  /spark/python/lib/pyspark.zip:/spark/python/lib/py4j-0.10.9.7-src.zip
org.apache.spark.SparkException: EOFException occurred while reading the port number from pyspark.daemon's stdout.
\tat org.apache.spark.api.python.PythonWorkerFactory.startDaemon(PythonWorkerFactory.scala:267)
"""

NO_MODULE = """
Error from python worker:
  /usr/bin/python3: Error while finding module specification for 'pyspark.daemon'
PYTHONPATH was:
  /spark/python/lib/pyspark.zip
"""

RAISED = """
  An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "/home/user/parsing.py", line 3, in inner
    raise KeyError("a")
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/user/parsing.py", line 5, in parse
    raise ValueError("pixel 300\\nof row 7")
ValueError: pixel 300
of row 7

"""

CRASHED = """An error occurred while calling o55.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 0.0 failed 1 times, most recent \
failure: Lost task 1.0 in stage 0.0 (TID 1) (vm executor driver): org.apache.spark.SparkException: Python worker \
exited unexpectedly (crashed)
\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator$$anonfun$1.applyOrElse(PythonRunner.scala:612)
Caused by: java.io.EOFException
\tat java.base/java.io.DataInputStream.readInt(DataInputStream.java:386)
"""

LOST = (
    "org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 2.0 failed 4 times, most recent"
    " failure: Lost task 0.3 in stage 2.0 (TID 9) (10.0.0.2 executor 1): java.io.IOException: No space left on device"
)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (UNRESOLVED, "java.net.UnknownHostException: kubernetes.invalid: Name or service not known"),
        (DAEMON, "ModuleNotFoundError: No module named 'missing'"),
        (NO_MODULE, "/usr/bin/python3: Error while finding module specification for 'pyspark.daemon'"),
        (RAISED, "ValueError: pixel 300"),
        (CRASHED, "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)"),
        (LOST, "java.io.IOException: No space left on device"),
        ("[PATH_NOT_FOUND] Path does not exist: file:/x.", "[PATH_NOT_FOUND] Path does not exist: file:/x."),
        ("java.lang.OutOfMemoryError", "java.lang.OutOfMemoryError"),
        ("org.apache.spark.SparkException:", "org.apache.spark.SparkException"),
        ("", "RuntimeError"),
        (" \n\n", "RuntimeError"),
    ],
)
def test_a_reason_is_the_innermost_cause_with_a_message(message: str, line: str) -> None:
    assert reason(RuntimeError(message)) == line


def test_the_reason_of_an_error_without_a_readable_message_is_its_class_name() -> None:
    class GoneError(Exception):
        def __str__(self) -> str:
            raise ConnectionRefusedError

    assert reason(GoneError()) == "GoneError"


def test_the_exception_of_a_worker_is_the_reason_of_a_real_failure(spark: SparkSession) -> None:
    def work(number: int) -> float:
        return 1 / number

    with pytest.raises(Exception) as failure:  # noqa: PT011 - the type depends on Spark
        spark.sparkContext.parallelize([0], 1).map(work).collect()
    assert reason(failure.value) == "ZeroDivisionError: division by zero"


def jvm(encoding: str) -> SimpleNamespace:
    """A stand-in for a JVM with this encoding of file names."""
    system = SimpleNamespace(getProperty={"sun.jnu.encoding": encoding}.get)
    return SimpleNamespace(java=SimpleNamespace(lang=SimpleNamespace(System=system)))


def test_a_name_that_java_would_lose_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"^données/é: .*ANSI_X3\.4-1968.*LC_ALL=C\.UTF-8"):
        check_java_reads(jvm("ANSI_X3.4-1968"), "données/é")
    check_java_reads(jvm("ANSI_X3.4-1968"), "data/e")
    check_java_reads(jvm("UTF-8"), "données/é")
