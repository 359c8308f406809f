import pytest

from models.optimizers import build_optimizer
from models.settings import Optimizer


@pytest.mark.parametrize(
    ("settings", "kind", "expected"),
    [
        (Optimizer(), "Adam", {"learning_rate": 0.01, "epsilon": 1e-7, "weight_decay": None}),
        (Optimizer("adamw", weight_decay=0.004), "AdamW", {"weight_decay": 0.004}),
        (Optimizer("adamw"), "AdamW", {"weight_decay": 0.0}),
        (Optimizer("rmsprop", momentum=0.5, epsilon=1e-8), "RMSprop", {"momentum": 0.5, "epsilon": 1e-8}),
        (Optimizer("sgd", momentum=0.9, weight_decay=0.1), "SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ],
)
def test_the_optimizer_is_keras_own_with_the_settings_of_the_experiment(
    settings: Optimizer, kind: str, expected: dict[str, float | None]
) -> None:
    built = build_optimizer(settings, 0.01)
    assert type(built).__name__ == kind
    config = built.get_config()
    assert {name: config[name] if name != "learning_rate" else pytest.approx(0.01) for name in expected} == expected
