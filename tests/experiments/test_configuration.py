"""The command line and the experiment files."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.arguments import CompareArguments, PredictArguments
from experiments.command_line import parse_arguments, parse_experiment, with_overrides
from experiments.configuration import (
    CnnExperiment,
    Experiment,
    ForestExperiment,
    LearningCurveExperiment,
    ModelsExperiment,
    OptimizersExperiment,
    SearchExperiment,
)
from experiments.packages import ROOT
from tests.conftest import as_on_terminal


def cnn(*arguments: str) -> CnnExperiment:
    return parse_experiment(CnnExperiment, "", list(arguments))


KINDS = {
    "asl_images_forest": ForestExperiment,
    "sign_mnist_forest": ForestExperiment,
    "sign_mnist_models": ModelsExperiment,
    "sign_mnist_optimizers": OptimizersExperiment,
    "search_resnet50": SearchExperiment,
    "search_sign_mnist": SearchExperiment,
}


@pytest.mark.parametrize("file", sorted((ROOT / "conf").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_is_valid(file: Path) -> None:
    experiment = parse_experiment(KINDS.get(file.stem, CnnExperiment), "", ["--config", str(file)])
    assert isinstance(experiment, Experiment)


def test_the_dexnets_have_their_published_settings() -> None:
    first, second, third = (cnn("--config", str(ROOT / f"conf/asl_images_dexnet_v{i}.yaml")) for i in (1, 2, 3))
    assert (first.preprocessing.shape, first.preprocessing.normalization) == ((200, 200, 3), "channel")
    assert first.training.optimizer.name == "sgd"
    # two processes have batches of 64 in total, and Horovod doubles the learning rate
    assert (first.num_proc * first.training.batch_size, first.num_proc * first.training.learning_rate) == (64, 0.008)
    assert (first.split.validation, first.split.test, first.fraction) == (0.2, 0.1, 1)
    assert second.network.name == "dexnet_v2"
    assert (third.network.name, third.fraction) == ("dexnet_v1", pytest.approx(1 / 3, abs=1e-3))


def test_the_baseline_has_its_published_settings() -> None:
    experiment = cnn("--config", str(ROOT / "conf/sign_mnist_baseline.yaml"))
    training = experiment.training
    assert (experiment.network.name, experiment.num_proc, experiment.split.validation) == ("baseline", 2, 0.1)
    assert (training.epochs, training.batch_size, training.learning_rate) == (15, 120, 0.001)
    assert (training.schedule, training.label_smoothing, training.augmentation.rotation) == ("constant", 0, 0)


def test_a_learning_curve_has_the_same_number_of_steps_for_fewer_pictures_also_in_fine_tuning() -> None:
    photo = cnn("--config", str(ROOT / "conf/asl_images_resnet50.yaml")).training
    quarter = photo.times(1 / 0.25)
    assert quarter.epochs == 4 * photo.epochs
    assert quarter.fine_tuning is not None
    assert photo.fine_tuning is not None
    assert quarter.all_epochs == 4 * photo.all_epochs
    assert quarter.fine_tuning.layer == photo.fine_tuning.layer


def test_an_option_overrides_the_file_and_may_be_written_with_dashes() -> None:
    file = str(ROOT / "conf/sign_mnist.yaml")
    experiment = cnn("--config", file, "--num-proc", "4", "--training.batch-size=7", "--training.epochs", "3")
    assert (experiment.num_proc, experiment.training.batch_size, experiment.training.epochs) == (4, 7, 3)
    assert experiment.training.augmentation.rotation == 10


def test_a_value_with_dashes_is_not_changed() -> None:
    assert cnn("--run=runs/a-b_c--d", "--overwrite").run == "runs/a-b_c--d"


def test_an_experiment_as_yaml_has_every_field_and_can_be_read_again(tmp_path: Path) -> None:
    first = parse_experiment(CnnExperiment, "", ["--seed", "5"])
    assert {"data", "run", "store", "seed", "num_proc", "training", "network", "preprocessing"} <= set(
        yaml.safe_load(first.to_yaml())
    )
    (tmp_path / "again.yaml").write_text(first.to_yaml())
    assert cnn("--config", str(tmp_path / "again.yaml")) == first


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--num-proc", "0"], ["num_proc", "v>0", "0"]),
        (["--network.name", "alexnet"], ["network.name", "alexnet", "'baseline', 'handshape'"]),
        (["--training.epochs", "many"], ["training.epochs", "many"]),
        (["--split.validation", "1"], ["split.validation", "v<1"]),
        (["--max-rejected", "-1"], ["max_rejected", "v>=0"]),
        (["--trainin.epochs", "3"], ["--trainin.epochs"]),
        (["--training.epoch", "3"], ["--training.epoch"]),
        (["--config", "no/such.yaml"], ["no/such.yaml", "not exist"]),
        (["--fraction", "0"], ["fraction is 0"]),
        (["--excluded-classes", "[JJ]"], ["excluded_classes has 'JJ'", "A to Z"]),
        (["--preprocessing.size", "1"], ["preprocessing.size is 1", "8 to 1024"]),
        (["--preprocessing.size", "64", "--preprocessing.resize", "32"], ["preprocessing.resize is 32", "size, 64"]),
        (["--split.validation", "0.5", "--split.test", "0.5"], ["leave nothing to train on"]),
        (["--network.weights", "x.h5"], ["network.weights belongs to resnet50"]),
        (["--training.fine-tuning.layer", "conv1"], ["training.fine_tuning belongs to", "handshape"]),
        (["--network.trainable-from", "conv1"], ["network.trainable_from belongs to", "handshape"]),
        (["--training.augmented-pictures", "9"], ["training.augmented_pictures belongs to", "handshape"]),
        (
            ["--network.name", "resnet50", "--training.augmented-pictures", "9", "--training.balance", "true"],
            ["training.augmented_pictures has equally many pictures of each source"],
        ),
        (
            ["--network.name", "resnet50", "--training.augmented-pictures", "9", "--training.fine-tuning.layer", "x"],
            ["training.augmented_pictures cannot be combined with training.fine_tuning"],
        ),
        (["--preprocessing.crop", "face"], ["preprocessing.crop", "'hand', 'center'"]),
        (["--sources", "[{path: a, split: none}]"], ["split", "'train', 'validation', 'test'"]),
        (["--sources", "[{path: a, fraction: 0}]"], ["sources.fraction of a is 0"]),
        (["--sources", "[{path: a, pattern: '(?P<hand>x)'}]"], ["sources.pattern", "hand", "frame, label, signer"]),
        (["--sources", "[{path: a, pattern: '('}]"], ["is no regular expression"]),
        (["--sources", "[{path: a/x}, {path: b/x}]"], ["two are called x"]),
        (["--training.optimizer.name", "lion"], ["training.optimizer.name", "lion"]),
    ],
)
def test_an_invalid_field_or_value_is_rejected_by_name_in_one_line(
    arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cnn(*arguments)
    message = as_on_terminal(capsys.readouterr().err)
    assert caught.value.code == 2
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        (OptimizersExperiment, ["--optimizers", "[{name: adam}, {name: adam}]"], "two or more different ones"),
        (LearningCurveExperiment, ["--fractions", "[1.0]"], "two or more different ones"),
        (LearningCurveExperiment, ["--fractions", "[0.0, 1.0]"], "above 0"),
    ],
)
def test_a_study_of_one_training_is_rejected(
    kind: type[Experiment], arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(kind, "", arguments)
    assert expected in capsys.readouterr().err


RATE = "training.learning_rate"


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ("{}", "search.space is empty"),
        (f"{{{RATE}: {{low: 0.1, high: 0.01}}}}", "low is 0.1 and high 0.01"),
        (f"{{{RATE}: {{low: 0, high: 0.01, log: true}}}}", "a logarithm needs more than 0"),
        (f"{{{RATE}: {{low: 0.1}}}}", "needs low and high, or choices"),
        (f"{{{RATE}: {{choices: [0.1]}}}}", "two or more different ones"),
        (f"{{{RATE}: {{choices: [0.1, 0.2], low: 0.1}}}}", "and not both"),
        ("{preprocessing.size: {choices: [32, 64]}}", "fields of network and training"),
        ("{training.balance: {choices: [true, false]}}", "no trial is trained otherwise"),
        ("{training.label_smoothing: {low: 0.0, high: 0.1}}", "set search.metric to val_accuracy"),
    ],
)
def test_an_invalid_search_space_is_rejected(space: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(SearchExperiment, "", ["--search.space", space])
    assert expected in capsys.readouterr().err


def test_an_unknown_metric_is_rejected_with_the_list_of_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(SearchExperiment, "", ["--search.metric", "test_accuracy"])
    assert "'val_loss', 'val_accuracy'" in capsys.readouterr().err


def test_a_resumed_experiment_may_differ_in_runtime_options_only() -> None:
    arguments = ["--search.space", f"{{{RATE}: {{low: 0.1, high: 0.2}}}}", "--training.epochs", "3"]
    earlier = parse_experiment(SearchExperiment, "", arguments).to_dict()

    def differs(*options: str) -> list[str]:
        return parse_experiment(SearchExperiment, "", [*arguments, *options]).differences(earlier)

    assert differs("--trials", "99", "--parallel", "1", "--training.diagnostics", "false") == []
    assert differs("--training.epochs", "9") == ["training.epochs 3"]
    assert differs("--search.metric", "val_accuracy") == ["search.metric val_loss"]
    assert differs("--search.space", f"{{{RATE}: {{low: 0.1, high: 0.3}}}}") == [f"search.space.{RATE}.high 0.2"]


def test_fields_that_may_contain_a_password_are_not_written() -> None:
    options = ["--tracking", "http://me:secret@host", "--database", "postgresql://me:secret@host/x"]
    space = f"{{{RATE}: {{low: 0.1, high: 0.2}}}}"
    experiment = parse_experiment(SearchExperiment, "", ["--search.space", space, *options])
    assert experiment.database == "postgresql://me:secret@host/x"
    assert "secret" not in experiment.to_yaml()
    assert "secret" not in parse_experiment(CnnExperiment, "", options[:2]).to_yaml()


def test_a_trials_experiment_has_its_values_and_unknown_fields_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    space = f"{{{RATE}: {{low: 0.1, high: 0.2}}}}"
    experiment = parse_experiment(SearchExperiment, "", ["--search.space", space, "--training.epochs", "3"])
    trial = with_overrides(experiment, {RATE: 0.15, "network.head": [8]})
    assert (trial.training.learning_rate, trial.training.epochs, trial.network.head) == (0.15, 3, [8])
    assert "search" not in trial.to_dict()
    for name, value in (("training.learning", 0.1), (RATE, -1.0), ("training.fine_tuning.epochs", 3)):
        with pytest.raises(SystemExit):
            with_overrides(experiment, {name: value})
        assert name in capsys.readouterr().err


def test_an_unknown_field_in_a_file_is_rejected_with_the_list_of_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text("training: {epoch: 3}\n")
    with pytest.raises(SystemExit):
        cnn("--config", str(tmp_path / "x.yaml"))
    message = capsys.readouterr().err
    assert "'epoch'" in message
    assert "training.epochs" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([("--forest.max-depth"), "31"], "30 levels at most"),
        ([("--forest.max-bins"), "1"], "at least 2"),
    ],
)
def test_hyperparameters_that_mllib_does_not_support_are_rejected_before_spark_starts(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(ForestExperiment, "", arguments)
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"), [(["runs/a"], "two or more"), (["a/x", "b/x"], "two are called x"), ([], "runs")]
)
def test_a_comparison_needs_two_runs_of_different_names(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(CompareArguments, "", arguments)
    assert expected in capsys.readouterr().err


def test_help_and_print_config_load_neither_spark_nor_tensorflow() -> None:
    script = (
        "import sys; sys.argv = ['train_cnn.py', sys.argv[1]]\n"
        "try:\n    import jobs.train_cnn; jobs.train_cnn.main()\n"
        "except SystemExit: pass\n"
        "print('loaded', [m for m in ('tensorflow', 'horovod', 'pandas', 'pyspark') if m in sys.modules])"
    )
    for option, expected in (("--help", "--num-proc"), ("--print-config", "num_proc: 2")):
        start = time.monotonic()
        process = subprocess.run(
            [sys.executable, "-c", script, option], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert expected in process.stdout
        assert "loaded []" in process.stdout
        assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("limit: 3", "limit is now timeout"),
        ("plateau: 3", "plateau is now patience"),
        ("training: {watches: false}", "training.watches is now training.diagnostics"),
        ("preprocessing: {normalisation: range}", "preprocessing.normalisation is now preprocessing.normalization"),
        ("preprocessing: {color: grey}", "grey is now gray"),
        ("classes: [Hello]", "classes is now class_names"),
    ],
)
def test_a_renamed_field_is_rejected_with_its_new_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fields: str, message: str
) -> None:
    (tmp_path / "old.yaml").write_text(f"{fields}\nsearch: {{space: {{{RATE}: {{low: 0.1, high: 0.2}}}}}}\n")
    with pytest.raises(SystemExit):
        parse_experiment(SearchExperiment, "", ["--config", str(tmp_path / "old.yaml")])
    assert message in capsys.readouterr().err


def test_a_renamed_option_is_rejected_with_its_new_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(PredictArguments, "", ["runs/cnn", "data", "--draw", "4"])
    assert "draw is now num_examples" in capsys.readouterr().err


NETWORK = {"name": "network", "network": {}, "training": {"epochs": 3}}
FOREST = {"name": "forest", "forest": {"trees": 7}}


def compared(*arguments: str, models: list[dict[str, Any]]) -> ModelsExperiment:
    return parse_experiment(ModelsExperiment, "", ["--models", json.dumps(models), *arguments])


def test_the_models_of_a_comparison_differ_in_nothing_but_their_own_settings_and_the_seed() -> None:
    experiment = compared("--seed", "5", "--seeds", "[1, 2]", "--preprocessing.size", "32", models=[NETWORK, FOREST])
    trainings = experiment.experiments("runs/models")
    seeds = {name: [training.seed for training in by_seed] for name, by_seed in trainings.items()}
    assert seeds == {"network": [1, 2], "forest": [1, 2]}
    network, forest = trainings["network"][1], trainings["forest"][1]
    assert (network.run, forest.run) == ("runs/models/network-seed-2", "runs/models/forest-seed-2")
    assert isinstance(network, CnnExperiment)
    assert isinstance(forest, ForestExperiment)
    assert (network.training.epochs, forest.forest.trees) == (3, 7)
    for training in (network, forest):
        assert (training.seed, training.split_seed, training.preprocessing.size) == (2, 5, 32)


def test_without_seeds_the_runs_of_a_comparison_have_the_names_of_the_models() -> None:
    trainings = compared("--seed", "5", models=[NETWORK, FOREST]).experiments("runs/models")
    runs = {name: [(training.seed, training.run) for training in by_seed] for name, by_seed in trainings.items()}
    assert runs == {"network": [(5, "runs/models/network")], "forest": [(5, "runs/models/forest")]}


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([NETWORK], "two or more with different names"),
        ([NETWORK, NETWORK], "two or more with different names"),
        ([NETWORK, {"name": "both", "network": {}, "forest": {}}], "both needs either network or forest"),
        ([NETWORK, {"name": "neither"}], "neither needs either network or forest"),
        ([NETWORK, FOREST | {"training": {}}], "forest is a random forest, which has no training"),
        ([NETWORK, FOREST | {"name": "a/b"}], "'a/b' cannot be the name of a folder"),
        ([NETWORK, FOREST | {"name": "comparison"}], "the name of the folder with the comparison"),
        ([FOREST, NETWORK | {"training": {"augmented_pictures": 5}}], "training.augmented_pictures belongs to"),
        ([FOREST, NETWORK | {"training": {"epoch": 5}}], "epoch"),
    ],
)
def test_invalid_models_of_a_comparison_are_rejected(
    models: list[dict[str, Any]], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        compared(models=models)
    message = as_on_terminal(capsys.readouterr().err)
    assert expected in message
    assert message.count("\n") == 1
