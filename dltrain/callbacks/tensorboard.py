"""TensorBoard: curves, pictures, tables, the graph, and hyper-parameters with what they led to."""

from __future__ import annotations

import logging
import threading
import time
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
from dltrain.callbacks.nonfinite import is_whole
from dltrain.engine import Callback, Engine
from dltrain.files import replace_file
from dltrain.report.batches import picture
from dltrain.report.drawing import Pixels, as_png, draw, separate_plots
from dltrain.runs.folder import MANIFEST, RunFolder
from dltrain.shell import shell_word
from dltrain.types import Data, Embedding, PositiveInt, Text, flatten

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("dltrain")
MAX_DRAWN_BATCH = 4096  # samples: all of them have to be made to draw some
TENSORBOARD = "tensorboard"  # folder of a run, and key of its manifest that names another
HPARAMS_TAG = b"_hparams_/"
RECORD_HEAD_BYTES = 12  # before an event in a file of events
RECORD_TAIL_BYTES = 4  # after it
MAX_LINE_CHARS = 1000  # of YAML
RGB_CHANNELS = 3
MAX_DRAWING_FRACTION = 0.01  # of the time for images and as much for plots, without an interval
FREE_DRAWING_SECONDS = 0.1  # of the CPU, for the first images
FIRST_PLOT_SECONDS = 0.8  # of the CPU; most of them import the plotting library
NOT_HPARAMS = ("callbacks.", "paths.", "expect.", "plugins")


class TensorBoard(Callback):
    """Writes event files in `tensorboard/` of the run's folder.

    A job of a sweep has a folder of its own beside its run's, whose name has the swept values:
    TensorBoard calls a run by the folder of its events.

    It writes a batch of images as the network gets them, and scalars as they are logged. It writes
    the pictures, tables and texts of the task after every `pictures_every` evaluations, at the end
    of a stage and after the test. Without `pictures_every` it draws after every evaluation as long
    as that takes at most 2 % of the time (see `DrawingTime`): a run of a few seconds shows its
    images, but the plots of its last evaluation only. At the end of the run it writes the graph and
    HParams. The library is imported at the first record, after training has begun. If it
    cannot write (a full disk), that is logged once, the record is lost, and the next one tries
    again.
    """

    name = "tensorboard"

    def __init__(
        self,
        run: RunFolder,
        log: MetricsLog,
        settings: dict[str, Any],
        command: str,
        data: Data | None = None,
        checkpoint: Checkpoint | None = None,
        pictures_every: PositiveInt | None = None,
    ) -> None:
        self.run = run
        self.pictures_every = pictures_every
        self.image_time = DrawingTime(FREE_DRAWING_SECONDS)
        self.plot_time = DrawingTime(0.0, first_seconds=FIRST_PLOT_SECONDS)
        self.evaluations = 0
        self.drawn_names: set[str] = set()  # pictures of the last evaluation that are drawn
        self.settings = settings
        self.command = command
        self.checkpoint = checkpoint  # knows the best evaluation
        self.data = data  # its first training batch is to be drawn; None afterwards
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
        """The library's writer, made when it is first used."""
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
        """Report a thread that failed; the library's next call raises errors of its own threads."""
        is_writer = type(error.thread).__module__.startswith("tensorboard.")
        if not (is_writer and isinstance(error.exc_value, OSError)):
            self.previous_hook(error)

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """Continue without TensorBoard if its files cannot be written."""
        try:
            yield
        except OSError as e:
            if not self.failed:
                reason = e.strerror or e
                log.warning(
                    f"TensorBoard cannot be written ({reason}); training continues without it"
                )
            self.failed = True
            writer, self._writer = self._writer, None
            if writer is not None:
                with suppress(OSError):
                    writer.close()

    def scalars(self, engine: Engine, record: dict[str, Any]) -> None:
        """Write a record of the log, before the first one a batch of images."""
        with self.surviving(), rng.preserved():
            self.draw_batch(engine)
            others = {}
            for name, value in record.items():
                if isinstance(value, float):
                    self.writer.add_scalar(name, value, engine.step)
                else:
                    others[name] = value
            self.show(others, engine.step)

    def draw_batch(self, engine: Engine) -> None:
        """Draw the first batch of the first epoch, augmented as the network gets it; once."""
        data, self.data = self.data, None
        if data is None:
            return
        has_images = data.spec.is_image and not data.spec.actions
        if has_images and data.train.batch_size <= MAX_DRAWN_BATCH:
            batch = next(data.train.epoch(0), None)
            if batch:
                self.show({"train/batch": picture(batch, data.spec)}, engine.step)

    def evaluation_end(self, engine: Engine) -> None:
        """Write the pictures, tables and texts of an evaluation, if it is its turn."""
        self.evaluations += 1
        self.drawn_names = set()
        if self.pictures_every is None:
            plots, others = separate_plots(engine.scores)
            if self.image_time.is_left():
                self.draw_evaluation(engine, others, self.image_time)
            if self.plot_time.is_left():
                self.draw_evaluation(engine, plots, self.plot_time)
        elif self.evaluations % self.pictures_every == 0:
            self.draw_evaluation(engine, engine.scores, self.plot_time)

    def stage_end(self, engine: Engine) -> None:
        """Write the pictures, tables and texts of the last evaluation of a stage."""
        self.draw_evaluation(engine, engine.scores, self.plot_time)
        with self.surviving():
            self.show_vectors(engine.scores, engine.step)

    def draw_evaluation(self, engine: Engine, scores: dict[str, Any], spent: DrawingTime) -> None:
        """Write the pictures, tables and texts among `scores` that are not drawn yet."""
        new = {name: value for name, value in scores.items() if name not in self.drawn_names}
        if not new:
            return
        self.drawn_names.update(new)
        with self.surviving(), spent.measured():
            self.show(new, engine.step)

    def show(self, scores: dict[str, Any], step: int) -> None:
        """Write the pictures, tables and texts among `scores`, and the figures of the test."""
        for name, value in scores.items():
            pixels = draw(value)
            if pixels is not None:
                self.write_image(name, pixels, step)
            if isinstance(value, Text):
                self.writer.add_text(name, value.markdown, step)
            elif isinstance(value, float) and name.startswith("test/"):
                self.writer.add_scalar(name, value, step)

    def write_image(self, name: str, pixels: Pixels, step: int) -> None:
        """Write an image (H, W, 3); the library's own method compresses it for a long time."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width, _ = pixels.shape
        png = as_png(pixels)
        image = Summary.Image(
            height=height, width=width, colorspace=RGB_CHANNELS, encoded_image_string=png
        )
        self.write_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def write_summary(self, summary: Any, step: int) -> None:
        """Write a summary that was made here."""
        writer = self.writer.file_writer
        assert writer is not None
        writer.add_summary(summary, step)

    def show_vectors(self, scores: dict[str, Any], step: int) -> None:
        """Write the named vectors among `scores` for the projector, in large files of text."""
        for name, value in scores.items():
            if isinstance(value, Embedding) and value.rows:
                self.writer.add_embedding(
                    value.vectors, list(value.rows), tag=name, global_step=step
                )

    def test_end(self, engine: Engine) -> None:
        """Write the test's figures and pictures, the graph, and the hyper-parameters."""
        with self.surviving():
            self.show(engine.test_scores, engine.step)
            self.show_vectors(engine.test_scores, engine.step)
            self.graph(engine)
            self.hparams(engine)

    def hparams(self, engine: Engine) -> None:
        """Write the settings of the run and its best result.

        HParams lists the last point of every curve by itself, and puts what differs between runs
        first. It lists nothing that is not a curve, so the best value of the watched metric is
        written among the settings.
        """
        from torch.utils.tensorboard.summary import hparams

        manifest = self.run.read_json(MANIFEST)
        settings = manifest.get("settings") or without_targets(self.settings)
        watch = engine.stage.watch
        best = self.checkpoint.best.get("metrics", {}) if self.checkpoint else {}
        if watch in best:
            settings[f"{watch} (best)"] = best[watch]
        _, beginning, end = hparams({key: as_hparam(v) for key, v in settings.items()}, {})
        self.write_summary(beginning, engine.step)
        self.write_summary(end, engine.step)

    def graph(self, engine: Engine) -> None:
        """Trace the task's `predict` on two inputs; a task that cannot be traced has no graph."""
        batch = next(iter(engine.stage.batches.epoch(0)), None)
        example = batch[0] if isinstance(batch, tuple) else batch
        if not isinstance(example, Tensor) or not all(map(is_whole, engine.task.parameters())):
            return
        engine.task.eval()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                self.writer.add_graph(engine.task, engine.move(example[:2]))
            except Exception as e:  # of the model's code, when the run is complete
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
        """Return {}; what is drawn so far is written to the disk with the checkpoint."""
        with self.surviving():
            if self._writer is not None:
                self._writer.flush()
        return {}

    def resumed(self, engine: Engine) -> None:
        """Hide what was drawn after the checkpoint: it is drawn again."""
        self.start_step = engine.step
        self.purge_step = engine.step + 1
        self.drawn_names = set()
        with self.surviving():
            for path in self.folder.glob("events.out.tfevents.*"):
                remove_hparams(path)
        self.data = None


class DrawingTime:
    """The time that drawing may take: `free_seconds` and a hundredth of the run's time.

    `first_seconds` is what the first drawing is expected to take. Seconds of this thread on the CPU
    count, so a busy machine does not leave pictures out.
    """

    def __init__(self, free_seconds: float, first_seconds: float = 0.0) -> None:
        self.free_seconds = free_seconds
        self.start = time.perf_counter()
        self.seconds = 0.0
        self.last_seconds = first_seconds

    def is_left(self) -> bool:
        """Return True if another drawing like the last one fits in."""
        elapsed = time.perf_counter() - self.start
        allowed = self.free_seconds + MAX_DRAWING_FRACTION * elapsed
        return self.seconds + self.last_seconds <= allowed

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count the time of the block as spent on drawing."""
        start = time.thread_time()
        try:
            yield
        finally:
            self.last_seconds = time.thread_time() - start
            self.seconds += self.last_seconds


def remove_hparams(path: Path) -> None:
    """Remove the hyper-parameters from a file of events: TensorBoard keeps the first ones.

    A file is a row of records: the length of the event in 8 bytes and a checksum in 4, the event, a
    checksum in 4.
    """
    content = path.read_bytes()
    kept = []
    start = 0
    while start < len(content):
        event_bytes = int.from_bytes(content[start : start + 8], "little")
        end = start + RECORD_HEAD_BYTES + event_bytes + RECORD_TAIL_BYTES
        if HPARAMS_TAG not in content[start:end]:
            kept.append(content[start:end])
        start = end
    remaining = b"".join(kept)
    if len(remaining) < len(content):
        replace_file(path, remaining)


def as_hparam(value: Any) -> bool | str | float:
    """Return a value in a type that HParams shows; others as YAML."""
    if isinstance(value, bool | str | float | int):
        return value
    return as_yaml(value, one_line=True)


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
    """Return all settings by dotted key, for a run whose manifest does not list its own."""
    return {
        key: value
        for key, value in flatten(settings).items()
        if not key.endswith("_target_") and not key.startswith(NOT_HPARAMS)
    }
