"""TensorBoard: curves, pictures, tables, the graph, and hyper-parameters with what they led to."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.files import to_json
from dltrain.report.batches import picture
from dltrain.report.pictures import heat_map, image_grid
from dltrain.report.plots import fields, plot, points
from dltrain.run import Run
from dltrain.types import Data, Embedding, Grid, Image, Plot, Table, Text, flatten

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("dltrain")
MOST_DRAWN = 4096  # samples of a batch of which some are drawn: all of it has to be made
excepthook = threading.excepthook


class TensorBoard(Callback):
    """Writes `tensorboard/` in the run's folder.

    Scalars as they are logged, before the first a batch of images as the network gets them; at the end of a stage and after
    the test the pictures and tables of a task; at the end the graph, and HParams with final and best metrics. The library
    is imported at the first record, after training has begun. Where it cannot write (a full disk) that is said once, what
    it was given is lost, and the next record tries again.
    """

    name = "tensorboard"

    def __init__(
        self, run: Run, log: MetricsLog, settings: dict[str, Any], command: str, data: Data | None = None
    ) -> None:
        self.run, self.settings, self.command = run, settings, command
        self.data = data  # whose first training batch is drawn; None: has been, or there is none
        self._writer: SummaryWriter | None = None
        self.failed = False
        self.purge_step: int | None = None
        log.subscribe(self.scalars)

    @property
    def writer(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            threading.excepthook = without_write_errors
            self._writer = SummaryWriter(str(self.run.folder / "tensorboard"), purge_step=self.purge_step)
            as_text = "\n".join(f"    {line}" for line in to_json(self.settings, indent=2).splitlines())
            self._writer.add_text("configuration", as_text)
            self._writer.add_text("command", f"    {self.command}")
        return self._writer

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """Go on whatever becomes of the files: the library's writing thread raises in the next call."""
        try:
            yield
        except OSError as e:
            if not self.failed:
                log.warning(f"TensorBoard cannot be written ({e.strerror or e}); training goes on without it")
            self.failed, writer, self._writer = True, self._writer, None
            if writer is not None:
                with suppress(OSError):
                    writer.close()

    def scalars(self, engine: Engine, record: dict[str, Any]) -> None:
        with self.surviving():
            self.add_scalars(engine, record)

    def add_scalars(self, engine: Engine, record: dict[str, Any]) -> None:
        self.draw_batch(engine)
        for name, value in record.items():
            if isinstance(value, float):
                self.writer.add_scalar(name, value, engine.step)
        self.show({name: value for name, value in record.items() if not isinstance(value, float)}, engine.step)

    def draw_batch(self, engine: Engine) -> None:
        """Once a run: the first batch of the first epoch, augmented as it was for the network."""
        data, self.data = self.data, None
        if data is None or not data.spec.is_image or data.spec.actions or data.train.batch_size > MOST_DRAWN:
            return
        if batch := next(data.train.epoch(0), None):
            self.show({"train/batch": picture(batch, data.spec)}, engine.step)

    def stage_end(self, engine: Engine) -> None:
        with self.surviving():
            self.show(engine.scores, engine.step)

    def show(self, scores: dict[str, Any], step: int) -> None:
        """Draw the pictures, tables and texts among `scores`."""
        for name, value in scores.items():
            if isinstance(value, Image) and len(value.pixels):
                self.writer.add_image(name, image_grid(value), step, dataformats="HWC")
            elif isinstance(value, Table):
                self.writer.add_image(name, heat_map(value.shown()), step, dataformats="HWC")
            elif isinstance(value, Grid):
                self.writer.add_image(name, fields(value), step, dataformats="HWC")
            elif isinstance(value, Plot):
                self.writer.add_image(name, plot(value), step, dataformats="HWC")
            elif isinstance(value, Embedding):
                self.writer.add_image(name, points(value), step, dataformats="HWC")
                if value.rows:
                    self.writer.add_embedding(value.vectors, list(value.rows), tag=name, global_step=step)
            elif isinstance(value, Text):
                self.writer.add_text(name, value.markdown, step)
            elif isinstance(value, float) and name.startswith("test/"):
                self.writer.add_scalar(name, value, step)

    def finish(
        self, engine: Engine, latest: dict[str, float], test_scores: dict[str, Any], best: dict[str, float]
    ) -> None:
        """The test's figures and pictures, the graph, and the hyper-parameters beside what they led to."""
        with self.surviving():
            self.show(test_scores, engine.step)
            self.graph(engine)
            self.hparams(engine, latest, test_scores, best)
        self.close()

    def hparams(
        self, engine: Engine, latest: dict[str, float], test_scores: dict[str, Any], best: dict[str, float]
    ) -> None:
        final = {**latest, **{name: value for name, value in test_scores.items() if isinstance(value, float)}}
        figures = {**{f"final/{n}": v for n, v in final.items()}, **{f"best/{n}": v for n, v in best.items()}}
        flat = flatten(self.settings)
        plain = {k: v if isinstance(v, bool | str | float | int) else str(v) for k, v in flat.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.writer.add_hparams(plain, figures, run_name=".", global_step=engine.step)

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
        with self.surviving():
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def state_dict(self) -> dict[str, Any]:
        """Nothing of its own; but what is drawn by now belongs to the checkpoint, and is put on the disk with it."""
        with self.surviving():
            if self._writer is not None:
                self._writer.flush()
        return {}

    def resumed(self, engine: Engine) -> None:
        """What was drawn after the checkpoint is drawn again: hide the first time."""
        self.purge_step, self.data = engine.step + 1, None


def without_write_errors(error: threading.ExceptHookArgs) -> None:
    """Shows the traceback of a thread that failed, but not where the library's could not write: the next call says that."""
    if not (isinstance(error.exc_value, OSError) and type(error.thread).__module__.startswith("tensorboard.")):
        excepthook(error)
