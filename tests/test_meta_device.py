"""Steps and evaluations on torch's `meta` device, where nothing can wait for a value.

The device computes shapes, mixes with no other device and has no values to read. What leaves the
device, or reads a value, fails on it: a step or an evaluation that runs there keeps a GPU busy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dltrain import rng
from dltrain.acceleration.feeding import DeviceFeed
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.callbacks.nonfinite import NonFinite
from dltrain.config.compose import compose
from dltrain.config.groups import groups
from dltrain.engine import Engine, Stage
from dltrain.experiment.experiment import Experiment
from dltrain.runs.folder import RunFolder
from dltrain.step_runner import MemoryGuard
from dltrain.tasks import outputs
from dltrain.tasks.compression.pruned import channels
from dltrain.tasks.search import supernet

META = torch.device("meta")
READS_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
EXPERIMENTS = groups()["experiment"]
NEVER_LOGGED = 10**9  # steps between two records: nothing is logged within a test

SMALLER = {  # the same layers over shorter sequences
    "bilstm_imdb": ["dataset.max_length=8"],
    "gru_imdb": ["dataset.max_length=8"],
    "quantize_lstm_imdb": ["dataset.max_length=8"],
    "lstm_imdb": ["dataset.max_length=8"],
    "rnn_imdb": ["dataset.max_length=8"],
    "stacked_lstm_imdb": ["dataset.max_length=8"],
    "bilstm_word2vec_imdb": ["dataset.max_length=8", "model.embedding.from=null"],
    "transfer_ants_bees": ["init.from=null"],
    "charlm_lstm_shakespeare": ["dataset.length=8"],
    "charlm_transformer_shakespeare": ["dataset.length=8"],
    "lora_shakespeare": ["dataset.length=8", "init.from=null"],
    "lstm_timeseries": ["dataset.window=8"],
}

BOXES = "the numbers of boxes, anchors and proposals differ between images"
ACTING = "an environment in Python needs every action on the host"
SUBWORDS = "the numbers of distinct words, and of their n-grams, are the sizes of the lookups"
TRANSLATING = "a search ends when all translations have ended, and asks for that every 8 tokens"
# What must wait for a value, as "experiment stage part", and why.
EXCEPTIONS = {
    "rcnn_coco128 train step": BOXES,
    "rcnn_coco128 train evaluation": BOXES,
    "rcnn_digits train step": BOXES,
    "rcnn_digits train evaluation": BOXES,
    "dqn_cartpole train evaluation": ACTING,
    "fasttext_vectors_imdb train step": SUBWORDS,
    "fasttext_vectors_imdb train evaluation": SUBWORDS,
    "seq2seq_attention_multi30k train evaluation": TRANSLATING,
    "seq2seq_multi30k train evaluation": TRANSLATING,
    "seq2seq_reverse train evaluation": TRANSLATING,
    "transformer_multi30k train evaluation": TRANSLATING,
}


class BlockingTransferError(AssertionError):
    """A tensor came to the device in a way that waits for the device, or mixed devices."""


class NoBlockingTransfers(TorchDispatchMode):
    """Refuses operations that a GPU would wait for, and that the `meta` device accepts.

    A copy to the device has to be `non_blocking`. Other operations may get a number of the CPU
    beside tensors of the device, but no array.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        name = func.overloadpacket.__name__
        from_host = [tensor for tensor in tensors if tensor.device != META]
        onto_device = len(from_host) < len(tensors) or kwargs.get("device") == META
        # An index that is a mask fails by itself; others read nothing.
        reads_values = name != "index" and bool(READS_VALUES & set(func.tags))
        if reads_values and len(from_host) < len(tensors):
            raise BlockingTransferError(f"{name} reads values of the device")
        if from_host and onto_device:
            self._check(name, args, kwargs, from_host)
        return func(*args, **kwargs)

    def _check(self, name: str, args: Any, kwargs: Any, from_host: list[Tensor]) -> None:
        if name == "_to_copy":
            if not kwargs.get("non_blocking"):
                raise BlockingTransferError("a copy to the device waits: non_blocking is not set")
        elif name == "copy_":
            is_number = from_host[0].ndim == 0
            if not (is_number or kwargs.get("non_blocking") or args[2:]):
                raise BlockingTransferError("a copy to the device waits: non_blocking is not set")
        elif any(tensor.ndim for tensor in from_host) and not name.startswith("new_"):
            raise BlockingTransferError(f"{name} gets an array of the CPU")


class MetaGenerator(torch.Generator):
    """A generator that says it is one of the `meta` device, of which torch has none."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The `meta` device."""
        return META


class EndOfBatchesError(Exception):
    """The last batch of an evaluation is scored; what follows may read values."""


@pytest.fixture(autouse=True)
def meta_stands_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the `meta` device generators, and leave out what waits between steps.

    The check of a stage's first batch waits once: a class number beyond the classes would end a
    GPU's process. The scores of a search are read between two stages.
    """
    branch = rng._branch

    def branched(device: torch.device, seed: int) -> torch.Generator:
        if device.type == "meta":
            return MetaGenerator().manual_seed(seed)
        return branch(device, seed)

    monkeypatch.setattr(rng, "_branch", branched)
    monkeypatch.setattr(outputs, "extremes", lambda numbers: (0, 0))
    monkeypatch.setattr(supernet, "read_scores", lambda scores: [])
    # which channels are removed is decided on the host, between two stages
    monkeypatch.setattr(channels, "on_host", lambda values: torch.zeros(values.shape))


class Trial:
    """Trains an experiment on the `meta` device, one step and one evaluation of each stage."""

    def __init__(self, overrides: Sequence[str], run: RunFolder) -> None:
        composed = compose([*overrides, "debug=smoke", "device=cpu"])
        assert not composed.problems
        experiment = Experiment.to_train(composed.config)
        self.task = experiment.task.to(META)
        metrics_log = MetricsLog(run, NEVER_LOGGED)
        trainer = experiment.trainer
        callbacks = [metrics_log, NonFinite(metrics_log, trainer.skip_nonfinite)]
        self.engine = Engine(callbacks, DeviceFeed(META), step_runner=MemoryGuard(halve=False))
        self.engine.task = self.task

    def stages(self) -> Iterator[Stage]:
        """Yield the stages, each as the engine's current one."""
        for stage in self.task.stages():
            self.engine.stage = stage
            yield stage

    def train(self, stage: Stage, steps: int = 1) -> None:
        """Make steps of a stage, as the engine does."""
        self.task.train()
        batches = self.engine.feed.batches(stage.batches.epoch(0))
        for _, batch in zip(range(steps), batches, strict=False):
            with NoBlockingTransfers():
                self.engine.metrics = self.engine.step_runner.run(stage, batch)
                self.engine.step += 1
                self.engine.emit("step_end")

    def evaluate(self, stage: Stage, most: int = 2) -> None:
        """Evaluate a stage on its first batches; what follows the last one is not called."""
        assert stage.held_out is not None
        self.task.eval()
        moved = self.engine.feed.batches(stage.held_out.epoch(0))
        batches = [batch for _, batch in zip(range(most), moved, strict=False)]
        with torch.no_grad(), NoBlockingTransfers(), pytest.raises(EndOfBatchesError):
            stage.evaluate(ended(batches))


def ended(batches: Sequence[Any]) -> Iterator[Any]:
    """Yield batches, then raise."""
    yield from batches
    raise EndOfBatchesError


def failure(call: Any, stage: Stage) -> str:
    """Return why a call for a stage fails; "" if it does not."""
    try:
        call(stage)
    except (BlockingTransferError, NotImplementedError, RuntimeError) as e:
        return f"{type(e).__name__}: {e}"
    return ""


@pytest.fixture
def run(tmp_path: Any) -> RunFolder:
    """A run's folder to which nothing is written."""
    return RunFolder(tmp_path / "run")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_step_and_no_evaluation_waits(experiment: str, run: RunFolder) -> None:
    """One step of every stage, and the batches of its evaluation, run on the `meta` device.

    Exceptions fail there; one that does not is no longer needed.
    """
    trial = Trial([f"experiment={experiment}", *SMALLER.get(experiment, ())], run)
    failures: dict[str, str] = {}
    for stage in trial.stages():
        parts = {"step": trial.train}
        if stage.held_out is not None:
            parts["evaluation"] = trial.evaluate
        for part, call in parts.items():
            if why := failure(call, stage):
                failures[f"{experiment} {stage.name} {part}"] = why
    allowed = {key for key in EXCEPTIONS if key.startswith(f"{experiment} ")}
    assert failures.keys() == allowed, "\n".join(f"{k}: {v}" for k, v in failures.items())


BASE = ("model=lenet5", "dataset=mnist")
SETTINGS = {
    "optimizer": [f"optimizer={name}" for name in groups()["optimizer"] if name != "sparse_adam"],
    "schedule": [f"schedule={name}" for name in groups()["schedule"]],
    "regularization": [f"regularization=[{name}]" for name in groups()["regularization"]],
}
COMBINED = {
    "accumulated and weighted": ("trainer.accumulate=2", "dataset.balance=weights"),
    "regularized": ("regularization=[clip,ema,l1,label_smoothing,mixup]", "trainer.accumulate=2"),
    "averaged over views": ("task.views=[flip,shift]", "regularization=[elastic_net,swa]"),
}
OVERRIDES = [*([choice] for choices in SETTINGS.values() for choice in choices), *COMBINED.values()]


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_no_setting_waits(overrides: Sequence[str], run: RunFolder) -> None:
    """Two updates, the second of which computes the norm of the gradient, and an evaluation."""
    trial = Trial([*BASE, *overrides], run)
    for stage in trial.stages():
        trial.train(stage, steps=2)
        for optim in stage.optims:
            optim.record_grad_norm = True
        trial.train(stage, steps=2)
        assert all(optim.grad_norm is not None for optim in stage.optims)
        trial.evaluate(stage)


REVERSAL = ("experiment=seq2seq_reverse", "trainer.accumulate=2")
BAG = ("experiment=fasttext_imdb",)
TEXT_SETTINGS = [
    *([*REVERSAL, f"loss={name}"] for name in groups()["loss"]),
    [*REVERSAL, "loss.label_smoothing=0.1", "task.teacher_forcing=0.5", "regularization=[clip]"],
    ["experiment=transformer_multi30k", "task.teacher_forcing=0.5"],
    [*BAG, "loss=focal", "dataset.balance=weights", "trainer.accumulate=2"],
    [*BAG, "optimizer=sparse_adam", "model.ngrams=3"],
    [*BAG, "model.sparse=false", "optimizer=adam", "regularization=[clip]"],
    ["experiment=word2vec_imdb", "model.output=hierarchical_softmax", "optimizer=sparse_adam"],
    ["experiment=lstm_imdb", "dataset.max_length=8", "model.summary=attention", "loss=focal"],
    ["experiment=lstm_imdb", "dataset.max_length=8", "model.impl=equations", "model.summary=mean"],
]


@pytest.mark.parametrize("overrides", TEXT_SETTINGS, ids=" ".join)
def test_no_step_on_texts_waits(overrides: Sequence[str], run: RunFolder) -> None:
    """An update of a network that reads or writes texts of different lengths."""
    trial = Trial(overrides, run)
    for stage in trial.stages():
        trial.train(stage, steps=2)


def test_scoring_given_translations_does_not_wait(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the search waits: the loss of a batch, which comes before it, does not."""

    def search(source: Tensor) -> None:
        raise EndOfBatchesError

    trial = Trial(REVERSAL, run)
    monkeypatch.setattr(trial.task, "translate", search)
    for stage in trial.stages():
        trial.evaluate(stage)


def test_skipping_bad_updates_waits(run: RunFolder) -> None:
    """The documented exception: whether to skip an update is a value."""
    trial = Trial([*BASE, "trainer.skip_nonfinite=5"], run)
    for stage in trial.stages():
        assert "reads values" in failure(trial.train, stage)


@pytest.mark.parametrize("prioritized", [False, True])
def test_learning_from_replayed_transitions_does_not_wait(
    prioritized: bool, run: RunFolder
) -> None:
    """Acting waits for actions; adding transitions and learning from them does not."""
    overrides = ["experiment=dqn_cartpole", f"task.prioritized={str(prioritized).lower()}"]
    trial = Trial(overrides, run)
    task: Any = trial.task
    for stage in trial.stages():
        with NoBlockingTransfers():
            for _ in range(2):
                task.replay.add(
                    {
                        "observation": torch.rand(8, 4),
                        "after": torch.rand(8, 4),
                        "action": torch.zeros(8, dtype=torch.int64),
                        "reward": torch.ones(8),
                        "terminated": torch.zeros(8, dtype=torch.bool),
                    }
                )
                metrics = task.learn(stage.optims[0], 0.5)
            task.update_target()
        assert all(mean.value.device == META for mean in metrics.values())
        assert task.replay.columns["observation"].device == META


ON_DEVICE = torch.rand(3, device=META)
WAITS = {
    "reading a number": lambda: ON_DEVICE.sum().item(),
    "a condition": lambda: bool(ON_DEVICE.any()),
    "selecting by a mask": lambda: ON_DEVICE[ON_DEVICE > 0],
    "counting": lambda: ON_DEVICE.nonzero(),
    "finding equal values": lambda: ON_DEVICE.unique(),
    "leaving the device": lambda: ON_DEVICE.cpu(),
    "mixing devices": lambda: ON_DEVICE + torch.ones(3),
    "an index of the CPU": lambda: ON_DEVICE[torch.tensor([0, 2])],
    "a blocking copy": lambda: torch.ones(3).to(META),
    "a blocking copy into a tensor": lambda: ON_DEVICE.clone().copy_(torch.ones(3)),
}


@pytest.mark.parametrize("call", WAITS.values(), ids=WAITS.keys())
def test_what_waits_is_refused(call: Any) -> None:
    """These tests can fail: a GPU would be waited for, and the harness raises."""
    with NoBlockingTransfers(), pytest.raises((BlockingTransferError, RuntimeError)):
        call()


def test_what_does_not_wait_is_allowed() -> None:
    """Copies that nobody waits for, and numbers beside tensors."""
    with NoBlockingTransfers():
        copy = torch.ones(3).to(META, non_blocking=True)
        copy.copy_(torch.ones(3), non_blocking=True)
        copy += torch.tensor(2.0)
        assert (copy * 3)[1:].device == META
