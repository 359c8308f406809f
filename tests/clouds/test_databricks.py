"""The asset bundle in conf/databricks/, checked against this project."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
import yaml
from databricks.sdk.service.jobs import JobSettings

from tests.conftest import ROOT

BUNDLE = ROOT / "conf/databricks"
RESOURCES = BUNDLE / "resources/handshape.yml"


def problems(bundle: dict[str, Any], resources: dict[str, Any]) -> list[str]:
    """References of the bundle to what is not there."""
    found = []
    [job] = resources["resources"]["jobs"].values()
    clusters = {cluster["job_cluster_key"] for cluster in job["job_clusters"]}
    tasks = {task["task_key"] for task in job["tasks"]}
    for task in job["tasks"]:
        script = task["spark_python_task"]
        found += [] if task["job_cluster_key"] in clusters else [f"{task['task_key']}: {task['job_cluster_key']}"]
        found += [parent["task_key"] for parent in task.get("depends_on", []) if parent["task_key"] not in tasks]
        files = [RESOURCES.parent / script["python_file"]]
        for parameter in script["parameters"]:
            if parameter.startswith("${workspace.file_path}/"):
                files.append(ROOT / parameter.removeprefix("${workspace.file_path}/"))
        found += [str(file) for file in files if not file.is_file()]
    names = re.findall(r"\$\{var\.(\w+)\}", yaml.safe_dump(resources))
    return found + [f"var.{name}" for name in names if name not in bundle["variables"]]


def wrong_fields(declared: Any, value: Any, path: str) -> Iterator[str]:
    """The fields, the types and the values of a job that Databricks' own client does not know."""
    [declared] = [kind for kind in typing.get_args(declared) if kind is not type(None)] or [declared]
    if isinstance(value, str) and "${" in value:
        return  # a variable of the bundle
    if dataclasses.is_dataclass(declared) and isinstance(value, dict):
        types = typing.get_type_hints(declared)
        for name, member in value.items():
            if name in types:
                yield from wrong_fields(types[name], member, f"{path}.{name}")
            else:
                yield f"{path}.{name} is not one of {sorted(types)}"
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from wrong_fields(declared, member, f"{path}[{index}]")
    elif isinstance(declared, type) and issubclass(declared, Enum):
        values = [choice.value for choice in declared]
        if value not in values:
            yield f"{path}: {value} is not one of {values}"
    elif not isinstance(value, typing.get_origin(declared) or declared):
        yield f"{path}: {value!r} is not of type {declared.__name__}"


@pytest.fixture
def bundle() -> dict[str, Any]:
    return yaml.safe_load((BUNDLE / "databricks.yml").read_text())


@pytest.fixture
def resources() -> dict[str, Any]:
    return yaml.safe_load(RESOURCES.read_text())


def job_of(resources: dict[str, Any]) -> dict[str, Any]:
    return resources["resources"]["jobs"]["handshape"]


def test_everything_that_the_bundle_refers_to_exists(bundle: dict[str, Any], resources: dict[str, Any]) -> None:
    assert problems(bundle, resources) == []
    for pattern in bundle["include"]:
        assert list(BUNDLE.glob(pattern)) != []
    assert all((BUNDLE / path).is_dir() for path in bundle["sync"]["paths"])


def test_the_job_has_the_fields_types_and_values_that_databricks_knows(resources: dict[str, Any]) -> None:
    assert list(wrong_fields(JobSettings, job_of(resources), "job")) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("max_concurrent_runs: 1", "max_concurent_runs: 1", "job.max_concurent_runs is not one of"),
        ("max_concurrent_runs: 1", "max_concurrent_runs: one", "job.max_concurrent_runs: 'one' is not of type int"),
        ("SINGLE_USER", "SINGLE", "data_security_mode: SINGLE is not one of"),
        ("python_file", "python_script", "job.tasks[0].spark_python_task.python_script is not one of"),
    ],
)
def test_a_wrong_field_type_or_value_is_named(old: str, new: str, problem: str) -> None:
    text = RESOURCES.read_text()
    assert old in text
    [found] = wrong_fields(JobSettings, job_of(yaml.safe_load(text.replace(old, new, 1))), "job")
    assert problem in found


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("train_cnn.py", "train_ccn.py", "train_ccn.py"),
        ("conf/sign_mnist.yaml", "conf/sign_mist.yaml", "sign_mist.yaml"),
        ("- task_key: forest\n      ", "- task_key: forrest\n      ", "forest"),
        ("${var.node_type}", "${var.node}", "var.node"),
    ],
)
def test_what_is_not_there_is_named(old: str, new: str, name: str, bundle: dict[str, Any]) -> None:
    text = RESOURCES.read_text()
    assert old in text
    [problem, *_] = problems(bundle, yaml.safe_load(text.replace(old, new, 1)))
    assert name in problem


def test_the_cluster_has_a_fixed_size_and_dedicated_access(resources: dict[str, Any]) -> None:
    [cluster] = [entry["new_cluster"] for entry in job_of(resources)["job_clusters"]]
    assert "autoscale" not in cluster
    assert cluster["spark_version"].startswith("15.4.")
    assert cluster["data_security_mode"] == "SINGLE_USER"


def test_the_comparison_reads_the_runs_of_both_trainings(resources: dict[str, Any]) -> None:
    *trainings, comparison = job_of(resources)["tasks"]
    parameters = [task["spark_python_task"]["parameters"] for task in trainings]
    runs = [options[options.index("--run") + 1] for options in parameters]
    assert comparison["spark_python_task"]["parameters"][:2] == runs
    assert {parent["task_key"] for parent in comparison["depends_on"]} == {task["task_key"] for task in trainings}
