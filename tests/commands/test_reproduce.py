"""`dltrain reproduce`: a run trained again gives the same numbers, and a difference is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dltrain.runs.reproduction.records import compared, relative_difference

SMALL = (
    *("dataset=digits", "model=mlp", "model.hidden_sizes=[8]", "trainer.epochs=2"),
    *("callbacks=quiet", "trainer.log_every=10", "regularization=[dropout]"),
)
PLUGIN = "plugins=[own_interruption]"
INTERRUPTED = (PLUGIN, "callbacks.own={_target_: own_interruption.InterruptAt}")
FAMILIES = [
    *("lenet5_mnist", "mlp_diabetes", "lstm_timeseries", "gru_imdb"),
    *("charlm_lstm_shakespeare", "seq2seq_reverse", "word2vec_imdb", "rcnn_digits", "vae_mnist"),
    *("dcgan_mnist", "dbn_mnist", "qlearning_cliffwalking", "dqn_cartpole", "perceptron_gates"),
]
SETTINGS = {
    "folds": ("dataset.folds=3", "dataset.fold=1"),
    "averaged": ("regularization=[ema]", "trainer.accumulate=3"),
    "augmented": ("preprocessing=[random_crop]", "optimizer=adamw", "schedule=cosine"),
    "stopped": ("regularization=[early_stopping]", "trainer.evaluate_every=20"),
}


def trained(dltrain: Any, *overrides: str) -> Path:
    """Train a small run and return its folder."""
    outcome = dltrain(*SMALL, *overrides, "--json")
    assert outcome.code in (0, 143), outcome.err
    return Path(outcome.json["run"])


def reproduction(dltrain: Any, run: Path | str, *words: str, code: int = 0) -> dict[str, Any]:
    """Reproduce a run and return the comparison; the command must end with `code`."""
    outcome = dltrain("reproduce", str(run), *words, "--json")
    assert outcome.code == code, outcome.err
    comparison: dict[str, Any] = outcome.json["reproduction"]
    return {**comparison, "run": outcome.json["run"], "error": outcome.json.get("error", "")}


def edit(path: Path, **values: Any) -> None:
    """Change values of a JSON or a YAML file, at dotted keys."""
    is_json = path.suffix == ".json"
    text = path.read_text(encoding="utf-8")
    content = json.loads(text) if is_json else yaml.safe_load(text)
    for key, value in values.items():
        node = content
        *parents, last = key.split("__")
        for name in parents:
            node = node[name]
        node[last] = value
    written = json.dumps(content) if is_json else yaml.safe_dump(content)
    path.write_text(written, encoding="utf-8")


@pytest.mark.parametrize("experiment", FAMILIES)
def test_a_run_of_every_family_is_the_same_to_the_bit(dltrain, experiment: str) -> None:
    outcome = dltrain(f"experiment={experiment}", "debug=smoke", "callbacks=quiet", "--json")
    assert outcome.code == 0, outcome.err
    comparison = reproduction(dltrain, outcome.json["run"])
    assert comparison["identical"]
    assert comparison["tolerance"] == 0
    assert comparison["differs"] == []
    assert comparison["records"] >= 1


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_record_of_a_real_run_is_the_same(dltrain, settings: tuple[str, ...]) -> None:
    run = trained(dltrain, *settings)
    comparison = reproduction(dltrain, run)
    assert comparison["identical"]
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert comparison["records"] == len(lines) + 1  # and the test
    assert comparison["metrics"]["test/accuracy"]["verdict"] == "identical"
    new = Path(comparison["run"])
    assert new.parent.parent == run.parent.parent
    manifest = json.loads((new / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["reproduces"] == str(run)
    assert new.joinpath("metrics.jsonl").read_bytes() == run.joinpath("metrics.jsonl").read_bytes()


def test_the_table_says_what_is_the_same(dltrain) -> None:
    outcome = dltrain("reproduce", str(trained(dltrain)))
    assert outcome.code == 0
    assert "versions, data, machine and settings are those of the run" in outcome.out
    assert "metric" in outcome.out
    assert "reproduced to the bit (21 records)" in outcome.out


@pytest.mark.parametrize(
    "changed",
    [{"optimizer__lr": 0.002}, {"seed": 7}, {"dataset__batch_size": 8}],
    ids=["lr", "seed", "batch_size"],
)
def test_a_changed_setting_is_found_with_its_first_step(dltrain, changed: dict[str, Any]) -> None:
    run = trained(dltrain)
    edit(run / "config.yaml", **changed)
    edit(run / "manifest.json", **{f"config__{key}": value for key, value in changed.items()})
    comparison = reproduction(dltrain, run, code=5)
    assert not comparison["reproduced"]
    assert comparison["first_difference"]["step"] == 10
    assert "at step 10" in comparison["error"]
    assert comparison["metrics"]["train/loss"]["verdict"] == "differs"


def test_other_data_is_named(dltrain, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(80)]
    table.write_text("\n".join(["x,y,kind", *rows]), encoding="utf-8")
    own = ("dataset=tabular", f"dataset.path={table}", "dataset.target=kind", "model=mlp")
    outcome = dltrain(*own, "trainer.epochs=1", "callbacks=quiet", "--json")
    run = outcome.json["run"]
    assert reproduction(dltrain, run)["identical"]
    table.write_text("\n".join(["x,y,kind", "9,9,b", *rows[1:]]), encoding="utf-8")
    outcome = dltrain("reproduce", run)
    assert outcome.code == 5
    assert "dataset_fingerprint" in outcome.out
    assert "the data is not the same" in outcome.out
    moved = tmp_path / "moved.csv"
    moved.write_text("\n".join(["x,y,kind", *rows]), encoding="utf-8")
    table.unlink()
    assert dltrain("reproduce", run).code == 3
    assert reproduction(dltrain, run, f"dataset.path={moved}")["identical"]


def test_a_run_that_stopped_early_is_compared_up_to_its_last_record(dltrain) -> None:
    run = trained(dltrain)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:9], encoding="utf-8")
    (run / "results.json").unlink()
    comparison = reproduction(dltrain, run)
    assert comparison["identical"]
    assert comparison["records"] == 3
    results = json.loads((Path(comparison["run"]) / "results.json").read_text(encoding="utf-8"))
    assert results["status"] == "interrupted"
    assert results["steps"] == 31


def test_a_run_that_was_interrupted_and_resumed_is_the_same(dltrain, monkeypatch) -> None:
    monkeypatch.setenv("INTERRUPT_AT", "45")
    run = trained(dltrain, *INTERRUPTED)
    monkeypatch.delenv("INTERRUPT_AT")
    assert dltrain("resume", str(run), PLUGIN).code == 0
    assert reproduction(dltrain, run, PLUGIN)["identical"]
    outcome = dltrain("reproduce", str(run))
    assert outcome.code == 2
    assert PLUGIN in outcome.err


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_that_was_trained_longer_is_the_same(dltrain, schedule: str) -> None:
    run = trained(dltrain, "trainer.epochs=1", f"schedule={schedule}")
    assert dltrain("resume", str(run), "trainer.epochs=2").code == 0
    comparison = reproduction(dltrain, run)
    assert comparison["identical"]
    assert comparison["metrics"]["train/lr"]["records"] >= 16


def test_a_run_that_was_continued_with_other_settings_is_the_same(dltrain, monkeypatch) -> None:
    monkeypatch.setenv("INTERRUPT_AT", "45")
    run = trained(dltrain, *INTERRUPTED)
    monkeypatch.delenv("INTERRUPT_AT")
    assert dltrain("resume", str(run), PLUGIN, "optimizer.lr=0.02").code == 0
    assert reproduction(dltrain, run, PLUGIN)["identical"]


def test_a_continuation_of_which_too_little_is_recorded_is_refused(dltrain) -> None:
    run = trained(dltrain, "trainer.epochs=1")
    assert dltrain("resume", str(run), "trainer.epochs=2").code == 0
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    del manifest["resumed"][0]["earlier"]
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    outcome = dltrain("reproduce", str(run))
    assert outcome.code == 3
    assert "continued at step 81 with another trainer.epochs" in outcome.err


def test_a_fork_names_the_run_to_reproduce(dltrain) -> None:
    run = trained(dltrain, "trainer.epochs=1")
    outcome = dltrain("resume", str(run), "trainer.epochs=2", "--fork", "--json")
    fork = outcome.json["run"]
    outcome = dltrain("reproduce", fork)
    assert outcome.code == 3
    assert f"it is a fork of {run} at step 81" in outcome.err


def test_initial_weights_come_from_the_run_of_then(dltrain) -> None:
    first = trained(dltrain, "trainer.epochs=1")
    run = trained(dltrain, "init.from=last", "trainer.epochs=1", "seed=3")
    trained(dltrain, "trainer.epochs=1", "seed=4")
    assert reproduction(dltrain, run)["identical"]
    shutil.move(first, "elsewhere")
    outcome = dltrain("reproduce", str(run))
    assert outcome.code == 3
    assert str(first) in outcome.err
    assert "init.from=RUN" in outcome.err
    assert reproduction(dltrain, run, "init.from=elsewhere")["identical"]


def test_a_job_of_a_sweep_is_reproduced_beside_the_sweep(dltrain) -> None:
    outcome = dltrain("-m", "launcher=inline", *SMALL, "trainer.epochs=1", "seed=1,2", "--json")
    sweep = Path(outcome.json["sweep"])
    comparison = reproduction(dltrain, sweep / "1")
    assert comparison["identical"]
    assert Path(comparison["run"]).parent.parent == sweep.parent.parent


def test_a_run_with_a_time_limit_ends_at_the_same_step(dltrain) -> None:
    run = trained(dltrain, "trainer.epochs=null", "trainer.max_seconds=0.2", "schedule=constant")
    comparison = reproduction(dltrain, run)
    assert comparison["identical"]
    steps = json.loads((run / "results.json").read_text(encoding="utf-8"))["steps"]
    results = json.loads((Path(comparison["run"]) / "results.json").read_text(encoding="utf-8"))
    assert results["steps"] == steps


def test_a_run_that_diverged_diverges_again(dltrain) -> None:
    outcome = dltrain(*SMALL, "optimizer=sgd", "optimizer.lr=1e30", "--json")
    assert outcome.code == 4
    comparison = reproduction(dltrain, outcome.json["run"])
    assert comparison["identical"]


def test_other_versions_are_listed_and_a_tolerance_applies(dltrain) -> None:
    run = trained(dltrain)
    edit(run / "manifest.json", versions__torch="1.0", machine__cpu="another")
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        if "train/loss" in record:
            record["train/loss"] *= 1.01
    text = "".join(json.dumps(record) + "\n" for record in records)
    (run / "metrics.jsonl").write_text(text, encoding="utf-8")
    comparison = reproduction(dltrain, run)
    assert [one["key"] for one in comparison["differs"]] == ["versions.torch", "machine.cpu"]
    assert comparison["tolerance"] == 0.02
    assert not comparison["identical"]
    assert comparison["metrics"]["train/loss"]["verdict"] == "within 0.02"
    assert reproduction(dltrain, run, "--tolerance", "0.001", code=5)["reproduced"] is False


def test_a_manifest_without_the_machine_says_so(dltrain) -> None:
    run = trained(dltrain)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    del manifest["machine"], manifest["environment"]
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    comparison = reproduction(dltrain, run)
    assert comparison["not_recorded"] == ["machine", "environment"]
    assert comparison["differs"] == []
    assert comparison["tolerance"] == 0.02


def test_only_folders_the_device_and_plugins_can_be_set(dltrain) -> None:
    run = trained(dltrain)
    outcome = dltrain("reproduce", str(run), "optimizer.lr=1")
    assert outcome.code == 2
    assert "optimizer.lr=1: reproduce trains with the settings of the run" in outcome.err
    assert dltrain("reproduce", str(run), "--tolerance", "much").code == 2
    assert dltrain("reproduce").code == 2
    comparison = reproduction(dltrain, run, "paths.output=there", "device=cpu")
    assert comparison["identical"]
    assert Path(comparison["run"]).parts[0] == "there"


def test_a_run_without_records_cannot_be_compared(dltrain) -> None:
    run = trained(dltrain)
    (run / "metrics.jsonl").unlink()
    outcome = dltrain("reproduce", str(run))
    assert outcome.code == 3
    assert "has logged nothing yet" in outcome.err
    (run / "metrics.jsonl").write_text('{"step": 1}\n', encoding="utf-8")
    assert "is damaged" in dltrain("reproduce", str(run)).err
    (run / "manifest.json").unlink()
    assert "no manifest.json" in dltrain("reproduce", str(run)).err


def test_a_run_of_version_0_1_is_trained_again_within_the_tolerance(dltrain) -> None:
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "runs_0_1" / "digits", "digits")
    outcome = dltrain("reproduce", "digits")
    assert outcome.code in (0, 5)
    assert "not recorded then: machine, environment" in outcome.out
    assert "versions.dltrain" in outcome.out


RECORDS = [
    {"step": 1, "epoch": 1, "stage": "train", "split": "train", "train/loss": 2.0, "train/lr": 1},
    {"step": 1, "epoch": 1, "stage": "train", "split": "val", "val/loss": None},
]


def test_values_are_compared_record_by_record() -> None:
    assert compared(RECORDS, RECORDS).differences == []
    now = [{**RECORDS[0], "train/loss": 1.5}, {**RECORDS[1], "val/loss": 1.0}]
    comparison = compared(RECORDS, now)
    loss = comparison.metrics["train/loss"]
    assert (loss.then, loss.now, loss.difference) == (2.0, 1.5, 0.25)
    assert loss.verdict(0.3) == "within 0.3"
    assert comparison.first(0.3).metric == "val/loss"  # type: ignore[union-attr]
    assert comparison.metrics["train/lr"].verdict(0) == "identical"


def test_a_missing_record_is_a_difference_and_a_new_one_is_not() -> None:
    first = compared(RECORDS, RECORDS[1:]).first(10.0)
    assert first is not None
    assert str(first) == "train/loss at step 1: 2 then, - now"
    assert compared(RECORDS[:1], RECORDS).differences == []
    assert compared(RECORDS, [RECORDS[0], {**RECORDS[1], "val/new": 1.0}]).differences == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(1.0, 1.0, 0.0), (None, None, 0.0), (0.0, 0.0, 0.0), (-1.0, 1.0, 2.0), (4.0, 3.0, 0.25)],
)
def test_the_relative_difference(one: float, other: float, expected: float) -> None:
    assert relative_difference(one, other) == expected
