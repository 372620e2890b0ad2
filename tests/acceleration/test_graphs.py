"""Recorded steps against plain ones, with a tape in place of a CUDA graph."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from step_tape import Tape, TapeRecorder, addresses
from torch import Tensor, nn
from toys import On, Points

from dltrain import rng
from dltrain.acceleration.graphs import NEEDS_GPU, GraphStepRunner
from dltrain.acceleration.step_observer import observed
from dltrain.device import Device
from dltrain.engine import Callback, Engine, Mean, PlainStepRunner, Resume, Stage, Task
from dltrain.optim import Optim
from dltrain.optimizers.adam import adam
from dltrain.optimizers.muon import Muon
from dltrain.optimizers.rmsprop import rmsprop
from dltrain.optimizers.sgd import sgd
from dltrain.regularization.ema import EMA
from dltrain.regularization.l1 import L1
from dltrain.regularization.l2 import L2
from dltrain.regularization.swa import SWA
from dltrain.step_runner import MemoryGuard

EPOCHS, BATCHES = 3, 6
WARM_UP = 3  # steps of a stage before one is recorded
RELATIVE_TOLERANCE = 1e-5  # a recorded step has its learning rates in fp32


class Halving:
    """A schedule that changes the learning rate at every update."""

    def factor(self, update: int) -> float:
        return 0.9**update

    def observe(self, metric: float) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ShortLast(Points):
    """Batches of points, the last of an epoch with fewer of them."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Tensor]:
        for position, points in enumerate(super().epoch(number, start), start):
            is_last = position == self.count - 1
            yield points[:2] if is_last else points


class Regression(Task):
    """Two stages that fit a network with dropout and batch norm to the points' squares."""

    def __init__(self, batches: Points | None = None, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        # no bias before batch norm: Adam would turn the rounding of its gradient of 0 into steps
        self.net = nn.Sequential(
            nn.Linear(2, 8, bias=False),
            nn.BatchNorm1d(8),
            nn.Tanh(),
            nn.Dropout(0.2),
            nn.Linear(8, 2),
        )
        self.points = batches or ShortLast(BATCHES)
        self.settings = {"optimizer": functools.partial(adam, lr=0.01), **settings}
        self.optims: list[Optim] = []

    def stages(self) -> Iterator[Stage]:
        for name in ("first", "second"):
            rng.torch_stream("noise")
            optim = Optim(self.net, total_updates=EPOCHS * BATCHES, **self.settings)
            self.optims.append(optim)
            yield Stage(
                name,
                EPOCHS,
                self.points,
                functools.partial(self.step, optim),
                held_out=Points(1, seed=9),
                optims=(optim,),
                replayable=True,
            )

    def step(self, optim: Optim, points: Tensor) -> dict[str, Tensor | Mean]:
        noise = torch.randn(points.shape, generator=rng.torch_stream("noise"))
        differences = self.net(points + 0.1 * noise) - points.square()
        loss = self.loss(differences)
        optim.update(loss)
        kept = (differences.detach() > 0).sum()
        return {"loss": loss.detach(), "error": Mean(differences.detach().abs().mean(), kept)}

    def loss(self, differences: Tensor) -> Tensor:
        return differences.square().mean()

    def predict(self, batch: Any) -> Any:
        return self.net(batch)


class Trained:
    """A trained task, and what was logged of every step."""

    def __init__(
        self,
        task: Task,
        runner: GraphStepRunner | PlainStepRunner,
        resume: Resume | None = None,
        *more: Any,
    ) -> None:
        rng.seed_all(0)
        self.task = task
        self.rows: list[list[float]] = []
        self.engine = Engine(
            (Rows(self.rows), *more), step_runner=MemoryGuard(False, runner=runner)
        )
        self.engine.fit(task, resume)
        self.weights = {name: value.clone() for name, value in task.state_dict().items()}
        self.averages = [a.clone() for a in self.engine.stage.optims[0].averages]


class Rows(On):
    """Keeps step, metrics, learning rate and gradient norm of every step, as a log reads them."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__("", 0, None)
        self.rows = rows

    def step_end(self, engine: Engine) -> None:
        optim = engine.stage.optims[0]
        values = [float(value) for value in engine.metrics.values()]
        weights = [float(v.weight) for v in engine.metrics.values() if isinstance(v, Mean)]
        norm = -1.0 if optim.grad_norm is None else float(optim.grad_norm)
        self.rows.append([engine.step, *values, *weights, optim.lrs[0], norm, optim.updates])
        optim.grad_norm = None
        optim.record_grad_norm = engine.step % 2 == 0


def assert_equal(recorded: Trained, plain: Trained) -> None:
    assert len(recorded.rows) == len(plain.rows)
    for row, expected in zip(recorded.rows, plain.rows, strict=True):
        assert row == pytest.approx(expected, rel=RELATIVE_TOLERANCE, abs=1e-6)
    torch.testing.assert_close(recorded.weights, plain.weights)
    torch.testing.assert_close(recorded.averages, plain.averages)


SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"optimizer": functools.partial(sgd, lr=0.1)},
    "momentum": {"optimizer": functools.partial(sgd, lr=0.1, momentum=0.9, nesterov=True)},
    "schedule": {"schedule": Halving()},
    "clipping": {"clip_norm": 0.5, "clip_value": 0.1},
    "ema": {"average": EMA(0.9).average},
    "swa": {"average": SWA(0.5).average, "schedule": Halving()},
    "penalties": {"penalties": [L2(0.1), L1(0.1)], "schedule": Halving()},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_recorded_steps_equal_plain_ones(name: str) -> None:
    """Weights, averages, metrics, rates and norms, with a short last batch, in two stages."""
    settings = SETTINGS[name]
    runner = GraphStepRunner(TapeRecorder())
    recorded = Trained(Regression(**settings), runner)
    plain = Trained(Regression(**settings), PlainStepRunner())
    assert runner.replays == 2 * (EPOCHS * (BATCHES - 1) - WARM_UP)
    assert_equal(recorded, plain)


def test_a_stage_releases_its_recording() -> None:
    recorder = TapeRecorder()
    runner = GraphStepRunner(recorder)
    Trained(Regression(), runner)
    assert len(recorder.tapes) == 2
    assert runner.steps is None
    assert len(recorder.streams) == 1


class StageEnd(Callback):
    """Keeps the state of the first stage's end."""

    name = "stage_end"

    def __init__(self, saved: dict[str, Any]) -> None:
        self.saved = saved

    def stage_end(self, engine: Engine) -> None:
        self.saved.setdefault("end", copy_of(engine.stage_end_state()))


@pytest.mark.parametrize("stop", [4, 8, 21, 26])
def test_a_resumed_run_records_again(stop: int) -> None:
    """The state is an ordinary one: plain and recorded runs continue each other's."""
    saved: dict[str, Any] = {}

    def save(engine: Engine) -> None:
        saved.update(engine=copy_of(engine.state_dict()))
        if engine.index:
            saved["ends"] = {0: saved["end"]}

    at_end = StageEnd(saved)
    whole = Trained(
        Regression(), GraphStepRunner(TapeRecorder()), None, at_end, On("step_end", stop, save)
    )
    rates = saved["engine"]["optims"][0]["optimizer"]["param_groups"][0]
    assert isinstance(rates["lr"], float)
    assert not rates["capturable"]
    for runner in (GraphStepRunner(TapeRecorder()), PlainStepRunner()):
        resume = Resume(copy_of(saved["engine"]), copy_of(saved.get("ends", {})))
        resumed = Trained(Regression(), runner, resume)
        rows = [row[:-2] for row in whole.rows[stop:]]
        assert len(resumed.rows) == len(rows)
        for row, expected in zip(resumed.rows, rows, strict=True):
            assert row[:-2] == pytest.approx(expected, rel=RELATIVE_TOLERANCE, abs=1e-6)
        torch.testing.assert_close(resumed.weights, whole.weights)


def copy_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copy_of(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(copy_of, value))
    return value


def test_inputs_and_metrics_stay_where_they_are() -> None:
    """Metrics of earlier steps are copies: the log reads them later."""
    task = Regression(Points(8))
    runner = GraphStepRunner(TapeRecorder())
    stage = next(iter(task.stages()))
    points = list(task.points.epoch(0))
    kept = [runner.run(stage, batch) for batch in points[:6]]
    values = [float(metrics["loss"]) for metrics in kept]
    assert runner.steps is not None
    assert runner.steps.inputs is not None
    before = addresses(runner.steps.inputs.tensors)
    for batch in points[6:]:
        runner.run(stage, batch)
    assert addresses(runner.steps.inputs.tensors) == before
    assert [float(metrics["loss"]) for metrics in kept] == values
    assert len(set(values)) == len(values)


def reason(
    caplog: pytest.LogCaptureFixture, task: Task, recorder: TapeRecorder | None = None
) -> str:
    """Return why the first stage of `task` was not recorded; its steps equal plain ones."""
    with caplog.at_level(logging.WARNING, "dltrain"):
        recorded = Trained(task, GraphStepRunner(recorder or TapeRecorder()))
    lines = [record.getMessage() for record in caplog.records if "'first'" in record.getMessage()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("device.compile=step: the steps of stage 'first' are not recorded: ")
    assert all(len(row) == len(recorded.rows[0]) for row in recorded.rows)
    return lines[0].partition("not recorded: ")[2]


REASONS: dict[str, tuple[dict[str, Any], str]] = {
    "accumulate": ({"accumulate": 2}, "trainer.accumulate=2"),
    "nonfinite": ({"skip_nonfinite": True}, "trainer.skip_nonfinite"),
    "fp16": ({"scaler": torch.amp.GradScaler("cpu", enabled=True)}, "device.precision=fp16"),
    "optimizer": ({"optimizer": functools.partial(Muon, lr=0.01)}, "Muon"),
}


@pytest.mark.parametrize("name", REASONS)
def test_settings_that_need_the_host(name: str, caplog: pytest.LogCaptureFixture) -> None:
    settings, words = REASONS[name]
    assert words in reason(caplog, Regression(**settings))


class Waiting(Regression):
    def loss(self, differences: Tensor) -> Tensor:
        return differences.square().mean() * float(differences.detach().square().mean() < 1e9)


class Counting(Regression):
    """A weight of the loss that changes with the step, as a number of the host."""

    steps = 0

    def loss(self, differences: Tensor) -> Tensor:
        self.steps += 1
        return differences.square().mean() * (1 + self.steps / 100)


class Masked(Regression):
    def loss(self, differences: Tensor) -> Tensor:
        return differences[differences.detach() > 0].sum()


class Twice(Regression):
    def step(self, optim: Optim, points: Tensor) -> dict[str, Tensor | Mean]:
        super().step(optim, points)
        return super().step(optim, points)


class Undeclared(Regression):
    def stages(self) -> Iterator[Stage]:
        import dataclasses

        for stage in super().stages():
            yield dataclasses.replace(stage, replayable=False)


class Varying(Points):
    def epoch(self, number: int, start: int = 0) -> Iterator[Tensor]:
        for position, points in enumerate(super().epoch(number, start), start):
            yield points[: 2 + position % 5]


STEPS: dict[str, tuple[Callable[[], Task], str]] = {
    "wait": (Waiting, "waits for values of the device (aten::_local_scalar_dense)"),
    "mask": (Masked, "waits for values of the device (aten::index"),
    "count": (Counting, "not the same for every batch (aten::mul)"),
    "two steps": (Twice, "does not step at every batch"),
    "undeclared": (Undeclared, "Stage.replayable"),
    "shapes": (lambda: Regression(Varying(8, batch_size=6)), "shapes of its batches vary"),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_that_need_the_host(name: str, caplog: pytest.LogCaptureFixture) -> None:
    make, words = STEPS[name]
    assert words in reason(caplog, make())


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted\nmore"), AssertionError()])
def test_a_recording_that_fails_costs_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The step is made plainly, with the random numbers that it would have drawn."""
    with caplog.at_level(logging.WARNING, "dltrain"):
        recorded = Trained(Regression(), GraphStepRunner(TapeRecorder(error)))
    assert_equal(recorded, Trained(Regression(), PlainStepRunner()))
    words = str(error).partition("\n")[0] or "AssertionError"
    assert [words in record.getMessage() for record in caplog.records] == [True, True]


def test_a_value_of_the_host_is_found_on_another_device() -> None:
    """On the meta device, as on a GPU, a tensor of the host in a step is a problem."""
    weight = torch.ones(3, device="meta", requires_grad=True)

    def step(value: Any) -> None:
        (weight * value).sum().backward()

    meta = weight.device
    assert not observed(meta, lambda: step(2.0))[1].problem
    assert "takes values from it" in observed(meta, lambda: step(torch.tensor(2.0)))[1].problem


def test_a_tape_repeats_what_changed() -> None:
    """The stand-in itself: numbers of the host stay, values of tensors do not."""
    source, total = torch.ones(2), torch.zeros(2)
    number = 1.0
    tape = Tape()
    with tape:
        total.add_(source * number)
    number = 5.0
    source.fill_(2)
    tape.replay()
    assert total.tolist() == [1, 1]
    tape.replay()
    assert total.tolist() == [3, 3]


def test_a_cpu_compiles_networks_instead(caplog: pytest.LogCaptureFixture) -> None:
    """One line says so, whatever the number of stages."""
    runner = Device(name="cpu", compile="step").step_runner()
    with caplog.at_level(logging.WARNING, "dltrain"):
        Trained(Regression(), runner)  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [NEEDS_GPU]


def test_rmsprop_keeps_its_count_of_steps_on_the_device() -> None:
    """Optimizers without a fused kernel work on a GPU only; what they are given is checked here."""
    from dltrain.acceleration.recorded_optim import RecordedOptim, obstacle

    net = nn.Linear(2, 2)
    optim = Optim(net, functools.partial(rmsprop, lr=0.1))
    assert obstacle(optim) == ""
    recorded = RecordedOptim(optim)
    recorded.begin()
    seen: list[Any] = []
    with recorded.on_device():
        hook = optim.optimizer.register_step_pre_hook(
            lambda optimizer, *rest: seen.append(dict(optimizer.param_groups[0]))
        )
        with pytest.raises(AssertionError, match="capturable"):
            optim.update(net(torch.ones(1, 2)).sum())
    hook.remove()
    assert seen[0]["capturable"]
    assert seen[0]["lr"] is recorded.rates[0]
    assert optim.updates == 0
    recorded.abandon()
    assert net.weight.grad is None
