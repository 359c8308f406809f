"""What the project uses of its libraries beyond their public interfaces, and which of their messages it reads.

Each test fails with the sentence that says which file depends on it, if a new version of a library changes it.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any
from unittest.mock import MagicMock

import pytest
from horovod.spark.keras import remote
from horovod.spark.task import task_info
from pyspark.resource import ResourceInformation
from pyspark.sql import SparkSession


def attribute(path: str) -> Any:
    """The object at a dotted path."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError:
        return getattr(attribute(module), name)


def parameters(path: str) -> list[str]:
    return list(inspect.signature(attribute(path)).parameters)


def source(path: str) -> str:
    return inspect.getsource(import_module(path))


def holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (AttributeError, ImportError):
        return False


LIBRARIES = {
    "training/cluster/horovod_backend.py replaces horovod.spark.runner._task_fn, which the runner calls by this name": (
        lambda: (
            parameters("horovod.spark.runner._task_fn")[:4] == ["index", "driver_addresses", "key", "settings"]
            and source("horovod.spark.runner").count("_task_fn(") >= 2
        )
    ),
    "training/cluster/horovod_backend.py sets horovod.spark.runner.MINIMUM_COMMAND_LIFETIME_S, the seconds of a task": (
        lambda: isinstance(attribute("horovod.spark.runner.MINIMUM_COMMAND_LIFETIME_S"), int)
    ),
    "training/cluster/horovod_backend.py replaces the Pipe of horovod.runner.common.service.task_service": (
        lambda: (
            attribute("horovod.runner.common.service.task_service.Pipe")
            is attribute("horovod.runner.util.streams.Pipe")
        )
    ),
    "training/cluster/horovod_backend.py replaces _make_subgraph, which calls tf.function, in two modules of Horovod": (
        lambda: (
            "return tf.function(f)" in inspect.getsource(attribute("horovod.tensorflow.util._make_subgraph"))
            and all(
                "_make_subgraph(" in source(name) for name in ("horovod.tensorflow", "horovod.tensorflow.functions")
            )
        )
    ),
    "training/cluster/python_daemon.py replaces safe_shell_exec.execute, and runs the module of Horovod's command": (
        lambda: (
            parameters("horovod.runner.common.util.safe_shell_exec.execute")[0] == "command"
            and {"env", "stdout", "stderr", "index", "events", "prefix_output_with_timestamp"}
            == set(parameters("horovod.runner.common.util.safe_shell_exec.execute")[1:])
            and "safe_shell_exec.execute(" in source("horovod.runner.common.service.task_service")
            and parameters("horovod.spark.task.gloo_exec_fn.main") == ["driver_addresses", "settings"]
            and "'horovod.spark.task.gloo_exec_fn'" in source("horovod.spark.gloo_run")
        )
    ),
    "training/cluster/python_daemon.py runs pyspark.daemon.manager": (
        lambda: parameters("pyspark.daemon.manager") == []
    ),
    "training/cluster/process_output.py reads 'Exit code: ' in Horovod's message on a process that has ended": (
        lambda: "Exit code: {code}" in source("horovod.runner.gloo_run")
    ),
    "training/cluster/process_output.py removes the prefix '[rank]<stream>:' of Horovod's output": (
        lambda: "{time}[{rank}]<{prefix}>:" in source("horovod.runner.common.util.safe_shell_exec")
    ),
    "training/store.py overrides three methods of Horovod's stores": (
        lambda: all(
            callable(attribute(f"horovod.spark.common.store.FilesystemStore.{name}"))
            for name in ("get_parquet_dataset", "get_data_metadata_path", "get_checkpoint_filename")
        )
    ),
    "training/data_module.py creates Petastorm's Reader without make_batch_reader": (
        lambda: (
            {"worker_class", "is_batched_reader", "schema_fields", "reader_pool", "cur_shard", "shard_count"}
            <= set(parameters("petastorm.reader.Reader"))
        )
    ),
    "training/tuning/trials.py replaces aggregate_gradients of Keras's optimizers": (
        lambda: parameters("keras.optimizers.Optimizer.aggregate_gradients") == ["self", "grads_and_vars"]
    ),
    "models/saved_network.py passes save_format to Keras because a thread-local flag selects the format otherwise": (
        lambda: hasattr(attribute("keras.src.saving.saving_lib._SAVING_V3_ENABLED"), "value")
    ),
    "training/diagnostics/profiler.py parses TensorFlow's XSpace": (
        lambda: (
            set(attribute("tensorflow.tsl.profiler.protobuf.xplane_pb2.XEvent").DESCRIPTOR.fields_by_name)
            >= {"metadata_id", "offset_ps", "duration_ps"}
        )
    ),
    "training/diagnostics/profiler.py starts and stops Horovod's timeline": (
        lambda: callable(attribute("horovod.tensorflow.start_timeline"))
    ),
    "experiments/session.py starts the JVM with SparkContext._ensure_initialized": (
        lambda: callable(attribute("pyspark.SparkContext._ensure_initialized"))
    ),
    "preprocessing/principal_components.py passes matrices to Java with pyspark.ml.common._py2java": (
        lambda: parameters("pyspark.ml.common._py2java") == ["sc", "obj"]
    ),
}


@pytest.mark.parametrize("sentence", LIBRARIES)
def test_what_the_project_uses_of_a_library_is_unchanged(sentence: str) -> None:
    assert holds(LIBRARIES[sentence]), f"{sentence}, and the installed version has changed it."


def test_the_executors_and_their_slots_are_those_of_spark_s_status_store(spark: SparkSession) -> None:
    context: Any = spark.sparkContext
    executors = context._jsc.sc().statusStore().executorList(True)
    sentence = "training/cluster/hosts.py reads the executors' slots in Spark's status store"
    assert executors.apply(0).maxTasks() == 2, f"{sentence}, and the installed version has changed it."


def test_spark_names_the_failed_task_as_the_messages_expect(spark: SparkSession) -> None:
    with pytest.raises(Exception, match="Lost task") as caught:
        spark.sparkContext.parallelize([0], 1).map(lambda x: 1 // x).collect()
    sentence = "preprocessing/java.py and training/tuning/trials.py read Spark's 'Most recent failure: Lost task'"
    assert "ost recent failure: Lost task 0.0 in stage" in str(caught.value), f"{sentence}, and it has changed."


@pytest.mark.parametrize(("resources", "gpu"), [({}, "second"), ({"gpu": ResourceInformation("gpu", ["0"])}, "first")])
def test_horovod_gives_each_process_one_gpu_and_lets_its_memory_grow(
    resources: dict[str, ResourceInformation], gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU that Spark has assigned to the task, or else that of the local rank. This machine has none."""
    tensorflow, horovod = MagicMock(), MagicMock()
    config = tensorflow.config.experimental
    config.list_physical_devices.return_value = ["first", "second"]
    horovod.local_rank.return_value = 1
    monkeypatch.setattr(task_info._info, "resources", resources)
    remote._pin_gpu_fn()(horovod, tensorflow, None)
    sentence = "docs/cluster.md says which GPU a process uses"
    assert config.set_visible_devices.call_args.args == (gpu, "GPU"), f"{sentence}, and Horovod has changed it."
    assert config.set_memory_growth.call_args_list == [(("first", True),), (("second", True),)], sentence
