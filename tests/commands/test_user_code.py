"""Errors in a user's own code name its file and line, and the shapes, in every command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import broken_code
import pytest

from dltrain.config.policy import locate
from dltrain.data.io.workers import Workers
from dltrain.errors import DltrainError, UserCodeError
from dltrain.user_code import user_errors_explained

CODE = Path(broken_code.__file__)
LINES = CODE.read_text(encoding="utf-8").splitlines()
SMALL = ("dataset=digits", "trainer.epochs=1", "callbacks=quiet", "plugins=[broken_code]")
MODEL = "model={{_target_: broken_code.{}}}"
LOSS = "loss={{_target_: broken_code.{}}}"
METRIC = "task.metrics.own={{_target_: broken_code.{}, _partial_: true}}"
CALLBACK = "callbacks.own={{_target_: broken_code.{}}}"
SOURCE = "dataset.source={{_target_: broken_code.{}}}"
TRANSFORM = "preprocessing.own={{_target_: broken_code.{}}}"
TASK = "task={{_target_: broken_code.{}}}"
OPTIMIZER = "optimizer={{_target_: broken_code.{}, _partial_: true}}"

# name, the key that it stands at, what the message says, whether `check` finds it
FAULTS = [
    ("WrongWidth", MODEL, r"layer body\.2 = Linear\(in_.*\) got input \(\d+, 32\)", True),
    ("WrongWidth", MODEL, r"broken_code\.WrongWidth got inputs \(\d+, 1, 8, 8\)", True),
    ("FiveOutputs", MODEL, r"\(\d+, 1, 8, 8\) -> \(\d+, 5\), but \(\d+, 10\) is needed", True),
    ("ThreeDimensions", MODEL, r"-> \(\d+, 1, 10\), but \(\d+, 10\) is needed for 10 cl", True),
    ("ReturnsNone", MODEL, r"-> a value of type NoneType, but \(\d+, 10\) is needed", True),
    ("WrongType", MODEL, r"layer leave = Linear\(.*\) got input \(\d+, 32\) float64", True),
    ("WrongDevice", MODEL, r"layer enter = .* got input \(\d+, 64\) on meta", True),
    ("MissingArgument", MODEL, r"missing 1 required positional argument: 'mask'", True),
    ("NoForward", MODEL, r"missing the required \"forward\" function", True),
    ("MissingKey", MODEL, r"KeyError: 'logit'", True),
    ("Asserts", MODEL, r"AssertionError: \(without a message\)\n    assert inputs\.ndim", True),
    ("Imports", MODEL, r"No module named 'no_such_library'", True),
    ("Exits", MODEL, r"SystemExit: 0", True),
    ("Constructor", MODEL, r"TypeError: empty\(\)", True),
    ("ConstructorValue", MODEL, r"model  invalid literal for int\(\)", True),
    ("Detached", MODEL, r"the loss has no gradient", True),
    ("InPlace", MODEL, r"its backward pass failed: .* modified by an inplace operation", True),
    ("LossOfShapes", LOSS, r"got outputs \(\d+, 10\), targets \(\d+,\) int64", True),
    ("LossVector", LOSS, r"must give one number, the mean over the batch; it gives \(\d+,\)", True),
    ("metric_raises", METRIC, r"with logits \(\d+, 10\), targets \(\d+,\) int64", True),
    ("metric_none", METRIC, r"dltrain cannot use its result .* not 'NoneType'", True),
    ("metric_argument", METRIC, r"takes 1 positional argument but 2 were given", True),
    ("CallbackKey", CALLBACK, r"KeyError: 'val/nothing'", False),
    ("CallbackArguments", CALLBACK, r"takes 1 positional argument but 2 were given", False),
    ("CallbackState", CALLBACK, r"has \['names'\] of type set", False),
    ("SourceRaises", SOURCE, r"JSONDecodeError: Expecting property name", False),
    ("SourceTuple", SOURCE, r"'tuple' object has no attribute 'items'", False),
    ("SourceWithoutTest", SOURCE, r"returns the sets train, and no 'test'", False),
    ("SourceOfFloats", SOURCE, r"images of type torch\.float32; uint8 in 0\.\.255", False),
    ("SourceOfOtherShape", SOURCE, r"images \(40, 8, 8\), but `spec` says \(1, 8, 8\)", False),
    ("SourceOfOtherClasses", SOURCE, r"class numbers from 1 to 2; expected 0 to 1", False),
    ("SourceWithoutSpec", SOURCE, r"no attribute 'spec'", True),
    ("TransformRaises", TRANSFORM, r"with inputs \(\d+, 3, 32, 32\), targets \(\d+,\)", True),
    ("TransformOfShape", TRANSFORM, r"each of them has the shape \(3, 32, 32\)", True),
    ("TaskStep", TASK, r"CrossEntropy got logits\[0\] \(\d+, 1, 8, 8\)", True),
    ("TaskStepNone", TASK, r"returns a value of type NoneType; a dictionary", True),
    ("TaskStepFloat", TASK, r"returns a value of type float; a tensor \(\) for each", True),
    ("TaskEvaluation", TASK, r"TypeError: tuple indices", True),
    ("TaskEvaluationNone", TASK, r"cannot use its result .dltrain.engine, line \d+.", True),
    ("TaskStages", TASK, r"yields a str, not a Stage|'str' object has no attribute", True),
    ("optimizer_raises", OPTIMIZER, r"unexpected keyword argument 'rate'", True),
]


def line_of(name: str) -> int:
    """The line that the comment `# NAME` marks."""
    return next(i for i, line in enumerate(LINES, 1) if line.endswith(f"# {name}"))


def words(name: str, key: str) -> list[str]:
    model = [] if key == MODEL else ["model=mlp"]
    small = [word for word in SMALL if key not in (SOURCE, TRANSFORM) or "digits" not in word]
    data = ["dataset=synthetic"] if key in (SOURCE, TRANSFORM) else []
    return [*small, *model, *data, key.format(name)]


@pytest.mark.parametrize(("name", "key", "message", "is_checked"), FAULTS)
@pytest.mark.parametrize("verb", ["train", "check"])
def test_an_error_in_own_code_names_file_line_and_shapes(
    dltrain, verb: str, name: str, key: str, message: str, is_checked: bool
) -> None:
    outcome = dltrain(verb, *words(name, key))
    if verb == "check" and not is_checked:
        assert outcome.code == 0
        return
    assert outcome.code == 2
    assert f"{CODE}, line {line_of(name)}" in outcome.err
    assert re.search(message, outcome.err)
    assert "unexpected failure" not in outcome.err
    assert "Traceback" not in outcome.err


def test_outputs_that_are_not_finite_before_any_update_name_the_layer(dltrain) -> None:
    outcome = dltrain(*words("NotFinite", MODEL))
    assert outcome.code == 2
    assert f"broken_code.NotFinite ({CODE}, line {line_of('NotFinite')})" in outcome.err
    assert "first layer with such an output: leave (Linear)" in outcome.err


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("LanguageOfFewTokens", "dataset=shakespeare", r"-> \(\d+, \d+, 7\), but \(.*\) is needed"),
        ("LanguageWithoutState", "dataset=shakespeare", r"values to unpack \(expected 2"),
        ("OneAction", "experiment=dqn_cartpole", r"-> \(\d+, 1\), but \(\d+, 2\) is needed"),
        ("FlatTargets", "dataset=diabetes task=regression loss=mse", r"needed for 1 targets"),
        ("FlatImages", "dataset=digits task=autoencoding", r"-> \(\d+, 64\), but \(\d+, 1, 8, 8\)"),
        ("FlatGenerator", "dataset=digits task=adversarial", r"-> \(\d+, 64\), but \(\d+, 1, 8, 8"),
    ],
)
def test_the_outputs_of_every_kind_of_network_are_checked(
    dltrain, name: str, settings: str, message: str
) -> None:
    for verb in ("check", "train"):
        own = (*settings.split(), MODEL.format(name), "plugins=[broken_code]")
        outcome = dltrain(verb, *own, "debug=smoke", "callbacks=quiet")
        assert outcome.code == 2, verb
        assert f"{CODE}, line {line_of(name)}" in outcome.err
        assert re.search(message, outcome.err)


def test_evaluate_and_predict_name_the_line_too(dltrain, monkeypatch) -> None:
    assert dltrain(*words("EvaluationFails", MODEL)).code == 0
    monkeypatch.setenv("BREAK_EVALUATION", "1")
    for command in (("evaluate", "last"), ("predict", "last", "split=test")):
        outcome = dltrain(*command, "plugins=[broken_code]")
        assert outcome.code == 2
        assert f"{CODE}, line {line_of('EvaluationFails')}" in outcome.err
        assert "KeyError: 'mean'" in outcome.err


@pytest.mark.parametrize("name", ["TaskPrediction", "TaskRows"])
def test_predictions_of_an_own_task_are_checked(dltrain, name: str) -> None:
    assert dltrain(*words(name, TASK)).code == 0
    outcome = dltrain("predict", "last", "split=test", "plugins=[broken_code]")
    assert outcome.code == 2
    assert f"{CODE}, line {line_of(name)}" in outcome.err


def test_the_log_of_the_run_has_the_traceback_and_debug_prints_it(dltrain) -> None:
    outcome = dltrain(*words("MissingKey", MODEL), "--debug", "--json")
    assert f'File "{CODE}", line {line_of("MissingKey")}, in forward' in outcome.err
    assert outcome.json["error"].startswith("error in your code")
    (log,) = Path().glob("outputs/*/*/train.log")
    assert 'File "' + str(CODE) in log.read_text(encoding="utf-8")
    results = json.loads(log.with_name("results.json").read_text(encoding="utf-8"))
    assert results["status"] == "failed"
    assert f"line {line_of('MissingKey')}" in results["reason"].splitlines()[0]


def test_a_job_of_a_sweep_says_the_same(dltrain) -> None:
    outcome = dltrain("-m", "launcher=inline", *words("MissingKey", MODEL), "seed=1,2", "--json")
    assert outcome.code == 1
    for row in outcome.json["jobs"]:
        assert row["reason"].startswith(f"error in your code: {CODE}, line {line_of('MissingKey')}")


def test_the_content_of_own_data_is_checked_with_data(dltrain) -> None:
    outcome = dltrain("check", "--data", *words("SourceOfFloats", SOURCE))
    assert outcome.code == 2
    assert f"line {line_of('SourceOfFloats')}" in outcome.err


def test_an_error_in_a_thread_names_the_line() -> None:
    locate("broken_code.thread_raises", ["broken_code"])
    workers = Workers(1, timeout=10.0)
    with pytest.raises(UserCodeError) as caught, user_errors_explained():
        workers.submit(broken_code.thread_raises).result()
    workers.close()
    assert (caught.value.file, caught.value.line) == (str(CODE), line_of("thread_raises"))
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("verb", ["train", "check"])
def test_a_task_without_stages_is_named(dltrain, verb: str) -> None:
    outcome = dltrain(verb, *words("TaskWithoutStages", TASK))
    assert outcome.code == 2
    assert re.search(rf"{CODE}, line \d+\D*TaskWithoutStages", outcome.err) or (
        f"TaskWithoutStages ({CODE}, line {line_of('TaskWithoutStages')})" in outcome.err
    )


def test_errors_of_dltrain_itself_stay_unexpected(dltrain, monkeypatch) -> None:
    def fails(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("dltrain.tasks.classification.mean_logits", fails)
    outcome = dltrain(*words("Whole", MODEL))
    assert outcome.code == 1
    assert "RuntimeError: a bug\n(an unexpected failure" in outcome.err


@pytest.mark.parametrize("error", [DltrainError("known"), MemoryError(), RuntimeError("a bug")])
def test_other_errors_are_not_explained(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, user_errors_explained():
        raise error
    assert caught.value is error
