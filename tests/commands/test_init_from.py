"""`init.from=RUN`: a run that begins with the weights of another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store

TINY = (
    *(
        "dataset=synthetic",
        "dataset.source.train_samples=160",
        "dataset.source.height=8",
        "dataset.source.width=8",
    ),
    *("model=mlp", "model.hidden_sizes=[12,6]", "callbacks=quiet", "trainer.epochs=1", "--json"),
)
STILL = ("optimizer=sgd", "optimizer.lr=1e-30")  # a run that ends where it began


def weights(outcome, which: str = "last") -> dict[str, Tensor]:
    assert outcome.code == 0, outcome.err
    folder = Store(Path(outcome.json["run"]) / "checkpoints").pointed(which)
    assert folder is not None
    state: dict[str, Tensor] = checkpoint.load(folder)["task"]
    return state


def test_a_run_begins_with_the_best_weights_of_another(dltrain) -> None:
    trained = dltrain(
        *TINY, "trainer.epochs=3", "trainer.watch=val/loss", "trainer.mode=max"
    )  # so the first epoch's
    first, last = weights(trained, "best"), weights(trained)
    outcome = dltrain(*TINY, *STILL, "seed=1", "init.from=last")
    second, fresh = weights(outcome), weights(dltrain(*TINY, *STILL, "seed=1"))
    assert "6 of 6 tensors loaded" in outcome.out
    assert "6 of 6 tensors loaded" in (Path(outcome.json["run"]) / "train.log").read_text()
    assert "fresh" not in outcome.out
    for name, value in second.items():
        assert torch.equal(value, first[name]), name
        assert not torch.equal(value, last[name]), name
        assert not torch.equal(value, fresh[name]), name


def test_unmatched_weights_stay_fresh_and_are_reported(dltrain) -> None:
    """Another number of hidden units in the second layer: only the first layer fits."""
    first = weights(dltrain(*TINY))
    other = (*STILL, "seed=1", "model.hidden_sizes=[12,9]")
    outcome = dltrain(*TINY, *other, "init.from=last")
    second, fresh = weights(outcome), weights(dltrain(*TINY, *other))
    taken = {
        name
        for name, value in second.items()
        if torch.equal(value, first.get(name, torch.empty(0)))
    }
    assert taken == {"model.1.weight", "model.1.bias", "model.5.bias"}
    assert all(torch.equal(second[name], fresh[name]) for name in second.keys() - taken)
    assert "3 of 6 tensors loaded" in outcome.out
    assert "fresh   model.3.weight (9, 12): the run's is (6, 12)" in outcome.out
    assert "model.1.weight" not in outcome.out


def test_weights_of_only_one_side_are_reported(dltrain) -> None:
    dltrain(*TINY)
    outcome = dltrain(*TINY, "model.hidden_sizes=[12,6,6]", "init.from=last")
    assert "fresh   model.7.weight (10, 6): the run has none of that name" in outcome.out
    fewer = dltrain(*TINY, "model.hidden_sizes=[12]", "init.from=last")
    assert "unused  model.5.weight (6, 6) of the run" in fewer.out


def test_a_resume_and_a_scoring_do_not_begin_again(dltrain) -> None:
    """The run begun with may be gone by then: what was trained is in the run's own checkpoints."""
    dltrain(*TINY, "name=teacher")
    outcome = dltrain(*TINY, "name=pupil", "init.from=teacher")
    teacher = next(Path("outputs").glob("*/*teacher*"))
    teacher.rename("elsewhere")
    evaluated = dltrain("evaluate", "pupil", "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["metrics"]["test/loss"] == pytest.approx(
        outcome.json["metrics"]["test/loss"]
    )
    resumed = dltrain("resume", "pupil", "trainer.epochs=2")
    assert resumed.code == 0, resumed.err
    assert "tensors loaded" not in resumed.out


@pytest.mark.parametrize("name", ["nope", "last"])
def test_an_unknown_run_exits_3_and_leaves_nothing(name: str, dltrain, tmp_path: Path) -> None:
    outcome = dltrain(*TINY, f"init.from={name}")
    assert outcome.code == 3
    assert "there is no run under outputs" in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_run_that_shares_no_weight_exits_3(dltrain) -> None:
    dltrain(*TINY)
    outcome = dltrain(
        *TINY, "model.hidden_sizes=[13]", "dataset.source.num_classes=7", "init.from=last"
    )
    assert outcome.code == 3
    assert "no weight of" in outcome.err


def test_smoke_begins_with_a_fresh_network(dltrain) -> None:
    """It does not look for the run."""
    outcome = dltrain(*TINY, "debug=smoke", "init.from=nope")
    assert outcome.code == 0, outcome.err
    assert "tensors loaded" not in outcome.out


def test_check_looks_for_the_run(dltrain) -> None:
    assert dltrain("check", *TINY, "init.from=last").code == 3
    dltrain(*TINY)
    outcome = dltrain("check", *TINY, "init.from=last")
    assert outcome.code == 0, outcome.err
    assert "6 of 6 tensors loaded" in outcome.out
