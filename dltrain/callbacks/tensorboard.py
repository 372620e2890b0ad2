"""TensorBoard: curves, pictures, tables, the graph, and hyper-parameters with what they led to."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.files import replace_file
from dltrain.report.batches import picture
from dltrain.report.pictures import heat_map, image_grid
from dltrain.report.plots import fields, plot, points
from dltrain.runs.folder import MANIFEST, Run
from dltrain.shell import shell_word
from dltrain.types import Data, Embedding, Grid, Image, Plot, Table, Text, flatten

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("dltrain")
MOST_DRAWN = 4096  # samples of a batch of which some are drawn: all of it has to be made
TENSORBOARD = "tensorboard"  # folder of a run, and key of its manifest that names another
HPARAMS_TAG = b"_hparams_/"
RECORD_HEAD = 12  # bytes before an event in a file of events
RECORD_TAIL = 4  # bytes after it
MAX_LINE_CHARS = 1000  # of YAML
NOT_HPARAMS = ("callbacks.", "paths.", "expect.", "plugins")


class TensorBoard(Callback):
    """Writes event files in `tensorboard/` of the run's folder.

    A job of a sweep has a folder of its own beside its run's, whose name says what was varied:
    TensorBoard calls a run by the folder of its events.

    Scalars are written as they are logged, before the first a batch of images as the network gets
    them; at the end of a stage and after the test the pictures and tables of a task; at the end the
    graph, and HParams. The library is imported at the first record, after training has begun. Where
    it cannot write (a full disk) that is reported once, what it was given is lost, and the next
    record tries again.
    """

    name = "tensorboard"

    def __init__(
        self,
        run: Run,
        log: MetricsLog,
        settings: dict[str, Any],
        command: str,
        data: Data | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.run = run
        self.settings = settings
        self.command = command
        self.checkpoint = checkpoint  # knows the best evaluation
        self.data = data  # whose first training batch is drawn; None: has been, or there is none
        self._writer: SummaryWriter | None = None
        self.previous_hook = threading.excepthook
        self.failed = False
        self.start_step = 0
        self.purge_step: int | None = None
        log.subscribe(self.scalars)

    @property
    def folder(self) -> Path:
        """The folder of the event files."""
        title = self.run.read_json(MANIFEST).get(TENSORBOARD)
        if isinstance(title, str) and Path(title).name == title and title not in ("", ".."):
            return self.run.folder.parent / title
        return self.run.folder / TENSORBOARD

    @property
    def writer(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.previous_hook = threading.excepthook
            threading.excepthook = self.thread_failed
            self._writer = SummaryWriter(str(self.folder), purge_step=self.purge_step)
            self._writer.add_text("configuration", as_code(as_yaml(self.settings)), self.start_step)
            self._writer.add_text("command", as_code("\n".join(self.commands())), self.start_step)
        return self._writer

    def commands(self) -> list[str]:
        """Return the command that began the run and those that resumed it, each with its step."""
        manifest = self.run.read_json(MANIFEST)
        history = manifest.get("resumed", [])
        resumed = [f"{one['command']}  # from step {one['step']}" for one in history]
        return [manifest.get("command", self.command), *resumed]

    def thread_failed(self, error: threading.ExceptHookArgs) -> None:
        """Report a thread that failed, except where the library's could not write: its next call raises that."""
        is_writer = type(error.thread).__module__.startswith("tensorboard.")
        if not (is_writer and isinstance(error.exc_value, OSError)):
            self.previous_hook(error)

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """Go on whatever becomes of the files: the library's writing thread raises in the next call."""
        try:
            yield
        except OSError as e:
            if not self.failed:
                log.warning(
                    f"TensorBoard cannot be written ({e.strerror or e}); training goes on without it"
                )
            self.failed, writer, self._writer = True, self._writer, None
            if writer is not None:
                with suppress(OSError):
                    writer.close()

    def scalars(self, engine: Engine, record: dict[str, Any]) -> None:
        with self.surviving(), rng.preserved():
            self.add_scalars(engine, record)

    def add_scalars(self, engine: Engine, record: dict[str, Any]) -> None:
        self.draw_batch(engine)
        for name, value in record.items():
            if isinstance(value, float):
                self.writer.add_scalar(name, value, engine.step)
        self.show(
            {name: value for name, value in record.items() if not isinstance(value, float)},
            engine.step,
        )

    def draw_batch(self, engine: Engine) -> None:
        """Once a run: the first batch of the first epoch, augmented as it was for the network."""
        data, self.data = self.data, None
        if (
            data is None
            or not data.spec.is_image
            or data.spec.actions
            or data.train.batch_size > MOST_DRAWN
        ):
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
                    self.writer.add_embedding(
                        value.vectors, list(value.rows), tag=name, global_step=step
                    )
            elif isinstance(value, Text):
                self.writer.add_text(name, value.markdown, step)
            elif isinstance(value, float) and name.startswith("test/"):
                self.writer.add_scalar(name, value, step)

    def test_end(self, engine: Engine) -> None:
        """Write the test's figures and pictures, the graph, and the hyper-parameters."""
        with self.surviving():
            self.show(engine.test_scores, engine.step)
            self.graph(engine)
            self.hparams(engine)

    def hparams(self, engine: Engine) -> None:
        """Write what the run was given and how good it was at best.

        Final figures are the last points of the curves, which HParams finds by itself: it lists
        every scalar, and puts what differs between runs first. It knows no figure that is no curve,
        so the best value of the watched metric, too, is written as something that the run has.
        """
        from torch.utils.tensorboard.summary import hparams

        manifest = self.run.read_json(MANIFEST)
        known = manifest.get("settings") or without_targets(self.settings)
        watch = engine.stage.watch
        best = self.checkpoint.best.get("metrics", {}) if self.checkpoint else {}
        known |= {f"{watch} (best)": best[watch]} if watch in best else {}
        plain = {
            k: v if isinstance(v, bool | str | float | int) else as_yaml(v, one_line=True)
            for k, v in known.items()
        }
        _, beginning, end = hparams(plain, {})
        writer = self.writer.file_writer
        assert writer is not None
        writer.add_summary(beginning, engine.step)
        writer.add_summary(end, engine.step)

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
            except (
                Exception
            ) as e:  # tracing runs arbitrary model code; the run itself is done and whole
                self.writer.add_text("graph", f"The graph could not be traced: {e}")

    def close(self, engine: Engine) -> None:
        """Close the file of events."""
        with self.surviving():
            if self._writer is not None:
                self._writer.close()
                self._writer = None
                threading.excepthook = self.previous_hook

    def summary_rows(self) -> list[tuple[str, str]]:
        """Return the command that shows the curves, also those of the other runs of the day."""
        return [("curves", f"tensorboard --logdir {shell_word(str(self.run.folder.parent))}")]

    def state_dict(self) -> dict[str, Any]:
        """Nothing of its own; but what is drawn by now belongs to the checkpoint, and is put on the disk with it."""
        with self.surviving():
            if self._writer is not None:
                self._writer.flush()
        return {}

    def resumed(self, engine: Engine) -> None:
        """What was drawn after the checkpoint is drawn again: hide the first time."""
        self.start_step = engine.step
        self.purge_step = engine.step + 1
        with self.surviving():
            for path in self.folder.glob("events.out.tfevents.*"):
                remove_hparams(path)
        self.data = None


def remove_hparams(path: Path) -> None:
    """Take the hyper-parameters out of a file of events; TensorBoard keeps the first ones for good.

    A file is a row of records: the length of the event in 8 bytes and a checksum in 4, the event, a
    checksum in 4.
    """
    content = path.read_bytes()
    kept = []
    start = 0
    while start < len(content):
        end = (
            start + RECORD_HEAD + int.from_bytes(content[start : start + 8], "little") + RECORD_TAIL
        )
        if HPARAMS_TAG not in content[start:end]:
            kept.append(content[start:end])
        start = end
    if len(whole := b"".join(kept)) < len(content):
        replace_file(path, whole)


def as_yaml(value: Any, one_line: bool = False) -> str:
    """Return a value as YAML."""
    text: str = yaml.safe_dump(
        value,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=one_line,
        width=MAX_LINE_CHARS,
    )
    return text.removesuffix("...\n").rstrip()


def as_code(text: str) -> str:
    """Return markdown that shows `text` as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def without_targets(settings: dict[str, Any]) -> dict[str, Any]:
    """Return all settings of a run whose manifest does not say which are its own, by dotted key."""
    flat = flatten(settings)
    return {
        k: v
        for k, v in flat.items()
        if not k.endswith("_target_") and not k.startswith(NOT_HPARAMS)
    }
