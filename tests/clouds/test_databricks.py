"""The asset bundle in conf/databricks/, checked against this project."""

import re
from typing import Any

import pytest
import yaml

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
