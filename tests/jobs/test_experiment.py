"""The command line and the experiment files."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from jobs.command_line import parse_compare, parse_experiment, with_values
from jobs.experiment import (
    CnnExperiment,
    Experiment,
    ForestExperiment,
    LearningCurveExperiment,
    OptimizersExperiment,
    SearchExperiment,
    differences,
)
from jobs.session import ROOT


def cnn(*arguments: str) -> CnnExperiment:
    return parse_experiment(CnnExperiment, "", list(arguments))[0]


KINDS = {
    "asl_images_forest": ForestExperiment,
    "sign_mnist_forest": ForestExperiment,
    "sign_mnist_optimizers": OptimizersExperiment,
    "search_resnet50": SearchExperiment,
    "search_sign_mnist": SearchExperiment,
}


@pytest.mark.parametrize("file", sorted((ROOT / "conf").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_is_valid(file: Path) -> None:
    experiment, _ = parse_experiment(KINDS.get(file.stem, CnnExperiment), "", ["--config", str(file)])
    assert isinstance(experiment, Experiment)


def test_the_published_dexnets_are_as_published() -> None:
    first, second, third = (cnn("--config", str(ROOT / f"conf/asl_images_dexnet_v{i}.yaml")) for i in (1, 2, 3))
    assert (first.preprocessing.shape, first.preprocessing.normalisation) == ((200, 200, 3), "channel")
    assert first.training.optimizer.name == "sgd"
    # two processes: batches of 64, and Horovod doubles the rate
    assert (first.num_proc * first.training.batch_size, first.num_proc * first.training.learning_rate) == (64, 0.008)
    assert (first.split.validation, first.split.test, first.fraction) == (0.2, 0.1, 1)
    assert second.network.name == "dexnet_v2"
    assert (third.network.name, third.fraction) == ("dexnet_v1", pytest.approx(1 / 3, abs=1e-3))


def test_the_published_settings_are_the_baselines() -> None:
    experiment = cnn("--config", str(ROOT / "conf/sign_mnist_baseline.yaml"))
    training = experiment.training
    assert (experiment.network.name, experiment.num_proc, experiment.split.validation) == ("baseline", 2, 0.1)
    assert (training.epochs, training.batch_size, training.learning_rate) == (15, 120, 0.001)
    assert (training.schedule, training.label_smoothing, training.augmentation.rotation) == ("constant", 0, 0)


def test_a_learning_curve_has_as_many_steps_for_fewer_pictures_in_the_fine_tuning_too() -> None:
    photo = cnn("--config", str(ROOT / "conf/asl_images_handshape.yaml")).training
    quarter = photo.times(1 / 0.25)
    assert quarter.epochs == 4 * photo.epochs
    assert quarter.fine_tuning is not None
    assert photo.fine_tuning is not None
    assert quarter.all_epochs == 4 * photo.all_epochs
    assert quarter.fine_tuning.layer == photo.fine_tuning.layer


def test_an_option_outdoes_the_file_and_may_be_written_with_dashes() -> None:
    file = str(ROOT / "conf/sign_mnist.yaml")
    experiment = cnn("--config", file, "--num-proc", "4", "--training.batch-size=7", "--training.epochs", "3")
    assert (experiment.num_proc, experiment.training.batch_size, experiment.training.epochs) == (4, 7, 3)
    assert experiment.training.augmentation.rotation == 10


def test_a_value_that_begins_with_dashes_is_left_alone() -> None:
    assert cnn("--run=runs/a-b_c--d", "--overwrite").run == "runs/a-b_c--d"


def test_the_resolved_experiment_names_every_field_and_is_an_experiment_again(tmp_path: Path) -> None:
    first, text = parse_experiment(CnnExperiment, "", ["--seed", "5"])
    assert {"data", "run", "store", "seed", "num_proc", "training", "network", "preprocessing"} <= set(
        yaml.safe_load(text)
    )
    (tmp_path / "again.yaml").write_text(text)
    assert cnn("--config", str(tmp_path / "again.yaml")) == first


@pytest.mark.parametrize(
    ("arguments", "said"),
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
        (["--preprocessing.size", "1"], ["preprocessing.size is 1", "8 to 1024"]),
        (["--preprocessing.size", "64", "--preprocessing.resize", "32"], ["preprocessing.resize is 32", "size, 64"]),
        (["--split.validation", "0.5", "--split.test", "0.5"], ["leave nothing to train on"]),
        (["--network.weights", "x.h5"], ["network.weights belongs to resnet50"]),
        (["--training.fine-tuning.layer", "conv1"], ["training.fine_tuning belongs to", "handshape"]),
        (["--sources", "[{path: a, pattern: '(?P<hand>x)'}]"], ["sources.pattern", "hand", "frame, label, signer"]),
        (["--sources", "[{path: a, pattern: '('}]"], ["is no regular expression"]),
        (["--sources", "[{path: a/x}, {path: b/x}]"], ["two are called x"]),
        (["--training.optimizer.name", "lion"], ["training.optimizer.name", "lion"]),
    ],
)
def test_a_wrong_field_or_value_is_refused_by_name_in_one_line(
    arguments: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cnn(*arguments)
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    for words in said:
        assert words in message


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (OptimizersExperiment, ["--optimizers", "[{name: adam}, {name: adam}]"], "two or more different ones"),
        (LearningCurveExperiment, ["--fractions", "[1.0]"], "two or more different ones"),
        (LearningCurveExperiment, ["--fractions", "[0.0, 1.0]"], "above 0"),
    ],
)
def test_a_study_of_one_training_is_refused(
    kind: type[Experiment], arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(kind, "", arguments)
    assert said in capsys.readouterr().err


RATE = "training.learning_rate"


@pytest.mark.parametrize(
    ("space", "said"),
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
def test_a_space_that_cannot_be_searched_is_refused(space: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(SearchExperiment, "", ["--search.space", space])
    assert said in capsys.readouterr().err


def test_a_metric_that_nobody_reports_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(SearchExperiment, "", ["--search.metric", "test_accuracy"])
    assert "'val_loss', 'val_accuracy'" in capsys.readouterr().err


def test_an_experiment_that_goes_on_may_differ_in_what_is_of_the_call_alone() -> None:
    arguments = ["--search.space", f"{{{RATE}: {{low: 0.1, high: 0.2}}}}", "--training.epochs", "3"]
    _, began = parse_experiment(SearchExperiment, "", arguments)

    def differs(*more: str) -> list[str]:
        _, now = parse_experiment(SearchExperiment, "", [*arguments, *more])
        return differences(yaml.safe_load(began), yaml.safe_load(now))

    assert differs("--trials", "99", "--parallel", "1", "--training.watches", "false") == []
    assert differs("--training.epochs", "9") == ["training.epochs 3"]
    assert differs("--search.metric", "val_accuracy") == ["search.metric val_loss"]
    assert differs("--search.space", f"{{{RATE}: {{low: 0.1, high: 0.3}}}}") == [f"search.space.{RATE}.high 0.2"]


def test_what_may_hold_a_password_is_in_no_file() -> None:
    places = ["--tracking", "http://me:secret@host", "--database", "postgresql://me:secret@host/x"]
    space = f"{{{RATE}: {{low: 0.1, high: 0.2}}}}"
    experiment, text = parse_experiment(SearchExperiment, "", ["--search.space", space, *places])
    assert experiment.database == "postgresql://me:secret@host/x"
    assert "secret" not in text
    assert "secret" not in parse_experiment(CnnExperiment, "", places[:2])[1]


def test_a_trial_s_experiment_has_its_values_and_no_field_that_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    space = f"{{{RATE}: {{low: 0.1, high: 0.2}}}}"
    _, text = parse_experiment(SearchExperiment, "", ["--search.space", space, "--training.epochs", "3"])
    tried, resolved = with_values(text, {RATE: 0.15, "network.head": [8]})
    assert (tried.training.learning_rate, tried.training.epochs, tried.network.head) == (0.15, 3, [8])
    assert "search" not in yaml.safe_load(resolved)
    for place, value in (("training.learning", 0.1), (RATE, -1.0), ("training.fine_tuning.epochs", 3)):
        with pytest.raises(SystemExit):
            with_values(text, {place: value})
        assert place in capsys.readouterr().err


def test_an_unknown_field_in_a_file_is_refused_with_the_fields_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yaml").write_text("training: {epoch: 3}\n")
    with pytest.raises(SystemExit):
        cnn("--config", str(tmp_path / "x.yaml"))
    message = capsys.readouterr().err
    assert "'epoch'" in message
    assert "training.epochs" in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([("--forest.max-depth"), "31"], "30 levels at most"),
        ([("--forest.max-bins"), "1"], "at least 2"),
    ],
)
def test_what_mllib_cannot_grow_is_refused_before_spark_starts(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_experiment(ForestExperiment, "", arguments)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"), [(["runs/a"], "two or more"), (["a/x", "b/x"], "two are called x"), ([], "runs")]
)
def test_a_comparison_needs_two_runs_of_different_names(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_compare(arguments)
    assert said in capsys.readouterr().err


def test_help_and_print_config_load_neither_spark_nor_tensorflow() -> None:
    script = (
        "import sys; sys.argv = ['train_cnn.py', sys.argv[1]]\n"
        "try:\n    import jobs.train_cnn; jobs.train_cnn.main()\n"
        "except SystemExit: pass\n"
        "print('loaded', [m for m in ('tensorflow', 'horovod', 'pandas', 'pyspark') if m in sys.modules])"
    )
    for option, shown in (("--help", "--num-proc"), ("--print-config", "num_proc: 2")):
        begin = time.monotonic()
        said = subprocess.run(
            [sys.executable, "-c", script, option], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert shown in said.stdout
        assert "loaded []" in said.stdout
        assert time.monotonic() - begin < 30
