"""The settings with which `spark-submit` starts Spark: the project's, overridden by the user's."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.launch import DEFAULTS, LOGGING, _find_job, prepare, read_properties, ship_project
from experiments.packages import ROOT

PROJECT = read_properties(DEFAULTS)


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment of a user without settings for Spark."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_", "TMPDIR"))}


def settings(options: list[str]) -> dict[str, str]:
    assert options[::2] == ["--conf"] * (len(options) // 2)
    return dict(option.split("=", 1) for option in options[1::2])


def java_options(environment: dict[str, str]) -> list[str]:
    return shlex.split(environment["SPARK_SUBMIT_OPTS"])


def test_the_projects_settings_apply(environment: dict[str, str]) -> None:
    assert settings(prepare(environment, ["job.py"])) == PROJECT
    assert PROJECT["spark.driver.memory"] == "4g"
    assert "-XX:+UseParallelGC -XX:Tier4" in PROJECT["spark.driver.extraJavaOptions"]
    assert f"-Dlog4j2.configurationFile={LOGGING.as_uri()}" in java_options(environment)


def test_a_job_that_submits_another_job_passes_on_the_same_settings(environment: dict[str, str]) -> None:
    prepare(environment, ["job.py"])
    assert settings(prepare(environment, ["job.py"])) == PROJECT


@pytest.mark.parametrize("missing", [True, False])
def test_a_users_configuration_folder_without_files_changes_nothing(
    missing: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "nowhere" if missing else tmp_path
    environment["SPARK_CONF_DIR"] = str(folder)
    assert settings(prepare(environment, ["job.py"])) == PROJECT
    assert f"-Dlog4j2.configurationFile={LOGGING.as_uri()}" in java_options(environment)


def test_a_users_settings_override_the_projects_one_by_one(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text(
        "# mine\nspark.driver.memory 1g\nspark.ui.showConsoleProgress=true\nspark.app.name : a \\\n b\n"
    )
    environment["SPARK_CONF_DIR"] = str(tmp_path)
    options = settings(prepare(environment, ["job.py"]))
    assert options == {
        name: value for name, value in PROJECT.items() if "memory" not in name and "Progress" not in name
    }
    # Spark reads the user's settings from there
    assert environment["SPARK_CONF_DIR"] == str(tmp_path)
    # the archive of classes cannot be used with a folder with files on the class path
    assert not any("SharedArchiveFile" in option for option in java_options(environment))
    # the folder has no settings for logging
    assert f"-Dlog4j2.configurationFile={LOGGING.as_uri()}" in java_options(environment)


@pytest.mark.parametrize("name", ["log4j2.properties", "log4j2.xml"])
def test_a_users_logging_settings_override_the_projects(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / name).touch()
    environment["SPARK_CONF_DIR"] = str(tmp_path)
    assert settings(prepare(environment, ["job.py"])) == PROJECT
    assert not any("log4j2" in option for option in java_options(environment))


@pytest.mark.parametrize("form", ["{} {}", "{}={}"])
def test_a_properties_file_overrides_the_projects_settings(
    form: str, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "my.conf"
    file.write_text("spark.driver.memory 2g\n")
    arguments = form.format("--properties-file", file).split()
    assert "spark.driver.memory" not in settings(prepare(environment, [*arguments, "job.py"]))
    # an option of this name after the script belongs to the job
    assert settings(prepare(environment, ["job.py", *arguments])) == PROJECT


def test_a_users_java_options_come_after_the_projects(environment: dict[str, str]) -> None:
    environment["SPARK_SUBMIT_OPTS"] = "-Dlog4j2.configurationFile=mine"
    prepare(environment, ["job.py"])
    assert java_options(environment)[-1] == "-Dlog4j2.configurationFile=mine"


def test_flight_recorder_is_not_started_with_the_archive_of_classes(environment: dict[str, str]) -> None:
    prepare(environment, ["--driver-java-options", "-XX:StartFlightRecording:filename=x.jfr", "job.py"])
    assert not any("SharedArchiveFile" in option for option in java_options(environment))


@pytest.mark.parametrize(
    ("arguments", "local"),
    [
        (["job.py"], True),
        (["--master", "local[4]", "job.py"], True),
        (["--master=spark://host:7077", "job.py"], False),
        (["--conf", "spark.master=yarn", "job.py"], False),
    ],
)
def test_a_cluster_does_not_get_the_loopback_address(
    arguments: list[str], local: bool, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "no-such-host.invalid")
    prepare(environment, arguments)
    assert ("SPARK_LOCAL_IP" in environment) == local


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A checkout with this environment, in a folder with special characters of shells, URLs and Java's options."""
    checkout = tmp_path / 'a [b] c "d" %41 é'
    (checkout / ".venv/bin").mkdir(parents=True)
    for name in ("conf", "experiments", "jobs"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("lib", "pyvenv.cfg", "spark.jsa", "bin/python"):
        (checkout / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    shutil.copy(ROOT / "conf/spark-submit", checkout / ".venv/bin/spark-submit")
    (checkout / ".venv/bin/spark-submit").chmod(0o755)
    return checkout


def test_a_checkout_works_in_any_folder(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Java starts with its options and logging settings, and a module in the working directory is not imported."""
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    job = installed / "jobs/look.py"
    job.write_text(
        "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).resolve().parents[1]))\n"
        "from pyspark import SparkConf, SparkContext\n"
        "SparkContext._ensure_initialized()\n"
        "get = SparkContext._jvm.java.lang.System.getProperty\n"
        "names = ('log4j2.configurationFile', 'java.io.tmpdir', 'sun.jnu.encoding')\n"
        "print(*map(get, names), SparkConf().get('spark.driver.memory'), sep='\\n')\n"
    )
    process = subprocess.run(
        [installed / ".venv/bin/spark-submit", job],
        cwd=tmp_path, env=environment | {"LC_ALL": "C", "TMPDIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    logging, temporary_folder, encoding, memory = process.stdout.splitlines()
    assert logging == (installed / "conf/log4j2.properties").as_uri()
    assert Path(temporary_folder).parent == tmp_path
    assert not Path(temporary_folder).exists()
    assert encoding == "UTF-8"
    assert memory == "4g"
    assert process.stderr == ""


def shipped(environment: dict[str, str], folder: Path, *arguments: str) -> list[str]:
    environment |= {"PYSPARK_PYTHON": "python", "SPARK_CONF_DIR": str(folder)}
    words = ship_project(environment, list(arguments), folder)
    return [word.replace(str(next(folder.glob("*/handshape.zip"), folder)), "ZIP") for word in words]


SHIPPED = ["--archives", "ZIP#handshape", "--conf", "spark.yarn.appMasterEnv.PYTHONPATH=handshape"]


def test_the_project_and_the_experiment_are_sent_to_a_driver_on_the_cluster(
    environment: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "x.yaml"
    config.touch()
    options = ["--py-files", "helper.py", "--verbose", "--deploy-mode", "cluster"]
    assert shipped(environment, tmp_path, *options, "job.py", "--config", str(config), "--run", "a.py") == [
        *options, *SHIPPED, "--files", str(config), "job.py", "--config", "x.yaml", "--run", "a.py",
    ]  # fmt: skip


def test_nothing_is_sent_in_client_mode(environment: dict[str, str], tmp_path: Path) -> None:
    arguments = ["--master", "yarn", "job.py", "--deploy-mode", "cluster"]
    assert shipped(environment, tmp_path, *arguments) == arguments


def test_archives_and_paths_in_a_users_settings_are_kept(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text(
        "spark.submit.deployMode cluster\nspark.archives env.tar.gz#env\nspark.yarn.appMasterEnv.PYTHONPATH /opt/x\n"
    )
    assert shipped(environment, tmp_path, "job.py") == ["--archives", "env.tar.gz#env,ZIP#handshape", "job.py"]


def test_the_process_of_the_job_is_found_below_the_jvm() -> None:
    with subprocess.Popen(["sh", "-c", "sh -c 'sleep 9; exit' /x/job.py & sleep 9; wait"]) as jvm:
        try:
            while (job := _find_job(jvm.pid)) is None:
                assert jvm.poll() is None
            assert b"job.py" in Path(f"/proc/{job}/cmdline").read_bytes()
        finally:
            jvm.terminate()
            os.kill(job, 15)
