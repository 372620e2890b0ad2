"""Training by command: files of a run, debug modes, claims, evaluate, resume, determinism."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from outcome import Outcome

from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.runs.results import claims

TINY = (
    "dataset=synthetic",
    "dataset.source.train_samples=160",
    "dataset.source.test_samples=40",
    "callbacks=quiet",
)
TINY += (
    "model=mlp",
    "dataset.source.height=8",
    "dataset.source.width=8",
    "dataset.batch_size=16",
    "trainer.log_every=3",
)


def folder_of(outcome: Outcome) -> Path:
    assert outcome.code == 0, outcome.err
    return Path(outcome.json["run"])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    last = Store(folder / "checkpoints").pointed("last")
    assert last is not None
    state: dict[str, torch.Tensor] = checkpoint.load(last)["task"]
    return state


def test_the_default_run_reaches_its_accuracy_and_leaves_a_whole_folder(dltrain) -> None:
    """`make train` reaches 0.98 on real handwritten digits without a download."""
    outcome = dltrain("--json")
    folder = folder_of(outcome)
    results = json.loads((folder / "results.json").read_text())
    assert results["status"] == "completed"
    assert results["metrics"]["test/accuracy"] >= 0.98
    assert results["seconds"] < 120
    names = {path.name for path in folder.iterdir()}
    expected = {
        "manifest.json",
        "metrics.jsonl",
        "timing.jsonl",
        "results.json",
        "config.yaml",
        "train.log",
    }
    assert expected | {"checkpoints", "tensorboard"} <= names
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["effective"] == {
        "batch_size": 16,
        "train_samples": 1295,
        "val_samples": 143,
        "test_samples": 359,
        "steps_per_epoch": 81,
        "parameters": 21482,
    }
    assert {
        "versions",
        "git",
        "dataset_fingerprint",
        "seed",
        "device",
        "precision",
        "config",
    } <= set(manifest)
    epochs = [line for line in outcome.out.splitlines() if line.startswith("train ")]
    assert len(epochs) == 10, "a pipe gets one line an epoch"
    assert all(
        "train/loss" in line and "val/accuracy" in line and "samples/s" in line for line in epochs
    )
    assert "\x1b" not in outcome.out, "and no escape codes"
    for word in (
        "test/accuracy",
        "best val/accuracy",
        "samples/s",
        "tensorboard --logdir",
        str(folder),
    ):
        assert word in outcome.out
    assert "done" in (folder / "train.log").read_text()


def test_the_same_seed_gives_the_same_metrics_file_and_another_seed_does_not(dltrain) -> None:
    files = [
        folder_of(dltrain(*TINY, f"seed={seed}", "--json")) / "metrics.jsonl" for seed in (3, 3, 4)
    ]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("batch_size", "steps"),
    [("all", 2), ("16", 18), ("1", 280)],
    ids=["full batch", "mini-batch", "single sample"],
)
def test_batch_size_is_all_n_or_one(batch_size: str, steps: int, dltrain) -> None:
    outcome = dltrain(*TINY, f"dataset.batch_size={batch_size}", "trainer.epochs=2", "--json")
    assert outcome.json["steps"] == steps


@pytest.mark.parametrize(
    ("overrides", "steps", "status"),
    [
        (("trainer.steps=7",), 7, "completed"),
        (("trainer.epochs=null", "trainer.steps=20"), 20, "completed"),
        (("trainer.epochs=2", "trainer.steps=1000"), 18, "completed"),
        (("trainer.epochs=null", "schedule=constant", "trainer.max_seconds=0.5"), None, "stopped"),
    ],
)
def test_the_first_limit_reached_ends_the_run(
    overrides: tuple[str, ...], steps: int | None, status: str, dltrain
) -> None:
    results = dltrain(*TINY, *overrides, "--json").json
    assert results["status"] == status
    assert steps is None or results["steps"] == steps
    assert "test/accuracy" in results["metrics"]


def test_evaluate_every_evaluates_within_the_epoch(dltrain) -> None:
    folder = folder_of(dltrain(*TINY, "trainer.epochs=1", "trainer.evaluate_every=4", "--json"))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["split"] == "val"] == [4, 8, 9]


@pytest.mark.parametrize(
    "overrides", [("device.precision=bf16",), ("trainer.accumulate=4",), ("regularization=[ema]",)]
)
def test_precision_accumulation_and_averaging_train(overrides: tuple[str, ...], dltrain) -> None:
    """The validation loss falls well below that of guessing (log 10 = 2.3)."""
    results = dltrain(
        *TINY, *overrides, "dataset.source.noise=0.5", "trainer.epochs=12", "--json"
    ).json
    assert results["metrics"]["val/loss"] < 1.5


def test_overfit_says_pass(dltrain) -> None:
    outcome = dltrain("model=mlp", "debug=overfit", "callbacks=quiet")
    assert outcome.code == 0, outcome.err
    assert "overfit: PASS" in outcome.out


def test_overfit_says_fail_for_a_network_that_cannot_learn(dltrain) -> None:
    outcome = dltrain("model=mlp", "debug=overfit", "callbacks=quiet", "optimizer.lr=1e-9")
    assert outcome.code == 1
    assert "overfit: FAIL" in outcome.err


@pytest.mark.filterwarnings("ignore")
def test_profile_prints_where_the_time_goes_and_keeps_a_trace(dltrain) -> None:
    outcome = dltrain("debug=profile", "callbacks=quiet", "--json")
    table = outcome.json["profile"]
    seconds = {row["phase"]: row["seconds"] for row in table["phases"]}
    for phase in ("data", "forward", "backward", "optimizer", "evaluation", "checkpoint"):
        assert seconds[phase] > 0, phase
    assert table["verdict"] in outcome.out
    folder = folder_of(outcome)
    assert (folder / "trace.json").stat().st_size > 1000
    assert (folder / "profile.json").exists()


@pytest.mark.parametrize(
    ("claim", "met"), [(">=0.5", True), ("> 0.6", False), ("<=0.6", True), ("<0.5", False)]
)
def test_claims_are_compared(claim: str, met: bool) -> None:
    found = claims({"debug": None, "expect": {"test/accuracy": claim}}, {"test/accuracy": 0.6})
    assert found["test/accuracy"]["met"] is met


def test_a_claim_on_a_metric_that_was_not_measured_is_not_met() -> None:
    assert not claims({"debug": None, "expect": {"test/bleu": ">=0"}}, {})["test/bleu"]["met"]


@pytest.mark.parametrize(
    ("claim", "met"), [(">=0.996", True), ("<=0.996", True), (">0.996", False), ("<0.996", False)]
)
def test_a_figure_of_32_bits_is_what_it_stands_for(claim: str, met: bool) -> None:
    figure = float(torch.tensor(9960) / 10000)
    assert figure != 0.996
    found = claims({"debug": None, "expect": {"test/accuracy": claim}}, {"test/accuracy": figure})
    assert found["test/accuracy"]["met"] is met


def test_evaluate_gives_the_figures_of_the_run_and_writes_nothing(dltrain) -> None:
    trained = dltrain(*TINY, "regularization=[ema]", "--json")
    folder = folder_of(trained)
    before = sorted(path for path in folder.rglob("*"))
    again = dltrain("evaluate", "last", "--json")
    assert again.json["metrics"]["test/accuracy"] == trained.json["metrics"]["test/accuracy"]
    assert again.json["metrics"]["test/loss"] == pytest.approx(
        trained.json["metrics"]["test/loss"], abs=1e-6
    )
    train = dltrain("evaluate", "last", "split=train", "--json").json["metrics"]
    assert {"train/loss", "train/accuracy", "train/f1"} <= set(train)
    assert sorted(path for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("evaluate",), 2, "name a run: its folder"),
        (("evaluate", "nothing"), 3, "no run"),
        (("evaluate", "last", "split=tset"), 2, "expected one of train, val, test"),
        (
            ("resume", "last"),
            2,
            "is finished (5 epochs, 45 steps); to train it longer: dltrain resume",
        ),
        (
            ("resume", "last", "model=cnn"),
            2,
            "model._target_  another model cannot continue from this one's state; init.from",
        ),
        (
            ("resume", "last", "model.hidden_sizes=[9]"),
            2,
            "model.hidden_sizes  the checkpoint does not fit",
        ),
        (("resume", "last", "experiment=cnn_mnist"), 2, "a run keeps its experiment"),
    ],
)
def test_evaluate_and_resume_say_what_is_wrong(
    argv: tuple[str, ...], code: int, words: str, dltrain
) -> None:
    dltrain(*TINY)
    extended = (*argv, "trainer.epochs=9") if "model" in argv[-1] else argv
    outcome = dltrain(*extended)
    assert outcome.code == code, outcome.err
    assert words in outcome.err


def test_a_finished_run_is_extended_as_if_it_had_never_stopped(dltrain) -> None:
    """Under a constant schedule six epochs are three and then three more, bit for bit."""
    constant = (*TINY, "schedule=constant", "regularization=[dropout,ema]")
    whole = folder_of(dltrain(*constant, "trainer.epochs=6", "--json"))
    half = folder_of(dltrain(*constant, "trainer.epochs=3", "--json"))
    assert folder_of(dltrain("resume", str(half), "trainer.epochs=6", "--json")) == half
    assert (half / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(half).items())
    assert yaml.safe_load((half / "config.yaml").read_text())["trainer"]["epochs"] == 6


def test_a_diverging_run_exits_4_and_says_what_may_help(dltrain) -> None:
    outcome = dltrain(*TINY, "optimizer=sgd", "optimizer.lr=1e25", "--json")
    assert outcome.code == 4
    assert "diverged" in outcome.err
    assert "optimizer.lr" in outcome.err
    results = json.loads(next(Path("outputs").glob("*/*/results.json")).read_text())
    assert results["status"] == "diverged"


def test_a_key_that_nothing_reads_is_reported(dltrain) -> None:
    outcome = dltrain(*TINY, "model.dropout=0.3", "regularization=[dropout]", "debug=smoke")
    assert "model.dropout=0.3 is not read: regularization=dropout sets model.dropout" in outcome.out


@pytest.mark.parametrize(("watch", "best"), [("val/loss", min), ("val/accuracy", max)])
def test_the_watched_metric_says_which_way_is_better(watch: str, best: object, dltrain) -> None:
    folder = folder_of(dltrain(*TINY, f"trainer.watch={watch}", "optimizer.lr=0.05", "--json"))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = [record[watch] for record in records if record["split"] == "val"]
    results = json.loads((folder / "results.json").read_text())
    assert results["best"]["value"] == best(values)  # type: ignore[operator]


@pytest.mark.parametrize("watch", ["val/loss", "val/f1"])
def test_an_epochs_line_has_the_loss_and_a_score_whichever_is_watched(watch: str, dltrain) -> None:
    small = [word for word in TINY if word != "callbacks=quiet"]
    outcome = dltrain(
        *small, "callbacks.tensorboard=null", f"trainer.watch={watch}", "trainer.epochs=2"
    )
    lines = [line for line in (outcome.out + outcome.err).splitlines() if line.startswith("train ")]
    assert len(lines) == 2
    score = "val/accuracy" if watch == "val/loss" else watch
    assert all("train/loss" in line and "val/loss" in line and score in line for line in lines)


def test_a_watched_metric_that_does_not_exist_is_refused_with_those_that_do(dltrain) -> None:
    outcome = dltrain(*TINY, "trainer.watch=val/acuracy")
    assert outcome.code == 2
    assert "val/accuracy" in outcome.err


def test_a_run_that_stopped_early_can_be_trained_longer(dltrain) -> None:
    early = (
        *TINY,
        "regularization=[early_stopping]",
        "regularization.early_stopping.patience=1",
        "schedule=constant",
    )
    first = dltrain(
        *early, "regularization.early_stopping.min_delta=1.0", "trainer.epochs=20", "--json"
    ).json
    assert first["status"] == "stopped"
    assert first["epochs"] == 2
    more = dltrain("resume", "last", "trainer.epochs=30", "--json").json
    assert more["epochs"] == 3, "one evaluation more without an improvement stops it again"


def test_a_refused_optimizer_setting_leaves_no_run_folder(dltrain) -> None:
    outcome = dltrain(*TINY, "optimizer=sgd", "optimizer.nesterov=true")
    assert outcome.code == 2
    assert "momentum" in outcome.err
    assert not Path("outputs").exists()


def test_a_run_that_is_being_written_is_not_resumed(dltrain) -> None:
    from dltrain.runs.folder import RunFolder

    folder = folder_of(dltrain(*TINY, "--json"))
    with RunFolder(folder).locked():
        outcome = dltrain("resume", "last", "trainer.epochs=9")
    assert outcome.code == 2
    assert "still going (pid" in outcome.err


def test_threads_of_one_experiment_do_not_stay_for_the_next(dltrain) -> None:
    before = torch.get_num_threads()
    folder_of(dltrain(*TINY, "debug=smoke", f"device.threads={before + 1}", "--json"))
    assert torch.get_num_threads() == before + 1
    folder_of(dltrain(*TINY, "debug=smoke", "--json"))
    assert torch.get_num_threads() == before


def test_an_optimizer_setting_changed_on_resume_takes_effect(dltrain) -> None:
    folders = []
    for overrides in ((), ("optimizer.weight_decay=0.9",)):
        folder = folder_of(dltrain(*TINY, "trainer.epochs=1", "schedule=constant", "--json"))
        folder_of(dltrain("resume", str(folder), "trainer.epochs=2", *overrides, "--json"))
        folders.append(folder)
    plain, decayed = (sum(float(w.norm()) for w in weights(f).values()) for f in folders)
    assert decayed < plain


def test_an_interruption_during_the_test_keeps_the_last_checkpoint_and_resumes_to_the_test(
    dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dltrain.errors import Interrupted
    from dltrain.experiment import session

    whole = dltrain(*TINY, "--json").json
    with monkeypatch.context() as patch:
        patch.setattr(session, "load_best_weights", lambda _: (_ for _ in ()).throw(Interrupted(2)))
        outcome = dltrain(*TINY, "--json")
    assert outcome.code == 130
    folder = next(f for f in Path("outputs").glob("*/*") if f != Path(whole["run"]))
    expected = weights(Path(whole["run"]))
    assert all(torch.equal(value, expected[name]) for name, value in weights(folder).items())
    resumed = dltrain("resume", str(folder), "--json").json
    assert resumed["metrics"] == whole["metrics"]
    assert resumed["status"] == "completed"


def test_an_empty_validation_split_is_reported(dltrain) -> None:
    few = (
        "dataset=synthetic",
        "dataset.source.train_samples=8",
        "model=mlp",
        "trainer.steps=1",
        "callbacks=quiet",
    )
    outcome = dltrain(*few, "dataset.val_fraction=0.01", "--json")
    assert outcome.code == 0, outcome.err
    told = "dataset.val_fraction=0.01 leaves no validation samples"
    assert told in outcome.err + outcome.out
    assert told in (folder_of(outcome) / "train.log").read_text()
    assert told not in (again := dltrain(*few, "dataset.val_fraction=0")).err + again.out


def test_quiet_callbacks_print_no_command_for_curves(dltrain) -> None:
    outcome = dltrain("model=mlp", "trainer.steps=1", "callbacks=quiet")
    assert outcome.code == 0, outcome.err
    assert "tensorboard" not in outcome.out
    assert "tensorboard --logdir" in dltrain("model=mlp", "debug=smoke").out
