"""Diagnosis: what it measures on which steps, that the training does not notice, and what the sweep
shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import Points

from dltrain.callbacks.diagnosis import ACTIVATIONS, Diagnosis, figures
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine, Resume, Stage, Task
from dltrain.models.text.recurrent import Recurrence
from dltrain.optim import Optim
from dltrain.optimizers.sgd import sgd
from dltrain.runs.checkpoint import snapshot
from dltrain.runs.folder import METRICS, RunFolder
from dltrain.types import Plot


class Layers(Task):
    """Two linear layers and a norm between them; remembers the gradient norm of each linear layer
    at every step.
    """

    def __init__(self, scaler: torch.amp.GradScaler | None = None, accumulate: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.relu, self.last = (
            nn.Linear(2, 8),
            nn.LayerNorm(8),
            nn.ReLU(),
            nn.Linear(8, 1),
        )
        self.scaler, self.accumulate = scaler, accumulate
        self.norms: list[list[float]] = []
        self.watched: list[int] = []  # how many hooks there were at each step

    def stages(self) -> Iterator[Stage]:
        optim = Optim(
            self,
            lambda p: sgd(p, lr=0.1),
            clip_norm=1e-3,
            scaler=self.scaler,
            accumulate=self.accumulate,
        )

        def step(x: Tensor) -> dict[str, Tensor]:
            loss = F.mse_loss(self.predict(x), x.sum(dim=1, keepdim=True))
            gradients = [
                torch.autograd.grad(loss, [*m.parameters()], retain_graph=True)
                for m in (self.first, self.last)
            ]
            self.norms.append(
                [float(torch.cat([g.flatten() for g in layer]).norm()) for layer in gradients]
            )
            self.watched.append(sum(len(m._forward_hooks) for m in self.modules()))
            optim.update(loss)
            return {"loss": loss.detach()}

        def evaluate(batches: Any) -> dict[str, float]:
            return {
                "loss": float(torch.stack([self.predict(x * 0).mean() for x in batches]).mean())
            }

        yield Stage("layers", 3, Points(5), step, Points(1), evaluate, (optim,))

    def predict(self, batch: Tensor) -> Tensor:
        out: Tensor = self.last(self.relu(self.norm(self.first(batch))))
        return out


class Shown:
    """A log whose records are kept."""

    def __init__(self, folder: Path) -> None:
        self.log = MetricsLog(RunFolder(folder), 100)
        self.records: list[tuple[int, dict[str, Any]]] = []
        self.log.subscribe(lambda engine, record: self.records.append((engine.step, record)))

    def of(self, name: str) -> dict[int, Any]:
        return {step: record[name] for step, record in self.records if name in record}


@pytest.mark.parametrize(("every", "steps"), [(1, range(2, 16)), (4, (2, 6, 10, 14)), (50, (2,))])
def test_gradient_norms_are_those_before_clipping_on_the_second_step_and_each_after(
    every: int, steps: tuple[int, ...], tmp_path: Path
) -> None:
    shown, task = Shown(tmp_path), Layers()
    Engine([shown.log, Diagnosis(shown.log, every)]).fit(task)
    first, last = (shown.of(f"diagnosis/gradient_norm/{name}") for name in ("first", "last"))
    assert first == {step: pytest.approx(task.norms[step - 1][0], rel=1e-5) for step in steps}
    assert last == {step: pytest.approx(task.norms[step - 1][1], rel=1e-5) for step in steps}
    assert shown.of("train/gradient_ratio") == {
        step: pytest.approx(first[step] / last[step]) for step in steps
    }
    assert task.watched == [int(step in steps) for step in range(1, 16)], "other steps cost nothing"
    assert not any(m._forward_hooks for m in task.modules())
    assert not any(p._post_accumulate_grad_hooks for p in task.parameters())


def test_the_loss_scale_is_taken_out(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    task = Layers(scaler)
    Engine([shown.log, Diagnosis(shown.log, 4)]).fit(task)
    expected = {step: pytest.approx(task.norms[step - 1][0], rel=1e-4) for step in (2, 6, 10, 14)}
    assert shown.of("diagnosis/gradient_norm/first") == expected


def test_a_stage_ends_with_a_plot_of_its_first_and_last_measured_step(tmp_path: Path) -> None:
    shown, task = Shown(tmp_path), Layers()
    Engine([shown.log, Diagnosis(shown.log, 4)]).fit(task)
    picture = shown.of("diagnosis/gradient_norms")[15]
    assert isinstance(picture, Plot)
    assert list(picture.lines) == ["step 2", "step 14"]
    assert list(picture.lines["step 14"][1]) == [
        pytest.approx(norm, rel=1e-5) for norm in task.norms[13]
    ]
    assert picture.log_y


@pytest.mark.parametrize("stopped", [5, 6])
def test_a_resumed_run_measures_the_same_steps(stopped: int, tmp_path: Path) -> None:
    """Stopped just before a step that is measured, or just after it."""
    whole, before, after = Shown(tmp_path / "a"), Shown(tmp_path / "b"), Shown(tmp_path / "c")
    for shown in (whole, before, after):
        shown.log.run.folder.mkdir()
    Engine([whole.log, Diagnosis(whole.log, 4)]).fit(Layers())

    class Stop(Callback):
        def step_end(self, engine: Engine) -> None:
            if engine.step == stopped:
                self.state = snapshot(engine.state_dict())
                engine.end_run()

    stop = Stop()
    Engine([before.log, Diagnosis(before.log, 4), stop]).fit(Layers())
    Engine([after.log, Diagnosis(after.log, 4)]).fit(Layers(), Resume(stop.state))
    name = "diagnosis/gradient_norm/first"
    assert list(before.of(name) | after.of(name)) == [2, 6, 10, 14]
    assert before.of(name) | after.of(name) == whole.of(name)
    assert after.of("diagnosis/gradient_norms") == whole.of("diagnosis/gradient_norms")


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_every_activation_has_mean_and_deviation(kind: type[nn.Module]) -> None:
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    found = figures(kind(), kind()(x))
    assert float(found["activation_mean"]) == pytest.approx(float(kind()(x).mean()))
    assert float(found["activation_std"]) == pytest.approx(float(kind()(x).std(correction=0)))
    extra = {"dead_units"} if "ReLU" in kind.__name__ and kind is not nn.LeakyReLU else set()
    extra |= {"saturated_units"} if kind in (nn.Tanh, nn.Sigmoid) else set()
    assert found.keys() == {"activation_mean", "activation_std"} | extra


@pytest.mark.parametrize(
    ("shape", "dead", "share"),
    [
        ((5, 4), (slice(None), 1), 1 / 4),
        ((5, 4), (0, slice(None)), 0.0),  # one sample without any active unit is no dead unit
        ((5, 4, 3, 3), (slice(None), slice(1, 3)), 2 / 4),
        ((5, 7, 4), (slice(None), slice(None), 0), 1 / 4),
    ],
)
def test_a_unit_is_dead_that_is_zero_for_the_whole_batch(
    shape: tuple[int, ...], dead: Any, share: float
) -> None:
    output = torch.ones(shape)
    output[dead] = 0
    assert float(figures(nn.ReLU(), output)["dead_units"]) == share


def test_saturated_values_are_near_the_ends_of_the_range() -> None:
    assert (
        float(figures(nn.Tanh(), torch.tensor([[-0.98, 0.0, 0.96, 0.98]]))["saturated_units"])
        == 0.5
    )
    assert (
        float(figures(nn.Sigmoid(), torch.tensor([[0.02, 0.04, 0.96, 0.98]]))["saturated_units"])
        == 0.5
    )


def records(run: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (Path(run) / METRICS).read_text(encoding="utf-8").splitlines()
    ]


TINY = (
    "model=deep_mlp",
    "model.depth=4",
    "model.width=8",
    "trainer.steps=40",
    "trainer.log_every=1",
    "--json",
)


def test_the_training_does_not_notice_and_tensorboard_shows_it(dltrain) -> None:
    """The same losses bit for bit; few figures in the file, the rest and the plot in
    TensorBoard.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plain = dltrain(*TINY, "callbacks=quiet", "regularization=[clip]").json
    watched = dltrain(
        *TINY, "callbacks=diagnosis", "callbacks.diagnosis.every=3", "regularization=[clip]"
    ).json
    losses = [
        [r["train/loss"] for r in records(outcome["run"]) if "train/loss" in r]
        for outcome in (plain, watched)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 40
    assert watched["metrics"].keys() - plain["metrics"].keys() == {
        "train/gradient_ratio",
        "train/dead_units",
    }
    assert {name: watched["metrics"][name] for name in plain["metrics"]} == plain["metrics"]
    assert not any("diagnosis" in name for record in records(watched["run"]) for name in record)
    events = EventAccumulator(str(Path(watched["run"]) / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    layers = [tag for tag in tags["scalars"] if tag.startswith("diagnosis/gradient_norm/")]
    assert layers == [f"diagnosis/gradient_norm/model.{i}" for i in (1, 3, 5, 7, 9)]
    assert [e.step for e in events.Scalars(layers[0])] == [
        e.step for e in events.Scalars("train/dead_units")
    ]
    assert [e.step for e in events.Scalars(layers[0])] == list(range(2, 41, 3))
    assert {
        "diagnosis/gradient_norms",
        "val/roc",
        "test/roc",
        "val/per_class",
        "test/per_class",
    } <= set(tags["images"])


def test_a_sweep_shows_where_the_gradient_vanishes(dltrain) -> None:
    """With sigmoids and no normalization the first layer's gradient vanishes; with batch
    norm not.
    """
    outcome = dltrain(
        *(
            "-m",
            "launcher=inline",
            "experiment=vanishing_gradient",
            "model.activation=sigmoid,relu",
            "model.norm=none,batch",
        ),
        *("trainer.steps=3", "callbacks.tensorboard=null", "--json"),
    )
    assert outcome.code == 0, outcome.err
    ratios = [row["metrics"]["train/gradient_ratio"] for row in outcome.json["jobs"]]
    assert ratios[0] < 1e-6
    assert 0.1 < ratios[1] < 10
    assert 0.1 < ratios[3] < 100
    table = outcome.out.partition(f"\n{outcome.json['sweep']}\n")[2].splitlines()
    header = [
        "val/accuracy",
        "test/accuracy",
        "test/loss",
        "train/gradient_ratio",
        "train/dead_units",
        "train/saturated_units",
    ]
    assert table[0].split()[4:10] == header
    assert [line.split()[8] == "-" for line in table[1:5]] == [True, True, False, False]
    assert not any(math.isnan(ratio) for ratio in ratios)


class Reader(Task):
    """A recurrent network that says the sum of a series, whose gradient at every input is kept as
    autograd has it.
    """

    def __init__(self, cell: Literal["rnn", "lstm"], lengths: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.recurrence, self.output = Recurrence(cell, 2, 4), nn.Linear(4, 1)
        self.lengths = torch.tensor([6, 3, 5]) if lengths else None
        self.x = torch.randn(3, 6, 2)

    def loss(self, x: Tensor) -> Tensor:
        outputs, _ = self.recurrence(x, self.lengths)
        last = (
            outputs[:, -1] if self.lengths is None else outputs[torch.arange(3), self.lengths - 1]
        )
        return self.output(last).square().sum()

    def stages(self) -> Iterator[Stage]:
        optim = Optim(self, lambda params: torch.optim.SGD(params, lr=0.0))

        def step(batch: Any) -> dict[str, Tensor]:
            loss = self.loss(self.x)
            optim.update(loss)
            return {"loss": loss.detach()}

        yield Stage("train", 1, Points(4), step, optims=(optim,))

    def predict(self, batch: Any) -> Any:
        return batch


@pytest.mark.parametrize("lengths", [True, False])
def test_a_recurrent_networks_gradient_is_shown_by_the_distance_to_the_end(
    lengths: bool, tmp_path: Path
) -> None:
    shown, task = Shown(tmp_path), Reader("rnn", lengths)
    Engine([shown.log, Diagnosis(shown.log)]).fit(task)
    x = task.x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(x), x)
    ends = [6, 3, 5] if lengths else [6, 6, 6]
    expected = []
    for distance in range(6):
        found = [
            gradient[row, end - 1 - distance].square().sum()
            for row, end in enumerate(ends)
            if end > distance
        ]
        expected.append(float(torch.stack(found).mean().sqrt()))
    picture = shown.of("diagnosis/gradient_through_time")[4]
    assert list(picture.lines["step 2"][1]) == pytest.approx(expected, rel=1e-5)
    assert shown.of("train/gradient_through_time") == {
        2: pytest.approx(expected[-1] / expected[0], rel=1e-5)
    }
    assert not task.recurrence._forward_pre_hooks
