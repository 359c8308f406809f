"""What a saved network may hold: what this project's networks are made of, and nothing that could run other code.

A file in Keras's format names the classes that Keras makes and calls when it reads it. Some of Keras's own run whatever
operation of TensorFlow they are told to, read files, or unpickle. So everything in the file that Keras acts upon is
compared with an explicit list, before Keras sees it.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py

LAYERS = (
    "Activation", "Add", "BatchNormalization", "Concatenate", "Conv2D", "Dense", "DepthwiseConv2D", "Dropout",
    "Flatten", "GlobalAveragePooling2D", "InputLayer", "MaxPooling2D", "ReLU", "Rescaling", "Reshape", "ZeroPadding2D",
)  # fmt: skip
INITIALIZERS = ("GlorotUniform", "Ones", "Zeros")
_MODELS = {("keras", "Sequential"): None, ("keras.src.engine.functional", "Functional"): "Functional"}
# Fields in which Keras looks a name up; in no other field is there any text.
_WORDS = {
    "activation": ("linear", "relu", "softmax"),
    "data_format": ("channels_last",),
    "dtype": ("float32", "uint8"),
    "padding": ("same", "valid"),
}
# Of a network that was saved while it was compiled; it is not read.
_COMPILED = ("keras.losses", "keras.metrics", "keras.optimizers", "keras.optimizers.schedules")

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
FILES = ("metadata.json", CONFIG, WEIGHTS)
# That of ResNet-50 has 125,000.
_CONFIG_BYTES = 4 * 1024 * 1024


class UncheckedError(ValueError):
    """Something that is on no list, and where it was found."""


def read_checked(file: zipfile.ZipFile) -> tuple[dict[str, Any], bytes]:
    """Read a network's file and look at all that Keras would act upon.

    Returns:
        The configuration of the network, not compiled, and its weights as HDF5.

    Raises:
        UncheckedError: there is something that this project does not write.
        KeyError, ValueError, OSError: it cannot be read.
    """
    names = file.namelist()
    if sorted(names) != sorted(FILES):
        raise UncheckedError(f"it holds {', '.join(names) or 'no files'}; {', '.join(FILES)} are allowed")
    for entry in file.infolist():
        # as Keras writes them; so nothing unpacks into more than there is
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise UncheckedError(f"{entry.filename} in it is compressed; only stored files are allowed")
    size = file.getinfo(CONFIG).file_size
    if size > _CONFIG_BYTES:
        raise UncheckedError(f"{CONFIG} in it has {size:,} bytes; {_CONFIG_BYTES:,} are allowed")
    config, weights = json.loads(file.read(CONFIG)), file.read(WEIGHTS)
    _check_model(config)
    with h5py.File(io.BytesIO(weights)) as content:
        _check_weights(content, len(weights))
    return {name: value for name, value in config.items() if name != "compile_config"}, weights


def _check_model(described: Any) -> None:
    fields = _fields(described, "the network", {"module", "class_name", "config", "registered_name"})
    kind = (fields["module"], fields["class_name"])
    if kind not in _MODELS or fields["registered_name"] != _MODELS[kind]:
        raise UncheckedError(f"has a network {_named(fields)}; only Sequential and Functional of Keras are allowed")
    config = _fields(fields["config"], "the network", {"name", "layers"})
    layers = config["layers"]
    if not isinstance(layers, list):
        raise UncheckedError("layers of the network are no list")
    known: set[str] = set()
    for layer in layers:
        _check_layer(layer)
        if fields["class_name"] == "Functional":
            _check_calls(layer, known)
            known.add(layer["name"])
    for end in ("input_layers", "output_layers"):
        for place in config.get(end, []):
            _check_place(place, known, end)
    _check_numbers({key: config[key] for key in config.keys() - {"name", "layers", "input_layers", "output_layers"}})
    _check_build(fields)
    for module, name in _classes(fields.get("compile_config")):
        if module not in _COMPILED:
            raise UncheckedError(f"has a {module}.{name} in compile_config; {', '.join(_COMPILED)} are allowed")


def _check_layer(described: Any) -> None:
    config = _check_object(described, "keras.layers", LAYERS, "layers")
    name = config["name"] if isinstance(config.get("name"), str) else described["class_name"]
    for field, value in config.items():
        where = f"{field} of layer {name}"
        if field.endswith("_initializer"):
            _check_numbers(_check_object(value, "keras.initializers", INITIALIZERS, f"values of {where}"))
        elif isinstance(value, str) and field in _WORDS:
            if value not in _WORDS[field]:
                raise UncheckedError(f"{where} is {value[:80]}; {', '.join(_WORDS[field])} are allowed")
        elif not (field == "name" and isinstance(value, str)):
            _check_number(value, where)
    _check_build(described)


def _check_object(described: Any, module: str, names: tuple[str, ...], what: str) -> dict[str, Any]:
    """Its configuration, once it is one of these classes."""
    fields = _fields(described, what, {"module", "class_name", "config", "registered_name"})
    known = fields["module"] == module and fields["class_name"] in names and fields["registered_name"] is None
    # nothing that Keras would take from elsewhere (shared_object_id) or compile
    more = fields.keys() - {
        "module",
        "class_name",
        "config",
        "registered_name",
        "build_config",
        "name",
        "inbound_nodes",
    }
    if not known or more:
        shown = _named(fields) + (f" with {', '.join(sorted(more))}" if more else "")
        raise UncheckedError(f"has a {shown}; the {what} of {module} that are allowed: {', '.join(names)}")
    return _fields(fields["config"], fields["class_name"], set())


def _check_build(fields: dict[str, Any]) -> None:
    _check_numbers(_fields(fields.get("build_config", {}), "build_config", set()))


def _check_calls(layer: dict[str, Any], known: set[str]) -> None:
    """A layer is called once or, an input, never, on what earlier layers give and on nothing else."""
    if not isinstance(layer.get("name"), str) or layer["name"] in known:
        raise UncheckedError(f"a {layer['class_name']} has no name of its own")
    calls = layer.get("inbound_nodes")
    if not isinstance(calls, list) or len(calls) != (layer["class_name"] != "InputLayer"):
        raise UncheckedError(f"inbound_nodes of layer {layer['name']} are not one call")
    for call in calls:
        for place in call if isinstance(call, list) and call else [call]:
            _check_place(place, known, f"inbound_nodes of layer {layer['name']}")


def _check_place(place: Any, known: set[str], where: str) -> None:
    """That of an output: its layer's name, two numbers, and what else the layer was called with, which is nothing."""
    if not isinstance(place, list) or place[1:] not in ([0, 0], [0, 0, {}]) or place[0] not in known:
        raise UncheckedError(f"{where}: {str(place)[:80]}; only the outputs of earlier layers are allowed")


def _check_numbers(config: dict[str, Any]) -> None:
    for field, value in config.items():
        _check_number(value, field)


def _check_number(value: Any, where: str) -> None:
    if isinstance(value, list):
        for inner in value:
            _check_number(inner, where)
    elif not (value is None or isinstance(value, int | float)):
        shown = _named(value) if isinstance(value, dict) else repr(value)[:80]
        raise UncheckedError(f"{where} is {shown}; only numbers are allowed")


def _fields(described: Any, what: str, needed: set[str]) -> dict[str, Any]:
    missing = needed - described.keys() if isinstance(described, dict) else needed
    if not isinstance(described, dict) or missing:
        raise UncheckedError(f"{what}: {str(described)[:80]}; {', '.join(sorted(missing)) or 'fields'} must be there")
    return described


def _named(fields: dict[str, Any]) -> str:
    name = f"{fields.get('module')}.{fields.get('class_name')}"
    registered = fields.get("registered_name")
    return name if registered is None else f"{name} registered as {registered}"


def _classes(part: Any) -> Iterator[tuple[str, str]]:
    """The module and name of every object in a configuration."""
    if isinstance(part, dict):
        if "class_name" in part:
            yield str(part.get("module")), str(part["class_name"])
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _classes(inner)


def _check_weights(file: h5py.File, size: int) -> None:
    """Make sure that all is numbers in this very file, as many as it has bytes for."""

    def check(name: str, item: Any) -> None:
        where = f"{name or '/'} in {WEIGHTS}"
        if isinstance(item, h5py.Group):
            for inner in item:
                link = item.get(inner, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise UncheckedError(f"{inner} of {where} is a {type(link).__name__}; only numbers are allowed")
            return
        if not isinstance(item, h5py.Dataset) or item.shape is None or item.dtype.kind not in "fiu":
            raise UncheckedError(f"{where} is {item}; only numbers are allowed")
        settings = item.id.get_create_plist()
        own = settings.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not settings.get_external_count()
        if not own or not item.nbytes == item.id.get_storage_size() <= size:
            raise UncheckedError(f"{where} is not stored as plain numbers in this file, {item.nbytes:,} bytes of them")

    check("", file)
    file.visititems(check)
