"""Tests that a Spark ML folder at any path is loaded only if this project writes all of its classes."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark import cloudpickle
from pyspark.ml import PipelineModel
from pyspark.ml.classification import RandomForestClassificationModel, RandomForestClassifier
from pyspark.sql import DataFrame, SparkSession

from models.forest import load_forest
from preprocessing.errors import InputError
from preprocessing.features import fit_pipeline
from preprocessing.normalization import by_range
from preprocessing.saved_pipeline import STAGES, load_model, load_pipeline
from preprocessing.storage import Storage

Metadata = dict[str, Any]


@pytest.fixture(scope="module")
def images(spark: SparkSession) -> DataFrame:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 16), dtype=np.uint8)
    rows = [(str(index), "s", "AB"[index % 2], pixels.tobytes()) for index, pixels in enumerate(pictures)]
    return spark.createDataFrame(rows, "id string, source string, label string, pixels binary")


@pytest.fixture(scope="module")
def written(images: DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline with each kind of stage, and a forest."""
    folder = tmp_path_factory.mktemp("written")
    pipeline = fit_pipeline(images, ["A", "B"], by_range(1), (4, 4, 1), components=3)
    pipeline.write().save(str(folder / "pipeline"))
    forest = RandomForestClassifier(featuresCol="features", labelCol="label_index", numTrees=2, maxDepth=2)
    forest.fit(pipeline.transform(images)).write().save(str(folder / "model"))
    return folder


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "run"))


def metadata_of(folder: Path) -> Path:
    return folder / "metadata/part-00000"


def change(folder: Path, edit: Callable[[Metadata], object]) -> None:
    path = metadata_of(folder)
    metadata = json.loads(path.read_text())
    edit(metadata)
    path.write_text(json.dumps(metadata) + "\n")
    path.with_name(".part-00000.crc").unlink(missing_ok=True)


def stage_of(run: Path, index: int = 1) -> Path:
    return next((run / "pipeline/stages").glob(f"{index}_*"))


class Payload:
    """Writes a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_each_kind_of_stage_is_loaded(written: Path, storage: Storage, images: DataFrame) -> None:
    pipeline = load_pipeline(storage, str(written / "pipeline"))
    kinds = [json.loads(metadata_of(path).read_text())["class"] for path in (written / "pipeline/stages").iterdir()]
    assert sorted(kinds) == sorted(STAGES)
    predictions = load_forest(storage, str(written / "model")).transform(pipeline.transform(images))
    assert predictions.select("prediction").distinct().count() == 2


@pytest.mark.parametrize("name", ["runs/try [2], {a} é #1 %41", r"a\b*?", "{x,y},^!z $(|)+"])
def test_a_folder_may_have_any_name(name: str, written: Path, storage: Storage, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / name)
    # the folder that would match if the name were read as a pattern
    shutil.copytree(written, tmp_path / "runs/try 2, a é #1 %41", dirs_exist_ok=True)
    assert len(load_pipeline(storage, f"{folder}/pipeline").stages) == len(STAGES)
    assert load_forest(storage, f"file://{folder}/model").getNumTrees == 2


def test_a_stage_that_unpickles_is_refused_and_unpickles_nothing(run: Path, storage: Storage, tmp_path: Path) -> None:
    pickled, touched = cloudpickle.dumps(Payload(tmp_path / "touched")), tmp_path / "touched"
    shutil.rmtree(stage_of(run))
    stage = run / "pipeline/stages/1_KerasModel_1"
    metadata_of(stage).parent.mkdir(parents=True)
    metadata = {"class": "horovod.spark.keras.estimator.KerasModel", "uid": "KerasModel_1", "sparkVersion": "3.5.0",
                "timestamp": 0, "paramMap": {"history": pickled.hex()}, "defaultParamMap": {}}  # fmt: skip
    metadata_of(stage).write_text(json.dumps(metadata))

    def rename_stage(pipeline: Metadata) -> None:
        pipeline["paramMap"]["stageUids"][1] = "KerasModel_1"

    change(run / "pipeline", rename_stage)
    with pytest.raises(
        InputError, match=r"1_KerasModel_1/metadata/part-00000: the class is horovod\.spark\.keras\.est"
    ):
        load_pipeline(storage, str(run / "pipeline"))
    assert not touched.exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda meta: meta.update({"class": "pyspark.ml.pipeline.PipelineModel"}), "class is pyspark.*PipelineModel"),
        (lambda meta: meta.update({"class": "os.system"}), r"class is os\.system; preprocessing\.features"),
        (lambda meta: meta.update({"class": None}), "class is None"),
        (lambda meta: meta.update({"class": list(STAGES)}), "class is "),
        (lambda meta: meta.update(uid="../../other"), "uid of letters"),
        (lambda meta: meta.pop("paramMap"), "needs paramMap and defaultParamMap"),
        (lambda meta: meta["paramMap"].update(inputCols={"function": "x"}), "inputCols is .*function"),
        (lambda meta: meta["defaultParamMap"].update(handleInvalid=[{}]), "handleInvalid is"),
        (lambda meta: meta.update(more={"class": "x"}), "more is"),
    ],
)
def test_a_stage_of_another_class_or_with_other_parameters_is_refused(
    edit: Callable[[Metadata], Any], message: str, run: Path, storage: Storage
) -> None:
    change(stage_of(run), edit)
    with pytest.raises(InputError, match=rf"VectorAssembler.*/metadata/part-00000: .*{message}") as error:
        load_pipeline(storage, str(run / "pipeline"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda meta: meta.update({"class": "org.apache.spark.ml.PipelineModel"}), "class is org.apache.spark.ml.P"),
        (lambda meta: meta.update({"class": "pyspark.ml.pipeline.Pipeline"}), "pipeline.PipelineModel may be loaded"),
        (lambda meta: meta["paramMap"].pop("language"), "paramMap is"),
        (lambda meta: meta["paramMap"].update(language="Scala"), "paramMap is"),
        (lambda meta: meta["paramMap"].update(more=1), "paramMap is"),
        (lambda meta: meta["paramMap"].update(stageUids=["../../../elsewhere"]), "paramMap is"),
        (lambda meta: meta["paramMap"]["stageUids"].pop(), "stages: holds 0_PixelScaler"),
        (lambda meta: meta["paramMap"]["stageUids"].reverse(), "stages: holds 0_PixelScaler"),
    ],
)
def test_a_pipeline_is_this_projects_and_has_the_stages_it_names(
    edit: Callable[[Metadata], Any], message: str, run: Path, storage: Storage
) -> None:
    change(run / "pipeline", edit)
    with pytest.raises(InputError, match=message):
        load_pipeline(storage, str(run / "pipeline"))


def forged(line: str) -> str:
    return line.replace("org.apache.spark.ml.feature.VectorAssembler", "os.system")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        # files that Spark would read before, after or instead of the expected one
        (lambda path, line: path.with_name("a").write_text(forged(line)), "holds a, part-00000; one file part-00000"),
        (lambda path, line: path.with_name("a.gz").write_bytes(gzip.compress(forged(line).encode())), r"holds a\.gz, "),
        (lambda path, line: path.rename(path.with_name("part-00001")), "holds part-00001"),
        (lambda path, line: path.write_text(forged(line) + line), "not one line of JSON"),
        (lambda path, line: path.write_text(forged(line).strip() + "\r" + line), "not one line of JSON"),
        (lambda path, line: path.write_text(line.replace("{", '{"class": "os.system", ', 1)), "a name occurs twice"),
        (lambda path, line: path.write_text(" " * 2_000_000 + line), "has 2,000,.* bytes; 1,048,576 are allowed"),
        (lambda path, line: path.write_text("[" * 100_000), "not one line of JSON"),
        (lambda path, line: path.write_bytes(b"\xff" + line.encode()), "not one line of JSON"),
        (lambda path, line: path.write_text(""), "not one line of JSON"),
        (lambda path, line: (path.unlink(), path.mkdir()), "one file part-00000 is allowed"),
        (lambda path, line: shutil.rmtree(path.parent), "metadata: no such folder"),
    ],
)
def test_metadata_is_one_file_of_one_line(
    write: Callable[[Path, str], Any], message: str, run: Path, storage: Storage
) -> None:
    path = metadata_of(stage_of(run))
    path.with_name(".part-00000.crc").unlink(missing_ok=True)
    write(path, path.read_text())
    with pytest.raises(InputError, match=message):
        load_pipeline(storage, str(run / "pipeline"))


def test_a_model_of_another_class_is_refused(run: Path, storage: Storage) -> None:
    change(run / "model", lambda meta: meta.update({"class": "org.apache.spark.ml.PipelineModel"}))
    with pytest.raises(
        InputError, match=r"class is org.*PipelineModel; org\.apache\.spark\.ml\.classification\.RandomF"
    ):
        load_forest(storage, str(run / "model"))
    with pytest.raises(InputError, match=r"class is org.*VectorAssembler; org\.apache\.spark\.ml\.classification"):
        load_model(storage, str(stage_of(run)), RandomForestClassificationModel)


def test_a_folder_that_spark_cannot_load_is_reported_in_one_line(run: Path, storage: Storage) -> None:
    shutil.rmtree(run / "model/data")
    with pytest.raises(InputError, match=r"run/model: cannot be loaded: .*model/data") as error:
        load_forest(storage, str(run / "model"))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="elsewhere/metadata: no such folder"):
        load_pipeline(storage, str(run / "elsewhere"))


def test_the_attack_is_real(run: Path, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark's own loader imports any module that a stage names."""
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    change(stage_of(run), lambda meta: meta.update({"class": "foreign.Stage"}))
    with pytest.raises(AttributeError):
        PipelineModel.load(str(run / "pipeline"))
    assert (tmp_path / "touched").exists()
