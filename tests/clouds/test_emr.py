"""The files of conf/emr/: checked against the model of AWS's own client, and against this project."""

import copy
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.model import ListShape, Shape, StructureShape
from botocore.validate import ParamValidator
from moto import mock_aws

from experiments.launch import read_properties
from tests.conftest import ROOT

EMR = ROOT / "conf/emr"
CLUSTER = json.loads((EMR / "cluster.json").read_text())
STEPS = json.loads((EMR / "steps.json").read_text())
INSTALLED = "/opt/handshape/"


def problems(operation: str, parameters: dict[str, Any]) -> list[str]:
    """What AWS's client and the enumerations of its model reject."""
    shape = botocore.session.get_session().get_service_model("emr").operation_model(operation).input_shape
    assert shape is not None
    report = ParamValidator().validate(parameters, shape).generate_report()
    return [*filter(None, report.splitlines()), *wrong_values(shape, parameters, operation)]


def wrong_values(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """The values that are not in their enumerations; the client itself does not check them."""
    if isinstance(shape, StructureShape):
        for name, member in value.items():
            if name in shape.members:
                yield from wrong_values(shape.members[name], member, f"{path}.{name}")
    elif isinstance(shape, ListShape):
        for index, member in enumerate(value):
            yield from wrong_values(shape.member, member, f"{path}[{index}]")
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value} is not one of {shape.enum}"


def steps_parameters() -> dict[str, Any]:
    return {"JobFlowId": "j-1", "Steps": STEPS}


def test_the_cluster_and_the_steps_are_valid_requests() -> None:
    assert problems("RunJobFlow", CLUSTER) == []
    assert problems("AddJobFlowSteps", steps_parameters()) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda cluster: cluster.update(ReleaseLable="emr-7"), "ReleaseLable"),
        (lambda cluster: cluster["Instances"]["InstanceGroups"][0].update(InstanceRole="PRIMARY"), "InstanceRole"),
        (lambda cluster: cluster["Instances"].update(KeepJobFlowAliveWhenNoSteps="yes"), "KeepJobFlowAliveWhenNoSteps"),
    ],
)
def test_a_wrong_field_is_named(change: Callable[[dict[str, Any]], object], name: str) -> None:
    cluster = copy.deepcopy(CLUSTER)
    change(cluster)
    [problem] = problems("RunJobFlow", cluster)
    assert name in problem


def test_the_cluster_has_the_tag_and_the_roles_that_aws_asks_for() -> None:
    assert {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"} in CLUSTER["Tags"]
    assert CLUSTER["ServiceRole"] == "EMR_DefaultRole_V2"
    assert "*" not in json.dumps(CLUSTER)
    assert CLUSTER["AutoTerminationPolicy"]["IdleTimeout"] <= 3600
    assert {group["Market"] for group in CLUSTER["Instances"]["InstanceGroups"]} == {"ON_DEMAND"}


def test_spark_has_the_same_settings_in_a_new_and_in_an_existing_cluster() -> None:
    [settings] = [
        part["Properties"] for part in CLUSTER["Configurations"] if part["Classification"] == "spark-defaults"
    ]
    assert settings == read_properties(EMR / "spark-defaults.conf")
    assert settings["spark.dynamicAllocation.enabled"] == "false"
    cores = int(settings["spark.executor.instances"]) * int(settings["spark.executor.cores"])
    [num_proc] = [options[options.index("--num-proc") + 1] for options in arguments() if "--num-proc" in options]
    assert int(num_proc) <= cores


def arguments() -> list[list[str]]:
    return [step["HadoopJarStep"]["Args"] for step in STEPS]


def test_every_file_that_a_step_uses_exists() -> None:
    files = [word for options in arguments() for word in options if word.startswith(INSTALLED)]
    assert len(files) == 5
    assert [file for file in files if not (ROOT / file.removeprefix(INSTALLED)).is_file()] == []


def test_the_runs_of_the_first_steps_are_compared_by_the_last_one() -> None:
    *trainings, comparison = arguments()
    runs = [options[options.index("--run") + 1] for options in trainings]
    assert comparison[-4:-2] == runs


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Run conf/emr/start.py with an EMR in this process."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["start.py", *arguments])
        runpy.run_path(str(EMR / "start.py"), run_name="__main__")

    with mock_aws():
        yield run


def test_a_cluster_is_started_and_used_again(start: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    start("my-bucket", "--subnet", "subnet-01")
    [identifier] = re.findall(
        r"cluster (j-\w+), report s3://my-bucket/runs/[\d-]+/comparison/", capsys.readouterr().out
    )
    emr = boto3.client("emr")
    cluster = emr.describe_cluster(ClusterId=identifier)["Cluster"]
    assert cluster["LogUri"] == "s3://my-bucket/logs/"
    start("my-bucket", "--cluster", identifier)
    steps = emr.list_steps(ClusterId=identifier)["Steps"]
    assert len(steps) == 6
    assert not re.search("BUCKET|SUBNET|DATE", str([step["Config"] for step in steps]) + str(cluster))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive like that of build.sh, with a Python that does nothing."""
    python = tmp_path / "build/opt/handshape/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    path = tmp_path / "handshape.tar.gz"
    subprocess.run(["tar", "-czf", path, "-C", tmp_path / "build", "opt"], check=True)
    return path


def bootstrap(archive: Path, root: Path) -> subprocess.CompletedProcess[str]:
    root.mkdir(exist_ok=True)
    return subprocess.run(
        [EMR / "bootstrap.sh", archive],
        env={"PATH": "/usr/bin:/bin", "HANDSHAPE_ROOT": str(root)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_node_can_be_set_up_twice(archive: Path, tmp_path: Path) -> None:
    for root in (tmp_path / "first", tmp_path / "first", tmp_path / "second"):
        finished = bootstrap(archive, root)
        assert finished.returncode == 0, finished.stderr
        assert [path.name for path in (root / "opt").iterdir()] == ["handshape"]
        assert (root / "opt/handshape/.venv/bin/python").exists()


@pytest.mark.parametrize("problem", ["missing", "truncated", "of something else"])
def test_a_node_that_cannot_be_set_up_says_why_in_one_line_and_keeps_what_it_has(
    problem: str, archive: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    bootstrap(archive, root)
    broken = tmp_path / "broken.tar.gz"
    if problem == "truncated":
        broken.write_bytes(archive.read_bytes()[:60])
    elif problem == "of something else":
        subprocess.run(["tar", "-czf", broken, "-C", tmp_path, archive.name], check=True)
    finished = bootstrap(broken, root)
    assert finished.returncode != 0
    assert re.search(r"^error: .*broken\.tar\.gz (cannot be|has no)", finished.stderr.splitlines()[-1])
    assert (root / "opt/handshape/.venv/bin/python").exists()
