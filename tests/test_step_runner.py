"""Steps that do not fit in memory: the line that helps, and the same update out of parts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import GAN, Counting, Points

from dltrain.engine import Engine, Resume, Stage, Task
from dltrain.errors import DltrainError
from dltrain.optim import Optim
from dltrain.optimizers.sgd import sgd
from dltrain.step_runner import MemoryGuard, split

SIZE = 10


class Large(Task):
    """A network that takes at most `most` samples at once."""

    def __init__(self, most: int, accumulate: int = 1, kind: str = "cuda") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.most, self.accumulate, self.kind = nn.Linear(2, 3), most, accumulate, kind
        self.sizes: list[int] = []

    def stages(self) -> Iterator[Stage]:
        self.optim = Optim(self.net, functools.partial(sgd, lr=0.1), accumulate=self.accumulate)
        yield Stage("only", 2, Points(5, SIZE), self.step, optims=(self.optim,))

    def step(self, batch: Tensor) -> dict[str, Tensor]:
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            if self.kind == "cuda":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."
            )
        loss = self.net(batch).square().mean()
        self.optim.update(loss)
        return {"loss": loss.detach()}

    def predict(self, batch: Any) -> Any:
        return self.net(batch)


def fit(task: Task, halve: bool) -> Engine:
    engine = Engine(step_runner=MemoryGuard(halve))
    engine.fit(task)
    return engine


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_the_line_that_helps(kind: str) -> None:
    """Cause, batch size and what to try, of a GPU and of the machine."""
    with pytest.raises(DltrainError) as caught:
        fit(Large(4, kind=kind), halve=False)
    message = str(caught.value)
    assert f"out of memory in a step with a batch of {SIZE}: " in message
    assert "allocate" in message.splitlines()[0]
    assert "trainer.on_oom=halve" in message
    assert "dataset.batch_size=5 trainer.accumulate=2" in message
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("most", [9, 4, 2, 1])
def test_halves_make_the_same_updates(most: int, accumulate: int) -> None:
    """10 samples in 2, 4, 8 or 10 parts, some larger than others: weights, losses and counts as of
    whole batches.
    """
    whole, parts = Large(SIZE, accumulate), Large(most, accumulate)
    fit(whole, halve=False)
    engine = fit(parts, halve=True)
    torch.testing.assert_close(parts.net.state_dict(), whole.net.state_dict(), rtol=0, atol=1e-6)
    assert parts.optim.updates == whole.optim.updates
    assert max(parts.sizes[-10:]) <= most
    assert parts.sizes.count(SIZE) == 1, "how many parts it takes is kept"
    assert engine.state_dict()["step_runner"] == {"parts": {9: 2, 4: 4, 2: 8, 1: 10}[most]}
    assert engine.metrics["loss"].value.shape == ()


def test_what_cannot_be_halved(caplog: pytest.LogCaptureFixture) -> None:
    """A single sample that does not fit, a task without gradients, another error, and a step that
    has updated a network.
    """
    with pytest.raises(DltrainError, match="a batch of 10, in 10 parts"):
        fit(Large(0), halve=True)

    class Greedy(Counting):
        def step(self, batch: Any) -> dict[str, Tensor]:
            raise torch.OutOfMemoryError("no")

    with pytest.raises(DltrainError, match="out of memory in a step"):
        fit(Greedy((1, 1, None)), halve=True)

    class Broken(Counting):
        def step(self, batch: Any) -> dict[str, Tensor]:
            raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        fit(Broken((1, 1, None)), halve=True)

    class Half(GAN):
        def step(self, real: Tensor) -> dict[str, Tensor]:
            super().step(real)
            raise torch.OutOfMemoryError("no")

    with pytest.raises(DltrainError, match="one of its networks was updated already"):
        fit(Half(), halve=True)


def test_the_number_of_parts_is_found_in_a_checkpoint_of_version_0_1() -> None:
    """There the step runner was a callback called memory."""
    engine = Engine(step_runner=MemoryGuard(halve=True))
    engine.fit(Large(4))
    state = engine.state_dict()
    state["callbacks"]["memory"] = state.pop("step_runner")
    again = MemoryGuard(halve=True)
    Engine(step_runner=again).position_at(Large(4), Resume(state))
    assert again.parts == 4


def test_split_keeps_the_samples_together() -> None:
    """Tensors in tuples, lists and dicts, divided alike."""
    batch = (torch.arange(5), {"a": [torch.arange(10).view(5, 2)]})
    parts = list(split(batch, 2))
    assert [part[0].tolist() for part in parts] == [[0, 1, 2], [3, 4]]
    assert [part[1]["a"][0].tolist() for part in parts] == [
        [[0, 1], [2, 3], [4, 5]],
        [[6, 7], [8, 9]],
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad", "rmsprop"])
def test_an_optimizer_that_takes_no_sparse_gradients_is_refused(
    optimizer: str, dltrain, tmp_path: Path
) -> None:
    """Exit code 2, with the optimizers that do."""
    (tmp_path / "texts.csv").write_text(
        "text,y\n" + "one two,a\nthree four,b\n" * 20, encoding="utf-8"
    )
    data = ("dataset=text_files", f"dataset.path={tmp_path / 'texts.csv'}", "dataset.label=y")
    outcome = dltrain(
        *data, "model=fasttext", "model.buckets=100", f"optimizer={optimizer}", "trainer.steps=1"
    )
    assert outcome.code == 2
    assert "optimizer=sparse_adam or row_adagrad" in outcome.err
