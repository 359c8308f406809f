"""What `spark-submit` starts Spark with: the project's settings, and over them a user's."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.launch import DEFAULTS, LOGGING, _job, prepare, read_properties
from jobs.session import ROOT

PROJECT = read_properties(DEFAULTS)


@pytest.fixture
def environment() -> dict[str, str]:
    """A user's, without settings of Spark."""
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


def test_a_job_that_submits_another_hands_on_the_same(environment: dict[str, str]) -> None:
    prepare(environment, ["job.py"])
    assert settings(prepare(environment, ["job.py"])) == PROJECT


@pytest.mark.parametrize("missing", [True, False])
def test_a_users_folder_without_files_changes_nothing(
    missing: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "nowhere" if missing else tmp_path
    environment["SPARK_CONF_DIR"] = str(folder)
    assert settings(prepare(environment, ["job.py"])) == PROJECT
    assert f"-Dlog4j2.configurationFile={LOGGING.as_uri()}" in java_options(environment)


def test_a_users_settings_come_over_the_projects_key_by_key(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "spark-defaults.conf").write_text(
        "# mine\nspark.driver.memory 1g\nspark.ui.showConsoleProgress=true\nspark.app.name : a \\\n b\n"
    )
    environment["SPARK_CONF_DIR"] = str(tmp_path)
    options = settings(prepare(environment, ["job.py"]))
    assert options == {
        name: value for name, value in PROJECT.items() if "memory" not in name and "Progress" not in name
    }
    # Spark reads them there itself
    assert environment["SPARK_CONF_DIR"] == str(tmp_path)
    # a folder with files on the class path: the archive of classes is of no use
    assert not any("SharedArchiveFile" in option for option in java_options(environment))
    # it has no settings of the log
    assert f"-Dlog4j2.configurationFile={LOGGING.as_uri()}" in java_options(environment)


@pytest.mark.parametrize("name", ["log4j2.properties", "log4j2.xml"])
def test_a_users_settings_of_the_log_win(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / name).touch()
    environment["SPARK_CONF_DIR"] = str(tmp_path)
    assert settings(prepare(environment, ["job.py"])) == PROJECT
    assert not any("log4j2" in option for option in java_options(environment))


@pytest.mark.parametrize("form", ["{} {}", "{}={}"])
def test_a_properties_file_comes_over_them_too(form: str, environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text("spark.driver.memory 2g\n")
    words = form.format("--properties-file", file).split()
    assert "spark.driver.memory" not in settings(prepare(environment, [*words, "job.py"]))
    # the job's own option of that name is none of Spark's
    assert settings(prepare(environment, ["job.py", *words])) == PROJECT


def test_a_users_java_options_come_after_the_projects(environment: dict[str, str]) -> None:
    environment["SPARK_SUBMIT_OPTS"] = "-Dlog4j2.configurationFile=mine"
    prepare(environment, ["job.py"])
    assert java_options(environment)[-1] == "-Dlog4j2.configurationFile=mine"


@pytest.mark.parametrize(
    ("arguments", "local"),
    [
        (["job.py"], True),
        (["--master", "local[4]", "job.py"], True),
        (["--master=spark://host:7077", "job.py"], False),
        (["--conf", "spark.master=yarn", "job.py"], False),
    ],
)
def test_a_cluster_is_not_told_the_loopback(
    arguments: list[str], local: bool, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "no-such-host.invalid")
    prepare(environment, arguments)
    assert ("SPARK_LOCAL_IP" in environment) == local


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A checkout in a folder of a name that shells, URLs and Java's options do not like, with this environment."""
    checkout = tmp_path / 'a [b] c "d" %41 é'
    (checkout / ".venv/bin").mkdir(parents=True)
    for name in ("conf", "jobs", "models", "preprocessing"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("lib", "pyvenv.cfg", "spark.jsa", "bin/python"):
        (checkout / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    shutil.copy(ROOT / "conf/spark-submit", checkout / ".venv/bin/spark-submit")
    (checkout / ".venv/bin/spark-submit").chmod(0o755)
    return checkout


def test_a_checkout_may_lie_anywhere(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Java starts, takes its options, logs as told, and a module of the working directory is not the project's."""
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
    done = subprocess.run(
        [installed / ".venv/bin/spark-submit", job],
        cwd=tmp_path, env=environment | {"LC_ALL": "C", "TMPDIR": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    logging, temporary, encoding, memory = done.stdout.splitlines()
    assert logging == (installed / "conf/log4j2.properties").as_uri()
    assert Path(temporary).parent == tmp_path
    assert not Path(temporary).exists()
    assert encoding == "UTF-8"
    assert memory == "4g"
    assert done.stderr == ""


def test_a_stop_is_for_the_job_and_not_for_what_starts_it() -> None:
    with subprocess.Popen(["sh", "-c", "sh -c 'sleep 9; exit' /x/job.py & sleep 9; wait"]) as jvm:
        try:
            while (job := _job(jvm.pid)) is None:
                assert jvm.poll() is None
            assert b"job.py" in Path(f"/proc/{job}/cmdline").read_bytes()
        finally:
            jvm.terminate()
            os.kill(job, 15)
