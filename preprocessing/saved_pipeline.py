"""Pipelines and models of Spark ML as they are saved, in Spark's own format.

A folder of Spark ML names the classes that Spark makes when it reads it, and some classes unpickle what they find. So
each name is compared with an explicit list, before Spark sees it.
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
# Spark reads every file in a folder of metadata, packed ones too, and takes the first line; it writes one of one line.
_FILE, _FILE_BYTES = "part-00000", 1024 * 1024
_UID = re.compile(r"[A-Za-z0-9_]+")
_MAPS = ("paramMap", "defaultParamMap")


def load_pipeline(storage: Storage, path: str) -> PipelineModel:
    """Load the pipeline of a run or a store.

    Raises:
        InputError: it is none, or has a stage that this project does not write.
    """
    folder = storage.absolute(path)
    about = _read_metadata(storage, folder, (PIPELINE,))
    parameters = about["paramMap"]
    uids = parameters.get("stageUids")
    if parameters.keys() != {"stageUids", "language"} or parameters["language"] != "Python" or not _are_uids(uids):
        raise InputError(
            f"{folder}/metadata: paramMap is {str(parameters)[:200]}; stageUids of letters, digits and _, and language"
            " Python are allowed"
        )
    # as Spark names them
    stages = [f"{place:0{len(str(len(uids)))}}_{uid}" for place, uid in enumerate(uids)]
    if (found := _names(storage, f"{folder}/stages")) != sorted(stages):
        raise InputError(f"{folder}/stages: holds {', '.join(found)[:200]}; its metadata names {', '.join(stages)}")
    for stage in stages:
        _read_metadata(storage, f"{folder}/stages/{stage}", STAGES)
    return _load(PipelineModel, folder)


def load_model(storage: Storage, path: str, kind: type[T]) -> T:
    """Load a model of Spark ML that is no pipeline.

    Args:
        storage: the session's file systems.
        path: the folder.
        kind: its class, of ``pyspark.ml``.

    Raises:
        InputError: it is none of this class.
    """
    folder = storage.absolute(path)
    _read_metadata(storage, folder, (f"{kind.__module__}.{kind.__name__}".replace("pyspark", "org.apache.spark", 1),))
    return _load(kind, folder)


def literal_path(path: str) -> str:
    """The path for Spark's readers, which take brackets, stars and the like for patterns, and a comma for the next."""
    return re.sub(r"[\\*?\[\]{}]", r"\\\g<0>", path).replace(",", r"{\,}")


def _load(kind: Any, folder: str) -> Any:
    try:
        return kind.load(literal_path(folder))
    except Exception as error:  # whatever Spark stumbles over in a folder that others have made
        said = next(iter(reason(error).splitlines()), "") or type(error).__name__
        raise InputError(f"{folder}: cannot be loaded: {said}") from error


def _read_metadata(storage: Storage, folder: str, classes: tuple[str, ...]) -> dict[str, Any]:
    """What a folder says of itself, once its class is one of these and its parameters are plain values."""
    inside = f"{folder}/metadata"
    path = f"{inside}/{_FILE}"
    if (found := _names(storage, inside)) != [_FILE] or storage.is_folder(path):
        raise InputError(f"{inside}: holds {', '.join(found)[:200] or 'nothing'}; one file {_FILE} is allowed")
    if (size := storage.size(path)) > _FILE_BYTES:
        raise InputError(f"{path}: has {size:,} bytes; {_FILE_BYTES:,} are allowed")
    try:
        (line,) = storage.read_text(path).removesuffix("\n").split("\n")
        about = json.loads(line, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not one line of JSON: {error}") from error
    if not isinstance(about, dict) or about.get("class") not in classes:
        name = about.get("class") if isinstance(about, dict) else about
        raise InputError(f"{path}: the class is {str(name)[:200]}; {', '.join(classes)} may be loaded")
    maps = [about[name] for name in _MAPS if isinstance(about.get(name), dict)]
    if len(maps) < len(_MAPS) or not _are_uids([about.get("uid")]):
        raise InputError(f"{path}: needs {' and '.join(_MAPS)}, and a uid of letters, digits and _")
    others = {name: value for name, value in about.items() if name not in _MAPS}
    for name, value in (pair for fields in (others, *maps) for pair in fields.items()):
        if not _is_plain(value):
            raise InputError(f"{path}: {name} is {str(value)[:200]}; texts, numbers and lists of them are allowed")
    return about


def _names(storage: Storage, folder: str) -> list[str]:
    """The names of what lies in a folder, without what Spark passes over."""
    if not storage.is_folder(folder):
        raise InputError(f"{folder}: no such folder; a folder of Spark ML's is needed")
    return sorted(name for name in storage.children(folder) if not name.startswith((".", "_")))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Java and Python might each take another of two values."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError(f"a name is there twice: {', '.join(name for name, _ in pairs)[:200]}")
    return dict(pairs)


def _are_uids(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) and _UID.fullmatch(name) for name in names)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(inner) for inner in value)
    return value is None or isinstance(value, str | int | float)
