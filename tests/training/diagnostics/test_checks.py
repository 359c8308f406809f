from pathlib import Path
from typing import Any

import horovod.tensorflow.keras as hvd
import keras
import numpy as np
from keras import layers

from training.callbacks import EpochEnd
from training.checkpoints import Checkpoints
from training.cluster.reports import ReceiverAddress
from training.diagnostics.checks import findings
from training.diagnostics.probe import Samples
from training.training_settings import Training

CLASSES = ["A", "B", "C", "D", "E", "F"]
SIDE = 8
NOBODY = ReceiverAddress("127.0.0.1", 9, b"nobody listens", 0)
Arrays = tuple[np.ndarray, np.ndarray]


def pictures(count: int, seed: int) -> Arrays:
    """Noise with a bright row that tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    images = rng.integers(0, 100, (count, SIDE, SIDE))
    images[np.arange(count), labels] += 120
    return images.reshape(count, -1).astype(np.uint8), labels


def network(*inner: layers.Layer) -> keras.Model:
    inner = inner or (layers.Dense(32, activation="relu"),)
    return keras.Sequential(
        [
            layers.Rescaling(1 / 255, input_shape=(SIDE * SIDE,)),
            *inner,
            layers.Dense(len(CLASSES), activation="softmax"),
        ]
    )


def checked(
    folder: Path,
    model: keras.Model,
    train: Arrays,
    validation: Arrays,
    optimizer: keras.optimizers.Optimizer,
    epochs: int = 4,
) -> dict[str, str]:
    """The sentence of each check that a real training of the network has."""
    hvd.init()
    keras.utils.set_random_seed(0)
    (x, y), count = train, len(CLASSES)
    samples = Samples.of({name: [p.reshape(SIDE, SIDE, 1) for p in x[y == i][:6]] for i, name in enumerate(CLASSES)})
    checkpoints = Checkpoints(folder.as_uri()).claim()
    end = EpochEnd(Training(epochs=epochs), len(x), checkpoints, [], [], 0.0, NOBODY, samples)
    model.compile(optimizer, "categorical_crossentropy", ["accuracy"])
    model.fit(
        x, np.eye(count)[y], 20, epochs, verbose=0, callbacks=[end],
        validation_data=(validation[0], np.eye(count)[validation[1]]),
    )  # fmt: skip
    last = checkpoints.last()
    assert last is not None
    reported = [finding for row in last.history for finding in row["findings"] if not finding["resolved"]]
    return {finding["check"]: finding["sentence"] for finding in reported}


def test_a_training_that_learns_is_left_in_peace(tmp_path: Path) -> None:
    adam = keras.optimizers.Adam(0.003)
    assert checked(tmp_path, network(), pictures(1200, 0), pictures(300, 1), adam, epochs=8) == {}


def test_steps_that_are_too_long_raise_the_loss(tmp_path: Path) -> None:
    reported = checked(tmp_path, network(), pictures(1200, 0), pictures(300, 1), keras.optimizers.Adam(10.0))
    assert "lower --training.learning-rate" in reported["learning rate too large"]
    assert "labels shuffled" not in reported


def test_steps_that_are_too_short_leave_the_weights_where_they_are(tmp_path: Path) -> None:
    reported = checked(tmp_path, network(), pictures(1200, 0), pictures(300, 1), keras.optimizers.Adam(1e-6))
    assert list(reported) == ["learning rate too small"]
    assert "raise --training.learning-rate" in reported["learning rate too small"]


def test_labels_of_other_pictures_are_as_good_as_guessed(tmp_path: Path) -> None:
    (x, y), (other, truth) = pictures(1200, 0), pictures(300, 1)
    rng = np.random.default_rng(0)
    shuffled = (x, rng.permutation(y)), (other, rng.permutation(truth))
    reported = checked(tmp_path, network(layers.Dense(8, activation="relu")), *shuffled, keras.optimizers.Adam(0.003))
    assert list(reported) == ["labels shuffled"]
    assert "--data" in reported["labels shuffled"]


def test_a_layer_whose_units_are_all_silent_is_named(tmp_path: Path) -> None:
    silent = layers.Dense(16, activation="relu", bias_initializer=keras.initializers.Constant(-100), name="silent")
    reported = checked(tmp_path, network(silent), pictures(600, 0), pictures(300, 1), keras.optimizers.Adam(0.003))
    assert list(reported) == ["dead ReLUs"]
    assert "100% of silent" in reported["dead ReLUs"]


def test_gradients_that_grow_from_layer_to_layer_explode(tmp_path: Path) -> None:
    large = keras.initializers.RandomNormal(stddev=3.0, seed=0)
    deep = [layers.Dense(32, kernel_initializer=large, name=f"layer{i}") for i in range(4)]
    reported = checked(tmp_path, network(*deep), pictures(600, 0), pictures(300, 1), keras.optimizers.Adam(1e-5))
    assert "lower --training.learning-rate" in reported["exploding gradients"]


def test_gradients_that_shrink_from_layer_to_layer_vanish(tmp_path: Path) -> None:
    deep = [layers.Dense(16, activation="sigmoid", name=f"layer{i}") for i in range(8)]
    reported = checked(tmp_path, network(*deep), pictures(600, 0), pictures(300, 1), keras.optimizers.Adam(0.003))
    assert "the first layer, layer0" in reported["vanishing gradients"]
    assert "--network.name" in reported["vanishing gradients"]


def test_a_class_with_next_to_no_pictures_is_never_predicted(tmp_path: Path) -> None:
    x, y = pictures(1200, 0)
    kept = (y != 5) | (np.cumsum(y == 5) <= 1)
    reported = checked(tmp_path, network(), (x[kept], y[kept]), pictures(300, 1), keras.optimizers.Adam(0.003))
    assert list(reported) == ["class never predicted"]
    assert reported["class never predicted"].startswith("F is never predicted")


def test_memorized_pictures_let_validation_and_training_diverge(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (x, y), (other, truth) = pictures(120, 0), pictures(120, 1)
    noise = (x, rng.permutation(y)), (other, rng.permutation(truth))
    large = network(layers.Dense(256, activation="relu"))
    reported = checked(tmp_path, large, *noise, keras.optimizers.Adam(0.003), epochs=40)
    assert "--training.early-stopping" in reported["overfitting"]


def epoch(number: int, **figures: Any) -> dict[str, Any]:
    row = {"epoch": number, "loss": 1.0, "accuracy": 0.1, "val_loss": 1.0, "val_accuracy": 0.1, "curve": [1.0]}
    return row | figures


def test_a_class_that_is_missed_at_first_is_not_one_that_is_never_predicted() -> None:
    missed, answered = {"never_predicted": [5]}, {"never_predicted": []}
    history = [epoch(1, accuracy=0.9, probe=missed), epoch(2, accuracy=0.97, probe=missed)]
    assert findings(history, CLASSES) == []
    assert findings([*history, epoch(4, accuracy=0.99, probe=answered)], CLASSES) == []
    [reported] = findings([*history, epoch(4, accuracy=0.99, probe=missed)], CLASSES)
    assert reported["check"] == "class never predicted"


def test_a_finding_is_reported_once_and_taken_back_when_it_no_longer_holds() -> None:
    history = [epoch(1, curve=[20.0] * 4)]
    history[0]["findings"] = findings(history, CLASSES)
    assert [reported["check"] for reported in history[0]["findings"]] == ["learning rate too large"]
    history.append(epoch(2, curve=[20.0] * 4))
    assert findings(history, CLASSES) == []
    history[1]["findings"] = []
    history.append(epoch(3, accuracy=0.6, val_accuracy=0.6))
    [resolved] = findings(history, CLASSES)
    assert (resolved["check"], resolved["resolved"]) == ("learning rate too large", True)
    history[2]["findings"] = [resolved]
    history.append(epoch(4, curve=[20.0] * 4, accuracy=0.6, val_accuracy=0.6))
    assert [finding["resolved"] for finding in findings(history, CLASSES)] == [False]


def test_one_noisy_epoch_is_no_overfitting() -> None:
    losses = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.25]
    val_losses = [1.0, 0.8, 0.5, 0.52, 0.9, 0.51, 0.49]
    history: list[dict[str, Any]] = []
    for number, (loss, val_loss) in enumerate(zip(losses, val_losses, strict=True), 1):
        history.append(epoch(number, loss=loss, accuracy=0.9, val_loss=val_loss, val_accuracy=0.9))
        assert findings(history, CLASSES) == []
