"""Networks of finished runs in a task: which runs are opened, refused and remembered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.config.compose import compose
from dltrain.errors import InputError
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.finished_runs import require_same_classes, restandardization
from dltrain.runs.folder import RunFolder
from dltrain.runs.open import open_trained
from dltrain.types import Spec

SMALL = ("dataset=digits", "model=mlp", "model.hidden_sizes=[16]", "callbacks=quiet")
TEACHER = (*SMALL, "trainer.epochs=2", "--json")
STUDENT = (*SMALL, "model.hidden_sizes=[4]", "task=distillation", "trainer.epochs=1", "--json")
Command = Callable[..., Any]


def run_of(outcome: Any) -> Path:
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["run"])


def student_of(teacher: Path | str, *overrides: str) -> Experiment:
    """Return the experiment of a new run that learns from a teacher."""
    words = [word for word in STUDENT if word != "--json"]
    composed = compose([*words, f"task.teachers=['{teacher}']", *overrides])
    assert not composed.problems
    return Experiment.to_train(composed.config)


def test_a_teacher_predicts_as_its_own_run_does(dltrain: Command) -> None:
    """The images of the student are standardized in another way."""
    run = run_of(dltrain(*TEACHER, "dataset.scaling=unit", "regularization=[ema]"))
    experiment = student_of(run, "dataset.scaling=standardize").build()
    network = experiment.finished_runs.network("task.teachers", str(run))
    assert not network.model.training
    assert not any(p.requires_grad for p in network.model.parameters())
    trained = open_trained(RunFolder(run), [], "best")
    trained.keep_for_prediction()
    inputs, _ = next(experiment.data.val.epoch(0))
    mean, std = experiment.data.spec.mean[0], experiment.data.spec.std[0]
    pixels = inputs * std + mean
    with torch.no_grad():
        probabilities = trained.engine.task.predict(pixels / 255)
        torch.testing.assert_close(network.model(inputs).softmax(1), probabilities)


def test_equally_standardized_images_are_not_changed(dltrain: Command) -> None:
    run = run_of(dltrain(*TEACHER))
    experiment = student_of(run).build()
    network = experiment.finished_runs.network("task.teachers", str(run))
    inputs, _ = next(experiment.data.val.epoch(0))
    assert torch.equal(network.model(inputs), network.network(inputs))


def test_opening_a_run_changes_no_random_number(dltrain: Command) -> None:
    run = run_of(dltrain(*TEACHER))
    drawn = []
    for overrides in (["task.weight=0", "task.teachers=[]"], []):
        student_of(run, *overrides).build()
        drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def test_an_unknown_run_ends_the_command_before_a_folder_is_made(dltrain: Command) -> None:
    outcome = dltrain(*STUDENT, "task.teachers=[nowhere]")
    assert outcome.code == 3
    assert "nowhere" in outcome.err
    assert not Path("outputs").exists()


def test_a_run_without_a_checkpoint_is_refused(dltrain: Command) -> None:
    run = run_of(dltrain(*TEACHER))
    shutil.rmtree(run / "checkpoints")
    outcome = dltrain(*STUDENT, f"task.teachers=[{run.name}]")
    assert outcome.code == 3
    assert "task.teachers" in outcome.err
    assert "no checkpoint" in outcome.err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dataset=synthetic", "model=mlp"], "other classes"),
        (["dataset=digits", "task=autoencoding", "model=autoencoder"], "a run of a classifier"),
        (["preprocessing=[resize]", "preprocessing.resize.size=6"], "shape (1, 6, 6)"),
    ],
    ids=["classes", "task", "shape"],
)
def test_a_run_that_does_not_fit_is_refused(
    overrides: list[str], words: str, dltrain: Command
) -> None:
    run = run_of(dltrain("callbacks=quiet", "trainer.stage_steps=2", *overrides, "--json"))
    outcome = dltrain(*STUDENT, f"task.teachers=[{run.name}]")
    assert outcome.code == 3
    assert words in outcome.err
    assert len(list(Path("outputs").glob("*/*/config.yaml"))) == 1


def test_preprocessing_of_predictions_has_to_be_the_same(dltrain: Command) -> None:
    resized = ("preprocessing=[resize]", "preprocessing.resize.size=8", "trainer.stage_steps=2")
    run = run_of(dltrain(*TEACHER, *resized))
    outcome = dltrain(*STUDENT, f"task.teachers=[{run.name}]")
    assert outcome.code == 3
    assert "preprocessing=" in outcome.err
    assert dltrain(*STUDENT, *resized, f"task.teachers=[{run.name}]").code == 0


def test_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    spec = Spec((1, 8, 8), ("cat", "dog"), 10, 10)
    other = replace(spec, class_names=("dog", "cat"))
    require_same_classes(spec, spec, RunFolder(tmp_path))
    with pytest.raises(InputError, match="in another order: dog, cat, and here cat, dog"):
        require_same_classes(other, spec, RunFolder(tmp_path))


def test_a_scale_and_a_shift_map_one_standardization_to_another() -> None:
    source = Spec((2, 1, 1), (), 1, 1, mean=(10.0, 20.0), std=(2.0, 4.0))
    target = replace(source, mean=(0.0, 0.0), std=(255.0, 255.0))
    pixels = torch.tensor([30.0, 40.0]).view(1, 2, 1, 1)
    mean, std = (torch.tensor(v).view(1, 2, 1, 1) for v in (source.mean, source.std))
    mapped = restandardization(source, target)
    assert mapped is not None
    torch.testing.assert_close(mapped((pixels - mean) / std), pixels / 255)
    assert restandardization(source, source) is None


def test_the_runs_are_in_the_manifest_and_reproduced(dltrain: Command) -> None:
    teacher = run_of(dltrain(*TEACHER))
    student = run_of(dltrain(*STUDENT, "task.teachers=[last]"))
    manifest = json.loads((student / "manifest.json").read_text())
    assert manifest["initial_runs"] == {"task.teachers": [str(teacher.absolute())]}
    outcome = dltrain("reproduce", student.name, "--json")  # `last` is the student by now
    assert outcome.code == 0, outcome.err
    assert outcome.json["reproduction"]["identical"]


def test_a_student_predicts_without_its_teacher(dltrain: Command) -> None:
    teacher = run_of(dltrain(*TEACHER))
    student = run_of(dltrain(*STUDENT, "task.teachers=[last]"))
    trained = json.loads((student / "results.json").read_text())["metrics"]
    shutil.rmtree(teacher)
    outcome = dltrain("evaluate", str(student), "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/accuracy"] == trained["test/accuracy"]
    open_trained(RunFolder(student), [], "best")
    outcome = dltrain("resume", str(student), "trainer.epochs=2")
    assert outcome.code == 3
    assert teacher.name in outcome.err


def test_a_resumed_student_has_the_teacher_that_it_began_with(dltrain: Command) -> None:
    """Without the manifest's folder `last` would be the student itself."""
    run_of(dltrain(*TEACHER))
    student = run_of(dltrain(*STUDENT, "task.teachers=[last]", "schedule=constant"))
    longer = run_of(dltrain("resume", str(student), "trainer.epochs=2", "--json"))
    teacher = json.loads((student / "manifest.json").read_text())["initial_runs"]["task.teachers"]
    words = (*STUDENT, f"task.teachers={teacher}", "schedule=constant", "trainer.epochs=2")
    whole = run_of(dltrain(*words))
    assert (longer / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_fake_data_needs_no_run(dltrain: Command) -> None:
    assert dltrain("check", *STUDENT, "task.teachers=[nowhere]").code == 0
    run = run_of(dltrain(*STUDENT, "task.teachers=[nowhere]", "debug=smoke"))
    assert "initial_runs" not in json.loads((run / "manifest.json").read_text())
    assert dltrain("evaluate", str(run)).code == 0


TEXTS = (
    *("dataset=text_files", "dataset.path=letters.csv", "model=rnn", "model.hidden_size=4"),
    *("dataset.bucketing=false", "callbacks=quiet", "trainer.epochs=1", "--json"),
)


def write_letters(first: str, second: str) -> None:
    lines = ["text,label"]
    for number in range(60):
        words, label = ((first, "a"), (second, "b"))[number % 2]
        lines.append(f"{words} number {number},{label}")
    Path("letters.csv").write_text("\n".join(lines) + "\n")


def test_texts_need_the_vocabulary_of_the_teacher(dltrain: Command) -> None:
    write_letters("a fine day", "a dull day")
    run = run_of(dltrain(*TEXTS))
    student = (*TEXTS, "task=distillation", f"task.teachers=[{run.name}]")
    run_of(dltrain(*student))
    write_letters("the first row", "the last row")
    outcome = dltrain(*student)
    assert outcome.code == 3
    assert "encoded in another way" in outcome.err
    assert "tokenizer" in outcome.err


def test_tables_need_the_encoding_of_the_teacher(dltrain: Command) -> None:
    table = ("dataset=wine", "model=mlp", "callbacks=quiet", "trainer.epochs=1", "--json")
    run = run_of(dltrain(*table))
    student = (*table, "task=distillation", f"task.teachers=[{run.name}]")
    run_of(dltrain(*student))
    outcome = dltrain(*student, "dataset.split_seed=1")
    assert outcome.code == 3
    assert "encoded in another way" in outcome.err
