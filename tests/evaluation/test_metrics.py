import numpy as np
import pytest
from sklearn.metrics import classification_report

from evaluation.metrics import confused_pairs, grouped_interval, mcnemar, summarize, wilson_interval

CLASS_NAMES = ["A", "B", "C", "D"]
#                      A  B  C  D  predicted
CONFUSION = np.array([[8, 2, 0, 0],
                      [1, 5, 0, 0],
                      [0, 3, 7, 0],
                      [0, 0, 0, 0]])  # fmt: skip


def test_metrics_agree_with_scikit_learn() -> None:
    truth = np.repeat(range(4), CONFUSION.sum(axis=1))
    predicted = np.concatenate([np.repeat(range(4), row) for row in CONFUSION])
    expected = classification_report(truth, predicted, labels=[0, 1, 2], output_dict=True, zero_division=0)
    summary = summarize(CONFUSION, CLASS_NAMES)
    assert summary["accuracy"] == pytest.approx(20 / 26)
    for mean in ("macro", "weighted"):
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert summary[mean][name] == pytest.approx(expected[f"{mean} avg"][key])
    for index, name in enumerate("ABC"):
        assert summary["classes"][name]["f1"] == pytest.approx(expected[str(index)]["f1-score"])
        assert summary["classes"][name]["support"] == expected[str(index)]["support"]


def test_false_positive_rate_is_a_fraction_of_other_classes_and_false_negative_rate_of_the_class() -> None:
    b = summarize(CONFUSION, CLASS_NAMES)["classes"]["B"]
    assert b["false_positive_rate"] == pytest.approx(5 / 20)
    assert b["false_negative_rate"] == pytest.approx(1 / 6)


def test_a_class_without_pictures_has_zero_metrics_and_is_not_an_error() -> None:
    assert summarize(CONFUSION, CLASS_NAMES)["classes"]["D"] == {
        "precision": 0, "recall": 0, "f1": 0, "support": 0, "false_positive_rate": 0, "false_negative_rate": 0,
    }  # fmt: skip


def test_wilson_interval_matches_newcombes_published_example_and_stays_within_0_and_1() -> None:
    # Newcombe (1998), table I: 81 of 263
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(100, 100) == pytest.approx((0.9630, 1.0), abs=5e-5)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(7, 7) == 1
    assert mcnemar(6, 0) == pytest.approx(2 / 2**6)
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(1, 9) == mcnemar(9, 1)


def test_confused_pairs_come_most_frequent_first() -> None:
    pairs = confused_pairs(CONFUSION, CLASS_NAMES)
    assert pairs[["label", "prediction", "count"]].to_numpy().tolist() == [["C", "B", 3], ["A", "B", 2], ["B", "A", 1]]
    assert pairs["fraction"][0] == pytest.approx(0.3)


def test_without_mistakes_there_are_no_confused_pairs() -> None:
    assert confused_pairs(np.diag([3, 4, 0, 1]), CLASS_NAMES).empty


def test_the_interval_of_independent_pictures_is_wilsons() -> None:
    assert grouped_interval(0.9, 200) == pytest.approx(wilson_interval(180, 200))
    assert grouped_interval(1.0, 24) == pytest.approx(wilson_interval(24, 24))
