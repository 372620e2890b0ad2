"""TensorBoard: curves, pictures, tables, the graph, and hyper-parameters with what they led to."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.report.pictures import grid, heat_map, plot
from dltrain.run import Run
from dltrain.types import Image, Plot, Table, Text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Callback):
    """Writes `tensorboard/` in the run's folder.

    Scalars as they are logged; at the end of a stage and after the test the pictures and tables of a task; at the end the
    graph, and HParams with final and best metrics. The library is imported at the first record, after training has begun.
    """

    name = "tensorboard"

    def __init__(self, run: Run, log: MetricsLog, settings: dict[str, Any], command: str) -> None:
        self.run, self.settings, self.command = run, settings, command
        self._writer: SummaryWriter | None = None
        self.purge_step: int | None = None
        log.subscribe(self.scalars)

    @property
    def writer(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.run.folder / "tensorboard"), purge_step=self.purge_step)
            as_text = "\n".join(f"    {line}" for line in json.dumps(self.settings, indent=2).splitlines())
            self._writer.add_text("configuration", as_text)
            self._writer.add_text("command", f"    {self.command}")
        return self._writer

    def scalars(self, engine: Engine, record: dict[str, Any]) -> None:
        for name, value in record.items():
            if isinstance(value, float):
                self.writer.add_scalar(name, value, engine.step)
        self.show({name: value for name, value in record.items() if not isinstance(value, float)}, engine.step)

    def stage_end(self, engine: Engine) -> None:
        self.show(engine.scores, engine.step)

    def show(self, scores: dict[str, Any], step: int) -> None:
        """Draw the pictures, tables and texts among `scores`."""
        for name, value in scores.items():
            if isinstance(value, Image) and len(value.pixels):
                self.writer.add_image(name, grid(value.pixels, value.captions), step, dataformats="HWC")
            elif isinstance(value, Table):
                self.writer.add_image(name, heat_map(value), step, dataformats="HWC")
            elif isinstance(value, Plot):
                self.writer.add_image(name, plot(value), step, dataformats="HWC")
            elif isinstance(value, Text):
                self.writer.add_text(name, value.markdown, step)
            elif isinstance(value, float) and name.startswith("test/"):
                self.writer.add_scalar(name, value, step)

    def finish(
        self, engine: Engine, latest: dict[str, float], test_scores: dict[str, Any], best: dict[str, float]
    ) -> None:
        """The test's figures and pictures, the graph, and the hyper-parameters beside what they led to."""
        self.show(test_scores, engine.step)
        self.graph(engine)
        final = {**latest, **{name: value for name, value in test_scores.items() if isinstance(value, float)}}
        figures = {**{f"final/{n}": v for n, v in final.items()}, **{f"best/{n}": v for n, v in best.items()}}
        flat = flatten(self.settings)
        plain = {k: v if isinstance(v, bool | str | float | int) else str(v) for k, v in flat.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.writer.add_hparams(plain, figures, run_name=".", global_step=engine.step)
        self.close()

    def graph(self, engine: Engine) -> None:
        """Trace the task's `predict` on two inputs; a task that cannot be traced has no graph."""
        batch = next(iter(engine.stage.batches.epoch(0)), None)
        example = batch[0] if isinstance(batch, tuple) else batch
        if not isinstance(example, Tensor):
            return
        engine.task.eval()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                self.writer.add_graph(engine.task, engine.move(example[:2]))
            except Exception as e:  # tracing runs arbitrary model code; the run itself is done and whole
                self.writer.add_text("graph", f"The graph could not be traced: {e}")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def resumed(self, engine: Engine) -> None:
        """What was drawn after the checkpoint is drawn again: hide the first time."""
        self.purge_step = engine.step + 1


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} as {"optimizer.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
