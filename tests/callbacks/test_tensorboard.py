"""TensorBoard: what is written for it, and that a run goes on without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import SMALL, lines


def test_tensorboard_has_everything(dltrain: Callable[..., Any]) -> None:
    """Scalars, learning rate, gradient norm, HParams with final and best metrics, graph, pictures and text."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = dltrain(*SMALL, "callbacks.progress=null", "--json")
    assert outcome.code == 0, outcome.err
    folder = Path(outcome.json["run"])
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {"train/loss", "train/lr", "train/grad_norm", "val/loss", "val/accuracy", "test/accuracy", "test/f1"}
    assert scalars | {"final/test/accuracy", "best/val/accuracy"} <= set(tags["scalars"])
    pictures = {f"{split}/{name}" for split in ("val", "test") for name in ("samples", "mistakes", "confusion")}
    assert pictures <= set(tags["images"])
    assert all(events.Images(tag)[0].width > 8 for tag in pictures)
    assert tags["graph"]
    for name in ("train/loss", "train/lr", "train/grad_norm", "val/accuracy"):
        logged = {line["step"]: line[name] for line in lines(folder) if name in line}
        assert {event.step: event.value for event in events.Scalars(name)} == pytest.approx(logged, rel=1e-6), name
    text = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"] if "text" in tag}
    assert "model=mlp" in text["command/text_summary"]
    assert '"hidden_sizes"' in text["configuration/text_summary"]
    hparams = b"".join(events.summary_metadata[tag].plugin_data.content for tag in events.summary_metadata)
    for name in (
        "optimizer.lr",
        "model.hidden_sizes",
        "dataset.batch_size",
        "final/test/accuracy",
        "best/val/accuracy",
    ):
        assert name.encode() in hparams, name


@pytest.mark.parametrize("failing", ["add_scalar", "add_image", "add_hparams", "flush"])
def test_tensorboard_does_not_stop_a_run(failing: str, dltrain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writing thread raises in whatever is called next: one line, and the run is done and whole."""
    from torch.utils.tensorboard import SummaryWriter

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, failing, full)
    outcome = dltrain("model=mlp", "dataset=digits", "trainer.epochs=1", "trainer.log_every=5", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("TensorBoard cannot be written (No space left on device); training goes on") == 1
    assert outcome.json["metrics"]["test/accuracy"] > 0.5
