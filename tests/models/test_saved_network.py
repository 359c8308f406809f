"""Networks are saved in the Keras format from any thread, and loaded only if they contain nothing but known layers."""

import io
import json
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import h5py
import keras
import numpy as np
import pytest

from models.errors import TrainingError
from models.mirroring import average_mirrored
from models.model_settings import Network, NetworkName
from models.network_check import CONFIG, FILES, INITIALIZERS, LAYERS, WEIGHTS
from models.networks import build_network
from models.saved_network import check_saved, load_network, save_network
from preprocessing.normalization import by_range

Config = dict[str, Any]


def tiny() -> keras.Model:
    layers = [keras.layers.InputLayer((4,), dtype="uint8"), keras.layers.Dense(3, activation="relu")]
    return keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])


def branched() -> keras.Model:
    pixels = keras.layers.Input((4,), dtype="uint8", name="pixels")
    first = keras.layers.Dense(4, name="first")(pixels)
    return keras.Model(pixels, keras.layers.Add(name="sum")([first, keras.layers.ReLU(name="relu")(first)]))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_network(tiny(), tmp_path / "model.keras")
    return tmp_path / "model.keras"


def rewrite(path: Path, files: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> None:
    """Replace or add files in the saved network; ``None`` removes a file."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()} | files
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in contents.items():
            if data is not None:
                file.writestr(name, data)


def change(path: Path, edit: Callable[[Config], object]) -> None:
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read(CONFIG))
    edit(config)
    rewrite(path, {CONFIG: json.dumps(config).encode()})


def run_in_another_thread(task: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_a_thread_that_did_not_import_keras_can_save_and_load_repeatedly(tmp_path: Path) -> None:
    def save_and_load() -> None:
        network = tiny()
        for number in range(3):
            path = tmp_path / f"{number}.keras"
            save_network(network, path)
            assert zipfile.is_zipfile(path)
            check_saved(network, path)
        save_network(network, tmp_path / "0.keras")  # replaces the first file
        check_saved(network, tmp_path / "0.keras")

    run_in_another_thread(save_and_load)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.keras", "1.keras", "2.keras"]


def test_a_network_that_cannot_be_saved_leaves_the_existing_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original_bytes = saved.read_bytes()
    network = tiny()
    monkeypatch.setattr(network.layers[-1], "save_own_variables", lambda store: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_network(network, saved)
    assert saved.read_bytes() == original_bytes
    assert [path.name for path in saved.parent.iterdir()] == ["model.keras"]


def test_saved_weights_that_differ_from_the_network_are_detected(saved: Path) -> None:
    with pytest.raises(TrainingError, match=r"model\.keras: its weights differ from those of the trained network"):
        check_saved(tiny(), saved)


def test_a_compiled_network_is_loaded_without_its_optimizer(saved: Path) -> None:
    network = load_network(saved)
    network.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(np.zeros((2, 4), np.uint8), np.zeros(2), verbose=0)
    save_network(network, saved)
    check_saved(network, saved)
    assert load_network(saved).optimizer is None


def test_weights_of_another_network_are_rejected_with_a_message(saved: Path) -> None:
    save_network(branched(), saved.with_name("other.keras"))
    with zipfile.ZipFile(saved.with_name("other.keras")) as file:
        rewrite(saved, {WEIGHTS: file.read(WEIGHTS)})
    with pytest.raises(TrainingError, match=r"model\.keras: cannot be loaded: "):
        load_network(saved)


def test_exactly_the_classes_that_the_networks_use_are_allowed(tmp_path: Path) -> None:
    used: dict[str, set[str]] = {"keras.layers": set(), "keras.initializers": set()}

    def collect(config: Any) -> None:
        if isinstance(config, dict):
            used.get(str(config.get("module")), set()).add(config.get("class_name"))
        for item in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
            collect(item)

    for name in get_args(NetworkName):
        network = build_network(Network(name), (64, 64, 1), 5, by_range(1))
        collect(keras.saving.serialize_keras_object(network))
    collect(keras.saving.serialize_keras_object(average_mirrored(network, (64, 64, 1))))
    assert used == {"keras.layers": set(LAYERS), "keras.initializers": set(INITIALIZERS)}


def layer_of(config: Config, index: int = 1) -> Config:
    return config["config"]["layers"][index]


def replace_layer(
    module: str | None, name: str, settings: Config, registered: str | None = None
) -> Callable[[Config], None]:
    layer = {"module": module, "class_name": name, "config": settings, "registered_name": registered}

    def edit(config: Config) -> None:
        config["config"]["layers"][1] = layer

    return edit


def set_field(field: str, value: Any) -> Callable[[Config], None]:
    return lambda config: layer_of(config)["config"].update({field: value})


def file_writing_layer(path: Path) -> Config:
    """Return a layer that writes a file as soon as it is called."""
    config = {"name": "tf.io.write_file", "trainable": False, "dtype": "float32", "function": "io.write_file"}
    call = [["_CONSTANT_VALUE", -1, str(path), {"contents": "written"}]]
    module = "keras.src.layers.core.tf_op_layer"
    return {"module": module, "class_name": "TFOpLambda", "config": config, "registered_name": "TFOpLambda",
            "build_config": {}, "name": "tf.io.write_file", "inbound_nodes": call}  # fmt: skip


def test_a_network_that_would_write_a_file_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    path, written = tmp_path / "model.keras", tmp_path / "written"
    save_network(branched(), path)
    change(path, lambda config: config["config"]["layers"].insert(1, file_writing_layer(written)))
    with pytest.raises(TrainingError, match=r"model\.keras: has a keras\.src.*TFOpLambda.*allowed: Activation, Add, "):
        load_network(path)
    assert not written.exists()
    with suppress(AttributeError):  # Keras fails on the layer's output, but only after the file has been written
        keras.models.load_model(path, compile=False)
    assert written.read_text() == "written"


FUNCTION = {"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "function"}
NESTED = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": []}, "registered_name": None}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replace_layer("keras.layers", "Lambda", {"function": "x"}), r"keras\.layers\.Lambda"),
        (replace_layer("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}), r"keras\.layers\.StringLookup"),
        (replace_layer("keras.layers", "TextVectorization", {}), "TextVectorization"),
        (replace_layer("keras.src.layers.core.tf_op_layer", "SlicingOpLambda", {}), "SlicingOpLambda"),
        (replace_layer("os", "system", {}), r"os\.system"),
        (replace_layer(None, "Dense", {"units": 3}), r"None\.Dense"),
        (replace_layer("keras.layers", "Dense", {"units": 3}, "Custom>Dense"), r"Dense registered as Custom>Dense"),
        (replace_layer("keras", "Sequential", NESTED["config"]), r"keras\.Sequential; the layers of keras\.layers"),
        (lambda config: layer_of(config).pop("module"), "layers: .*; module must be present"),
        (lambda config: layer_of(config).update(shared_object_id=1), "with shared_object_id"),
        (lambda config: layer_of(config).update(compile_config={"loss": "mse"}), "with compile_config"),
        (lambda config: layer_of(config)["build_config"].update(input_shape=FUNCTION), "input_shape is builtins.func"),
        (set_field("activation", "exponential"), "activation of layer dense.* is exponential; linear, relu, softmax"),
        (set_field("activation", FUNCTION), r"activation of layer dense.* is builtins\.function .*; only numbers"),
        (set_field("activation", ["relu"]), "activation of layer dense.* is 'relu'; only numbers"),
        (set_field("dtype", "string"), "dtype of layer dense.* is string; float32, uint8"),
        (set_field("kernel_regularizer", "l2"), "kernel_regularizer of layer dense.* is 'l2'"),
        (set_field("kernel_constraint", {"class_name": "MaxNorm", "config": {}}), r"kernel_constraint .*\.MaxNorm"),
        (set_field("kernel_initializer", "zeros"), "values of kernel_initializer of layer dense"),
        (
            set_field("bias_initializer", FUNCTION | {"module": "keras.initializers"}),
            r"keras\.initializers\.function .*allowed: GlorotUniform, Ones, Zeros",
        ),
        (lambda config: config["config"].update(layers={}), "layers of the network are not a list"),
        (lambda config: config.update(module="os"), r"network os\.Sequential; only Sequential and Functional"),
        (lambda config: config.update(registered_name="Custom>Net"), "registered as Custom>Net"),
        (lambda config: config["config"].update(build_input_shape=FUNCTION), "build_input_shape is"),
        (lambda config: config.update(compile_config={"loss": FUNCTION}), r"builtins\.function in compile_config"),
    ],
)
def test_a_configuration_with_anything_else_is_rejected(
    edit: Callable[[Config], Any], message: str, saved: Path
) -> None:
    change(saved, edit)
    with pytest.raises(TrainingError, match=message) as error:
        load_network(saved)
    assert str(saved) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "tensor",
    [
        ["_CONSTANT_VALUE", -1, "text", {}],
        ["pixels", 0, 0, {"training": True}],
        ["pixels", 1, 0, {}],  # a second call, which there is not
        ["relu", 0, 0, {}],  # a later layer, for which Keras would wait forever
        ["pixels"],
        [],
        "pixels",
    ],
)
def test_layers_are_called_only_on_earlier_layers(tensor: Any, tmp_path: Path) -> None:
    save_network(branched(), tmp_path / "model.keras")
    change(tmp_path / "model.keras", lambda config: layer_of(config).update(inbound_nodes=[[tensor]]))
    with pytest.raises(TrainingError, match=r"inbound_nodes of layer first: .*only the outputs of earlier layers"):
        load_network(tmp_path / "model.keras")


def test_a_layer_is_called_twice_at_most(tmp_path: Path) -> None:
    save_network(branched(), tmp_path / "model.keras")
    calls = [[["pixels", 0, 0, {}]]] * 3
    change(tmp_path / "model.keras", lambda config: layer_of(config).update(inbound_nodes=calls))
    with pytest.raises(TrainingError, match="inbound_nodes of layer first are not 1 or 2 calls"):
        load_network(tmp_path / "model.keras")


def edited_weights(edit: Callable[[h5py.File], object], path: Path) -> bytes:
    with zipfile.ZipFile(path) as file:
        content = io.BytesIO(file.read(WEIGHTS))
    with h5py.File(content, "a") as weights_file:
        edit(weights_file)
    return content.getvalue()


def replace_kernel(weights_file: h5py.File, *arguments: Any, **options: Any) -> None:
    group = weights_file["layers/dense/vars"]
    del group["0"]
    group.create_dataset("0", *arguments, **options)


@pytest.mark.parametrize(
    "edit",
    [
        lambda file: file["layers/dense"].update({"extra": h5py.ExternalLink("/etc/other.h5", "/")}),
        lambda file: file["layers"].update({"extra": h5py.SoftLink("/layers/dense")}),
        lambda file: replace_kernel(file, (4, 3), "f4", external=[("/etc/hostname", 0, 48)]),
        lambda file: replace_kernel(file, (1_000_000, 1_000_000), "f4", chunks=(10, 10)),
        lambda file: replace_kernel(file, (1_000_000, 1_000_000), "f4"),
        lambda file: replace_kernel(file, data=np.zeros((400, 300), "f4"), compression="gzip"),
        lambda file: replace_kernel(file, data=["a text"], dtype=h5py.string_dtype()),
        lambda file: replace_kernel(file, data=h5py.Empty("f4")),
        lambda file: file.create_virtual_dataset("extra", h5py.VirtualLayout((2,), "f4")),
    ],
)
def test_weights_are_plain_numbers_in_the_file_itself(edit: Callable[[h5py.File], object], saved: Path) -> None:
    rewrite(saved, {WEIGHTS: edited_weights(edit, saved)})
    with pytest.raises(TrainingError, match=rf"model\.keras: .*{WEIGHTS}"):
        load_network(saved)


def test_weights_that_could_be_pickled_are_never_read(saved: Path) -> None:
    rewrite(saved, {WEIGHTS: None, "model.weights.npz": b"a pickle"})
    with pytest.raises(TrainingError, match=r"contains .*model\.weights\.npz; metadata\.json, config\.json"):
        load_network(saved)


def test_a_saved_network_with_additional_files_is_rejected(saved: Path) -> None:
    rewrite(saved, {"assets/layers/vocabulary.txt": b"words"})
    with pytest.raises(TrainingError, match=r"contains .*assets/layers/vocabulary\.txt"):
        load_network(saved)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_saved_network_with_duplicate_files_is_rejected(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as file:
        file.writestr(CONFIG, "{}")
    with pytest.raises(TrainingError, match=r"config\.json, model\.weights\.h5, config\.json"):
        load_network(saved)


def test_oversized_files_are_rejected(saved: Path) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        rewrite(saved, {CONFIG: b"[" + b" " * 10_000_000 + b"]"}, compression)
        with pytest.raises(TrainingError, match=r"config\.json has 10,000,002 bytes; at most 4,194,304 are allowed"):
            load_network(saved)
    rewrite(saved, {WEIGHTS: bytes(70_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(TrainingError, match=r"weights\.h5 is compressed and has 70,000,000 bytes; at most 67,108,864"):
        load_network(saved)


def test_a_file_that_unpacks_to_more_than_it_declares_is_not_unpacked(saved: Path) -> None:
    rewrite(saved, {WEIGHTS: bytes(70_000_000)}, zipfile.ZIP_DEFLATED)
    content, declared = saved.read_bytes(), (70_000_000).to_bytes(4, "little")
    saved.write_bytes(content.replace(declared, (1000).to_bytes(4, "little")))
    tracemalloc.start()
    with pytest.raises(TrainingError, match=r"model\.keras: "):
        load_network(saved)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_file_that_is_compressed_in_another_way_is_rejected(saved: Path) -> None:
    rewrite(saved, {}, zipfile.ZIP_BZIP2)
    with pytest.raises(TrainingError, match=r"metadata\.json is compressed in another way than by deflating"):
        load_network(saved)


def test_a_compressed_network_is_the_same(saved: Path) -> None:
    expected = load_network(saved).get_weights()
    rewrite(saved, {}, zipfile.ZIP_DEFLATED)
    np.testing.assert_equal(load_network(saved).get_weights(), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a zip file"), (b"\x89HDF\r\n\x1a\n", "not a zip file"), (None, "no such file")],
)
def test_the_message_names_a_file_that_is_not_a_network(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(TrainingError, match=rf"model\.keras: .*{message}"):
        load_network(tmp_path / "model.keras")


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_rejected_with_a_message(name: str, saved: Path) -> None:
    rewrite(saved, {name: b"[" * 100_000})
    if name in (CONFIG, WEIGHTS):  # metadata.json is not read
        with pytest.raises(TrainingError, match=r"model\.keras: not a network in the Keras format: "):
            load_network(saved)
