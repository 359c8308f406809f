import keras
import numpy as np
import pytest

from models.model_settings import Optimizer
from models.optimizers import build_optimizer


@pytest.mark.parametrize(
    ("settings", "class_name", "expected"),
    [
        (Optimizer(), "Adam", {"learning_rate": 0.01, "epsilon": 1e-7, "weight_decay": None}),
        (Optimizer("adamw"), "Adam", {"weight_decay": 0.004}),
        (Optimizer("adamw", weight_decay=0.0), "Adam", {"weight_decay": None}),
        (Optimizer("rmsprop", momentum=0.5, epsilon=1e-8), "RMSprop", {"momentum": 0.5, "epsilon": 1e-8}),
        (Optimizer("sgd", momentum=0.9, weight_decay=0.1), "SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ],
)
def test_the_optimizer_is_that_of_keras_with_the_settings_of_the_experiment(
    settings: Optimizer, class_name: str, expected: dict[str, float | None]
) -> None:
    optimizer = build_optimizer(settings, 0.01)
    assert type(optimizer).__name__ == class_name
    config = optimizer.get_config()
    assert {name: config[name] if name != "learning_rate" else pytest.approx(0.01) for name in expected} == expected


def test_adamw_updates_weights_like_that_of_keras() -> None:
    def updated_weights(optimizer: keras.optimizers.Optimizer) -> np.ndarray:
        weights = keras.backend.variable(np.array([1.0, -2.0], dtype=np.float32))
        for _ in range(3):
            optimizer.apply_gradients([(weights * 0.5 + 1, weights)])
        return weights.numpy()

    ours = build_optimizer(Optimizer("adamw", weight_decay=0.1), 0.01)
    reference = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    np.testing.assert_allclose(updated_weights(ours), updated_weights(reference), rtol=1e-6)
