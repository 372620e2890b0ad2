"""The direction of a metric: declared by every task for every metric, never guessed from a name."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import Counting

from dltrain.config.compose import compose
from dltrain.experiment.experiment import Experiment
from dltrain.tasks.directions import custom_direction, watch_direction

QUIET = ("callbacks=quiet", "--json")
BOOK = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was so.\n"
    * 40
)


def watched_values(outcome: Any, metric: str) -> tuple[list[float], float]:
    """Return the values of a metric in all evaluations of a run, and in its best checkpoint."""
    assert outcome.code == 0, outcome.err
    folder = Path(outcome.json["run"])
    records = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    values = [record[metric] for record in records if metric in record]
    best = json.loads((folder / "results.json").read_text(encoding="utf-8"))["best"]
    assert best["metric"] == metric
    return values, best["value"]


@pytest.mark.parametrize(
    ("overrides", "metric", "best"),
    [
        (("model=gru_lm", "model.hidden_size=8", "task.sample_tokens=0"), "val/bits", min),
        (("model=vae", "dataset=digits", "model.hidden_sizes=[16]"), "val/reconstruction", min),
        (
            ("model=vae", "dataset=digits", "model.hidden_sizes=[16]", "task.loss=cross_entropy"),
            "val/elbo",
            max,
        ),
        (
            (
                "model=gan",
                "dataset=digits",
                "model.generator_sizes=[16]",
                "model.discriminator_sizes=[16]",
            ),
            "val/distance",
            min,
        ),
        (
            (
                "model=gan",
                "dataset=digits",
                "model.generator_sizes=[16]",
                "model.discriminator_sizes=[16]",
            ),
            "val/least_share",
            max,
        ),
    ],
    ids=["bits", "reconstruction", "elbo", "distance", "least_share"],
)
def test_the_best_epoch_is_kept_for_any_name_of_the_metric(
    overrides: tuple[str, ...],
    metric: str,
    best: Callable[..., float],
    dltrain: Callable[..., Any],
    tmp_path: Path,
) -> None:
    (tmp_path / "book.txt").write_text(BOOK, encoding="utf-8")
    text = (
        ("dataset=language_modeling", "dataset.path=book.txt", "dataset.length=32")
        if metric == "val/bits"
        else ()
    )
    outcome = dltrain(*text, *overrides, f"trainer.watch={metric}", "trainer.epochs=3", *QUIET)
    values, kept = watched_values(outcome, metric)
    assert len(values) == 3
    assert kept == best(values)
    task = Experiment.on_fake_data(compose([*text, *overrides]).config).task
    scored = {
        name.removeprefix("test/") for name in outcome.json["metrics"] if name.startswith("test/")
    }
    assert scored <= set(task.directions())


def test_a_target_called_loss_keeps_the_direction_of_its_metric(
    dltrain: Callable[..., Any], tmp_path: Path
) -> None:
    """`r2_heat_loss` is an R2, `mse_gain` an error."""
    rows = [f"{i % 17},{(i % 17) * 2 + i % 3},{(i % 17) * -3 + i % 5}" for i in range(120)]
    (tmp_path / "reg2.csv").write_text("\n".join(["x,gain,heat_loss", *rows]), encoding="utf-8")
    table = ("dataset=tabular", "dataset.path=reg2.csv", "dataset.target=[gain,heat_loss]")
    for metric, best in (("val/r2_heat_loss", max), ("val/mse_gain", min)):
        outcome = dltrain(
            *table,
            "task=regression",
            "loss=mse",
            f"trainer.watch={metric}",
            "trainer.epochs=4",
            *QUIET,
        )
        values, kept = watched_values(outcome, metric)
        assert kept == best(values)


@pytest.mark.parametrize("verb", [(), ("check",)])
@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ("trainer.watch=val/acuracy",),
            "val/acuracy is not one of the metrics: val/accuracy, val/precision",
        ),
        (("trainer.watch=test/accuracy",), "test/accuracy is not one of the metrics: val/accuracy"),
        (
            ("model=gan", "dataset=digits", "trainer.watch=val/diversity"),
            "val/diversity does not declare which way it is better: set trainer.mode=max or "
            "trainer.mode=min",
        ),
    ],
)
def test_a_metric_without_a_direction_is_refused_before_training(
    verb: tuple[str, ...],
    overrides: tuple[str, ...],
    told: str,
    dltrain: Callable[..., Any],
    tmp_path: Path,
) -> None:
    outcome = dltrain(*verb, *overrides)
    assert outcome.code == 2
    assert told in outcome.err
    assert not (tmp_path / "outputs").exists()


def test_custom_metrics_declare_their_direction() -> None:
    """They have `higher_is_better`, as those of torchmetrics; also behind a functools.partial."""

    def error(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits.sum()

    assert custom_direction(error) is None
    error.higher_is_better = False  # type: ignore[attr-defined]
    assert custom_direction(error) == "min"
    assert custom_direction(functools.partial(error, targets=None)) == "min"
    error.higher_is_better = True  # type: ignore[attr-defined]
    assert custom_direction(error) == "max"


def test_trainer_mode_overrides_the_declared_direction() -> None:
    task = Counting((1, 1, 1))
    assert watch_direction(task, "val/anything", "min") == "min"
    assert watch_direction(task, "", None) == "max"
    with pytest.raises(ValueError, match="val/anything is not one of the metrics"):
        watch_direction(task, "val/anything", None)


def test_a_top_k_accuracy_that_is_always_1_is_refused(dltrain: Callable[..., Any]) -> None:
    """Wine has 3 classes, so val/top5 does not exist; training reports that before it starts."""
    outcome = dltrain("check", "dataset=wine", "trainer.watch=val/top5")
    assert outcome.code == 2
    assert (
        "val/top5 is not one of the metrics: val/accuracy, val/precision, val/recall, val/f1, "
        "val/auroc, val/ece, val/brier, val/nll, val/loss" in outcome.err
    )
