"""Loads saved pipelines and models of Spark ML, in Spark's own format, safely.

A Spark ML folder names the classes that Spark instantiates when it loads the folder, and some classes unpickle its
content. Therefore each class name is checked against an allowlist before Spark reads the folder.
"""

import json
import re
from typing import Any, TypeVar

from pyspark.ml import PipelineModel

from preprocessing.errors import InputError
from preprocessing.storage import Storage, reason

T = TypeVar("T")

PIPELINE = "pyspark.ml.pipeline.PipelineModel"
STAGES = (
    "preprocessing.features.PixelScaler",
    "org.apache.spark.ml.feature.VectorAssembler",
    "org.apache.spark.ml.feature.PCAModel",
    "org.apache.spark.ml.feature.StringIndexerModel",
    "org.apache.spark.ml.feature.OneHotEncoderModel",
)
# Spark reads every file in a metadata folder, compressed ones too, and uses the first line; it writes one file with one
# line.
_FILE, _FILE_BYTES = "part-00000", 1024 * 1024
_UID = re.compile(r"[A-Za-z0-9_]+")
_MAPS = ("paramMap", "defaultParamMap")


def load_pipeline(storage: Storage, path: str) -> PipelineModel:
    """Load the pipeline of a run or a store.

    Raises:
        InputError: the folder is not a pipeline, or it has a stage that this project does not write.
    """
    folder = storage.absolute(path)
    parameters = _read_metadata(storage, folder, (PIPELINE,))["paramMap"]
    uids = parameters.get("stageUids")
    if parameters.keys() != {"stageUids", "language"} or parameters["language"] != "Python" or not _are_uids(uids):
        raise InputError(
            f"{folder}/metadata: paramMap is {str(parameters)[:200]}; stageUids of letters, digits and _, and language"
            " Python are allowed"
        )
    # Spark's naming scheme for the folders of stages
    stages = [f"{index:0{len(str(len(uids)))}}_{uid}" for index, uid in enumerate(uids)]
    if (names := _names(storage, f"{folder}/stages")) != sorted(stages):
        raise InputError(f"{folder}/stages: holds {', '.join(names)[:200]}; its metadata names {', '.join(stages)}")
    for stage in stages:
        _read_metadata(storage, f"{folder}/stages/{stage}", STAGES)
    return _load(PipelineModel, folder)


def load_model(storage: Storage, path: str, kind: type[T]) -> T:
    """Load a Spark ML model that is not a pipeline.

    Args:
        storage: the file systems of the session.
        path: the folder of the model.
        kind: the class of the model in ``pyspark.ml``.

    Raises:
        InputError: the folder does not hold a model of this class.
    """
    folder = storage.absolute(path)
    _read_metadata(storage, folder, (f"{kind.__module__}.{kind.__name__}".replace("pyspark", "org.apache.spark", 1),))
    return _load(kind, folder)


def literal_path(path: str) -> str:
    """Escape a path for Spark's readers, which treat brackets, stars and the like as patterns and split at commas."""
    return re.sub(r"[\\*?\[\]{}]", r"\\\g<0>", path).replace(",", r"{\,}")


def _load(kind: Any, folder: str) -> Any:
    try:
        return kind.load(literal_path(folder))
    except Exception as error:  # Spark may raise anything for a folder written by others
        message = next(iter(reason(error).splitlines()), "") or type(error).__name__
        raise InputError(f"{folder}: cannot be loaded: {message}") from error


def _read_metadata(storage: Storage, folder: str, allowed_classes: tuple[str, ...]) -> dict[str, Any]:
    """Read the metadata of a folder, and check that its class is allowed and its parameters are plain values."""
    metadata_folder = f"{folder}/metadata"
    path = f"{metadata_folder}/{_FILE}"
    if (names := _names(storage, metadata_folder)) != [_FILE] or storage.is_folder(path):
        raise InputError(f"{metadata_folder}: holds {', '.join(names)[:200] or 'nothing'}; one file {_FILE} is allowed")
    if (size := storage.size(path)) > _FILE_BYTES:
        raise InputError(f"{path}: has {size:,} bytes; {_FILE_BYTES:,} are allowed")
    try:
        (line,) = storage.read_text(path).removesuffix("\n").split("\n")
        metadata = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not one line of JSON: {error}") from error
    if not isinstance(metadata, dict) or metadata.get("class") not in allowed_classes:
        name = metadata.get("class") if isinstance(metadata, dict) else metadata
        raise InputError(f"{path}: the class is {str(name)[:200]}; {', '.join(allowed_classes)} may be loaded")
    maps = [metadata[name] for name in _MAPS if isinstance(metadata.get(name), dict)]
    if len(maps) < len(_MAPS) or not _are_uids([metadata.get("uid")]):
        raise InputError(f"{path}: needs {' and '.join(_MAPS)}, and a uid of letters, digits and _")
    other_fields = {name: value for name, value in metadata.items() if name not in _MAPS}
    for name, value in (pair for fields in (other_fields, *maps) for pair in fields.items()):
        if not _is_plain(value):
            raise InputError(f"{path}: {name} is {str(value)[:200]}; strings, numbers and lists of them are allowed")
    return metadata


def _names(storage: Storage, folder: str) -> list[str]:
    """The names of the entries of a folder, without those that Spark ignores."""
    if not storage.is_folder(folder):
        raise InputError(f"{folder}: no such folder; a folder written by Spark ML is needed")
    return sorted(name for name in storage.children(folder) if not name.startswith((".", "_")))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a dictionary, but reject duplicate names, because Java and Python might use different values of them."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError(f"a name occurs twice: {', '.join(name for name, _ in pairs)[:200]}")
    return dict(pairs)


def _are_uids(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) and _UID.fullmatch(name) for name in names)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(inner) for inner in value)
    return value is None or isinstance(value, str | int | float)
