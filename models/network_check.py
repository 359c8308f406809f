"""Checks that a saved network contains only what this project's networks use, and nothing that could run other code.

A file in the Keras format names the classes that Keras instantiates and calls when it loads the file. Some of Keras's
own classes run arbitrary TensorFlow operations, read files, or unpickle. Everything in the file that Keras acts upon is
therefore compared with explicit lists before Keras loads it.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py

LAYERS = (
    "Activation", "Add", "Average", "BatchNormalization", "Concatenate", "Conv2D", "Dense", "DepthwiseConv2D",
    "Dropout", "Flatten", "GlobalAveragePooling2D", "InputLayer", "MaxPooling2D", "Permute", "ReLU", "Rescaling",
    "Reshape", "ZeroPadding2D",
)  # fmt: skip
INITIALIZERS = ("GlorotUniform", "Ones", "Zeros")
_MODELS = {("keras", "Sequential"): None, ("keras.src.engine.functional", "Functional"): "Functional"}
# The values allowed in fields that Keras resolves by name. No other field of a layer may be a string, except its name.
_ALLOWED_STRINGS = {
    "activation": ("linear", "relu", "softmax"),
    "data_format": ("channels_last",),
    "dtype": ("float32", "uint8"),
    "padding": ("same", "valid"),
}
# Modules allowed in compile_config, which a compiled network is saved with; it is not loaded.
_COMPILE_MODULES = ("keras.losses", "keras.metrics", "keras.optimizers", "keras.optimizers.schedules")

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
FILES = ("metadata.json", CONFIG, WEIGHTS)
# The configuration of ResNet-50 has 125,000 bytes.
_MAX_CONFIG_BYTES = 4 * 1024 * 1024
# A larger compressed file could be a decompression bomb. Keras stores files without compression.
_MAX_COMPRESSED_BYTES = 64 * 1024 * 1024


class UncheckedError(ValueError):
    """The file contains something that is not allowed; the message names it and its position in the file."""


def read_checked(file: zipfile.ZipFile) -> tuple[dict[str, Any], bytes]:
    """Read a network's file and check everything that Keras would act upon.

    Returns:
        The configuration of the network without ``compile_config``, and its weights as the bytes of an HDF5 file.

    Raises:
        UncheckedError: the file contains something that this project does not write.
        KeyError, ValueError, OSError: the file cannot be read.
    """
    names = file.namelist()
    if sorted(names) != sorted(FILES):
        raise UncheckedError(f"contains {', '.join(names) or 'no files'}; {', '.join(FILES)} are allowed")
    for entry in file.infolist():
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UncheckedError(f"{entry.filename} is compressed in another way than by deflating")
        if entry.compress_type != zipfile.ZIP_STORED and entry.file_size > _MAX_COMPRESSED_BYTES:
            raise UncheckedError(
                f"{entry.filename} is compressed and has {entry.file_size:,} bytes;"
                f" at most {_MAX_COMPRESSED_BYTES:,} are allowed"
            )
    size = file.getinfo(CONFIG).file_size
    if size > _MAX_CONFIG_BYTES:
        raise UncheckedError(f"{CONFIG} has {size:,} bytes; at most {_MAX_CONFIG_BYTES:,} are allowed")
    config, weights = json.loads(_read(file, CONFIG)), _read(file, WEIGHTS)
    _check_model(config)
    with h5py.File(io.BytesIO(weights)) as weights_file:
        _check_weights(weights_file, len(weights))
    return {name: value for name, value in config.items() if name != "compile_config"}, weights


def _read(file: zipfile.ZipFile, name: str) -> bytes:
    """Read a file of its declared size: ``ZipFile.read`` would first unpack up to a gigabyte more."""
    with file.open(name) as entry:
        return entry.read(file.getinfo(name).file_size)


def _check_model(serialized: Any) -> None:
    fields = _checked_fields(serialized, "the network", {"module", "class_name", "config", "registered_name"})
    model_class = (fields["module"], fields["class_name"])
    if model_class not in _MODELS or fields["registered_name"] != _MODELS[model_class]:
        raise UncheckedError(
            f"is a network {_qualified_name(fields)}; only Sequential and Functional of Keras are allowed"
        )
    config = _checked_fields(fields["config"], "the network", {"name", "layers"})
    layers = config["layers"]
    if not isinstance(layers, list):
        raise UncheckedError("layers of the network are not a list")
    calls: dict[str, int] = {}
    for layer in layers:
        _check_layer(layer)
        if fields["class_name"] == "Functional":
            calls[layer["name"]] = _check_calls(layer, calls)
    for field in ("input_layers", "output_layers"):
        for tensor in config.get(field, []):
            _check_tensor(tensor, calls, field)
    _check_numbers({key: config[key] for key in config.keys() - {"name", "layers", "input_layers", "output_layers"}})
    _check_build(fields)
    for module, name in _serialized_classes(fields.get("compile_config")):
        if module not in _COMPILE_MODULES:
            raise UncheckedError(f"has a {module}.{name} in compile_config; {', '.join(_COMPILE_MODULES)} are allowed")


def _check_layer(serialized: Any) -> None:
    config = _check_object(serialized, "keras.layers", LAYERS, "layers")
    name = config["name"] if isinstance(config.get("name"), str) else serialized["class_name"]
    for field, value in config.items():
        location = f"{field} of layer {name}"
        if field.endswith("_initializer"):
            _check_numbers(_check_object(value, "keras.initializers", INITIALIZERS, f"values of {location}"))
        elif isinstance(value, str) and field in _ALLOWED_STRINGS:
            if value not in _ALLOWED_STRINGS[field]:
                raise UncheckedError(f"{location} is {value[:80]}; {', '.join(_ALLOWED_STRINGS[field])} are allowed")
        elif not (field == "name" and isinstance(value, str)):
            _check_number(value, location)
    _check_build(serialized)


def _check_object(serialized: Any, module: str, class_names: tuple[str, ...], description: str) -> dict[str, Any]:
    """Check that an object has one of these classes, and return its configuration."""
    fields = _checked_fields(serialized, description, {"module", "class_name", "config", "registered_name"})
    is_allowed = (
        fields["module"] == module and fields["class_name"] in class_names and fields["registered_name"] is None
    )
    # Fields by which Keras would reuse another object (shared_object_id) or compile the layer are not allowed.
    extra_fields = fields.keys() - {
        "module",
        "class_name",
        "config",
        "registered_name",
        "build_config",
        "name",
        "inbound_nodes",
    }
    if not is_allowed or extra_fields:
        shown = _qualified_name(fields) + (f" with {', '.join(sorted(extra_fields))}" if extra_fields else "")
        raise UncheckedError(f"has a {shown}; the {description} of {module} that are allowed: {', '.join(class_names)}")
    return _checked_fields(fields["config"], fields["class_name"], set())


def _check_build(fields: dict[str, Any]) -> None:
    _check_numbers(_checked_fields(fields.get("build_config", {}), "build_config", set()))


def _check_calls(layer: dict[str, Any], earlier_calls: dict[str, int]) -> int:
    """Check that a layer is called once or twice, only on outputs of earlier layers; an input layer is never called.

    Keras would look for the outputs of a layer that calls itself, through others, for ever.

    Args:
        layer: the serialized layer.
        earlier_calls: the number of outputs of each layer before it, by name.

    Returns:
        The number of the layer's outputs.
    """
    if not isinstance(layer.get("name"), str) or layer["name"] in earlier_calls:
        raise UncheckedError(f"a {layer['class_name']} has no unique name")
    calls = layer.get("inbound_nodes")
    allowed = (0,) if layer["class_name"] == "InputLayer" else (1, 2)
    if not isinstance(calls, list) or len(calls) not in allowed:
        raise UncheckedError(f"inbound_nodes of layer {layer['name']} are not {' or '.join(map(str, allowed))} calls")
    for call in calls:
        for tensor in call if isinstance(call, list) and call else [call]:
            _check_tensor(tensor, earlier_calls, f"inbound_nodes of layer {layer['name']}")
    return max(1, len(calls))


def _check_tensor(tensor: Any, earlier_calls: dict[str, int], location: str) -> None:
    """Check a serialized tensor: the name of an earlier layer, one of its calls, index 0, and no call arguments."""
    is_tensor = isinstance(tensor, list) and len(tensor) >= 3 and isinstance(tensor[0], str)
    calls = range(earlier_calls.get(tensor[0], 0)) if is_tensor else range(0)
    if not is_tensor or tensor[1] not in calls or tensor[2:] not in ([0], [0, {}]):
        raise UncheckedError(f"{location}: {str(tensor)[:80]}; only the outputs of earlier layers are allowed")


def _check_numbers(config: dict[str, Any]) -> None:
    for field, value in config.items():
        _check_number(value, field)


def _check_number(value: Any, location: str) -> None:
    if isinstance(value, list):
        for item in value:
            _check_number(item, location)
    elif not (value is None or isinstance(value, int | float)):
        shown = _qualified_name(value) if isinstance(value, dict) else repr(value)[:80]
        raise UncheckedError(f"{location} is {shown}; only numbers are allowed")


def _checked_fields(serialized: Any, description: str, required: set[str]) -> dict[str, Any]:
    missing = required - serialized.keys() if isinstance(serialized, dict) else required
    if not isinstance(serialized, dict) or missing:
        raise UncheckedError(
            f"{description}: {str(serialized)[:80]}; {', '.join(sorted(missing)) or 'fields'} must be present"
        )
    return serialized


def _qualified_name(fields: dict[str, Any]) -> str:
    name = f"{fields.get('module')}.{fields.get('class_name')}"
    registered = fields.get("registered_name")
    return name if registered is None else f"{name} registered as {registered}"


def _serialized_classes(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the module and class name of every object in a configuration."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield str(config.get("module")), str(config["class_name"])
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from _serialized_classes(item)


def _check_weights(file: h5py.File, size: int) -> None:
    """Check that all datasets are plain numbers stored in this file, and not larger than the file."""

    def check(name: str, item: Any) -> None:
        location = f"{name or '/'} in {WEIGHTS}"
        if isinstance(item, h5py.Group):
            for key in item:
                link = item.get(key, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise UncheckedError(f"{key} of {location} is a {type(link).__name__}; only numbers are allowed")
            return
        if not isinstance(item, h5py.Dataset) or item.shape is None or item.dtype.kind not in "fiu":
            raise UncheckedError(f"{location} is {item}; only numbers are allowed")
        storage = item.id.get_create_plist()
        is_plain = storage.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not storage.get_external_count()
        if not is_plain or not item.nbytes == item.id.get_storage_size() <= size:
            raise UncheckedError(f"{location} is not stored as {item.nbytes:,} bytes of plain numbers in this file")

    check("", file)
    file.visititems(check)
