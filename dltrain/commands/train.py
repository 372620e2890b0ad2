"""`dltrain [train] [overrides]`: train an experiment, then test its best checkpoint."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from dltrain import __version__
from dltrain.callbacks.tensorboard import TENSORBOARD
from dltrain.commands.options import Options
from dltrain.config import check
from dltrain.config.compose import Composed, compose
from dltrain.config.own_settings import own_settings
from dltrain.engine import Engine, Resume
from dltrain.errors import DivergedError, DltrainError, InputError, Interrupted
from dltrain.experiment.batch_norm import require_batches_for_norm
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import Session, open_session
from dltrain.files import finite, writing
from dltrain.report.figures import best_row, figure_rows
from dltrain.report.splits import empty_splits, sizes
from dltrain.report.text import duration, fields, number, table
from dltrain.runs.folder import CONFIG, LOG, MANIFEST, METRICS, RESULTS, Run, apart, as_json
from dltrain.shell import shell_word
from dltrain.types import Grid
from dltrain.weights.freezing import trainable_count

log = logging.getLogger("dltrain")


def train(options: Options) -> None:
    composed = compose(options.overrides)
    check.raise_all(composed)
    start(composed, options)


def start(
    composed: Composed,
    options: Options,
    folder: Path | None = None,
    swept: Sequence[str] = (),
    title: str = "",
) -> dict[str, Any]:
    """Train a new run of a checked configuration, in `folder` or one of its own; return its
    results.

    Everything that can be wrong with data or device comes up before the folder is made. `swept` are
    the keys that differ between the runs of a sweep, and TensorBoard calls the run by the `title`.
    """
    config = composed.config
    with remembered() as said:
        for line in check.unread(composed):
            log.warning(line)
        experiment = Experiment.to_train(config).build()
        _ = experiment.data.train.samples  # reads the data set
        require_batches_for_norm(experiment)
        if not config["debug"]:
            for message in empty_splits(experiment.data, config["dataset"]):
                log.warning(message)
    named = {TENSORBOARD: title} if title else {}
    contents = beginning(
        experiment, composed, options, settings=own_settings(composed, swept), **named
    )
    if folder is None:
        run = Run.create(Path(config["paths"]["output"]), label(composed), contents)
    else:
        with writing(folder):
            run = Run.make(folder, contents)
    with run.locked():
        return execute(
            open_session(experiment, run, options.command, composed.public),
            options.outcome,
            said=said,
        )


def as_yaml(config: dict[str, Any]) -> bytes:
    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text.encode()


def label(composed: Composed) -> str:
    """Return what a run folder is called: its name if it has one, then its experiment, or what it
    trains on what.

    A model or a data set that was typed as a class is called by the class, beside an experiment
    too.
    """
    experiment = composed.choices.get("experiment")
    parts = [composed.config["name"], experiment]
    for group in ("model", "dataset"):
        own = own_class(composed, group)
        if own is not None or not experiment:
            parts.append(own or composed.choices[group])
    return "_".join(str(part) for part in (*parts, composed.config["debug"]) if part is not None)


def own_class(composed: Composed, group: str) -> str | None:
    """Return the class that was typed for a group, as model={_target_: mine.Net}, or for a data
    set's source.
    """
    node = composed.config[group]
    for key, owner in ((group, node), (f"{group}.source", node.get("source"))):
        typed = composed.typed.get(key, "")
        if isinstance(owner, dict) and ("_target_" in typed or f"{key}._target_" in composed.typed):
            return str(owner["_target_"]).rpartition(".")[2]
    return None


def beginning(
    experiment: Experiment, composed: Composed, options: Options, **more: Any
) -> dict[str, bytes]:
    """The files that a run's folder begins with; `more` goes into its manifest."""
    description, files = apart(experiment.data.description())
    about = {**manifest(experiment, composed, options), "data": description, **more}
    return {CONFIG: as_yaml(composed.public), MANIFEST: as_json(about), **files}


def manifest(experiment: Experiment, composed: Composed, options: Options) -> dict[str, Any]:
    """What a reader needs to know to run this again, and to trust its figures."""
    data = experiment.data
    return {
        "command": options.command,
        "overrides": options.overrides,
        "config": composed.public,
        "seed": experiment.config["seed"],
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "git": git_state(),
        "versions": versions(),
        **experiment.device.summary(),
        "dataset_fingerprint": data.fingerprint(),
        "effective": {
            "batch_size": data.train.batch_size,
            "train_samples": data.train.samples,
            "val_samples": data.val.samples,
            "test_samples": data.test.samples,
            "steps_per_epoch": len(data.train),
            "parameters": trainable_count(experiment.task),
        },
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and the libraries that a run's numbers depend on."""
    names = ("hydra-core", "numpy")
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "dltrain": __version__,
        **{name: metadata.version(name) for name in names},
    }


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the folder that the command was given in; empty outside a repository."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *words], capture_output=True, text=True, timeout=5, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(git("status", "--porcelain"))} if commit else {}


def execute(
    session: Session,
    outcome: dict[str, Any],
    resume: Resume | None = None,
    said: Sequence[logging.LogRecord] = (),
) -> dict[str, Any]:
    """Fit, test, and leave results.json and `outcome` whatever happens; the results. What was `said` before goes into the
    run's log."""
    experiment, engine, run = session.experiment, session.engine, session.run
    debug = experiment.config["debug"]
    with logged_to(run, said):
        log.info(opening(session))
        status, reason, scores, trained = "failed", "", {}, False
        try:
            with session.signals:
                engine.fit(experiment.task, resume)
                trained = True
                scores = test(session) if debug != "profile" else {}
            limited = session.timer.seconds() >= (experiment.trainer.max_seconds or float("inf"))
            status = "stopped" if engine.stage_ended or limited else "completed"
        except Interrupted as e:
            status, reason = "interrupted", str(e)
            log.debug(reason)  # the error's line says it on the screen
            if (
                not trained
            ):  # else the last checkpoint is there, and the task may hold the best weights by now
                session.checkpoint.save(engine)
            raise
        except DivergedError as e:
            status, reason = "diverged", str(e)
            raise
        except InputError as e:
            reason = str(e)
            if (
                engine.step and not trained
            ):  # the next batch could not be read: what was learned so far is whole
                session.checkpoint.save(engine)
            raise
        except DltrainError as e:
            reason = str(e)
            raise
        except BaseException as e:
            reason = f"{type(e).__name__}: {e}"
            log.debug(traceback.format_exc())
            raise
        finally:
            try:
                session.checkpoint.finish()
            finally:
                results = summarize(session, status, reason, scores)
                outcome.update(results)
                close(engine, status)
                log.info(closing(session, results))
                for picture in drawn(scores):
                    log.info(picture)
    session.checkpoint.require_complete()
    if debug == "overfit":
        verdict(session, results)
    return results


def test(session: Session) -> dict[str, Any]:
    """Score the test set, which nothing has touched until here, with the best checkpoint (the last where none is)."""
    engine, data = session.engine, session.experiment.data
    session.checkpoint.finish()
    if session.checkpoint.best.get("stage") == engine.stage.name and (
        best := session.checkpoint.best_state()
    ):
        restore_weights(session, best)
    return engine.test(data.test)


def restore_weights(session: Session, state: dict[str, Any]) -> None:
    """Put a checkpoint's weights and averages into the task, and nothing else."""
    engine = session.engine
    engine.task.load_state_dict(state["task"])
    for optim, saved in zip(engine.stage.optims, state["optims"], strict=True):
        optim.load_state_dict(saved)


def summarize(session: Session, status: str, reason: str, scores: dict[str, Any]) -> dict[str, Any]:
    """Write and return results.json."""
    engine = session.engine
    metrics = {
        **session.log.latest,
        **{name: value for name, value in scores.items() if isinstance(value, float)},
    }
    results = {
        "status": status,
        **({"reason": reason} if reason else {}),
        "metrics": finite(metrics),
        "best": session.checkpoint.best,
        "epochs": engine.epoch,
        "steps": engine.step,
        "seconds": round(session.timer.seconds(), 3),
        "samples_per_second": round(session.timer.rate(engine), 1),
        "expect": claims(session.experiment.config, metrics)
        if status in ("completed", "stopped")
        else {},
        "run": str(session.run.folder),
    }
    try:
        session.run.write_json(RESULTS, results)
    except OSError as e:
        log.warning(f"{session.run.folder / RESULTS} cannot be written: {e.strerror}")
    return results


def claims(config: dict[str, Any], metrics: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Each `expect:` claim with what was measured and whether it is met."""
    if config["debug"]:
        return {}
    found = {}
    for name, text in config["expect"].items():
        bound = float(text.lstrip("<>= "))
        sign = text.strip()[: len(text.strip()) - len(text.strip().lstrip("<>="))]
        value = metrics.get(name, math.nan)
        if math.isclose(
            value, bound, rel_tol=1e-7
        ):  # 9960 of 10,000 is a little less than 0.996 in 32 bits
            value = bound
        met = {
            ">=": value >= bound,
            "<=": value <= bound,
            ">": value > bound,
            "<": value < bound,
        }.get(sign, False)
        found[name] = {"claim": text, "value": metrics.get(name), "met": met}
    return found


def close(engine: Engine, status: str) -> None:
    """Let the callbacks finish; those that observe the test do, if the run came to its end."""
    try:
        if status in ("completed", "stopped"):
            engine.emit("test_end")
    finally:
        engine.emit("close")


def opening(session: Session) -> str:
    """One line on what is about to be trained."""
    experiment = session.experiment
    data, device = experiment.data, experiment.device.summary()
    return (
        f"{session.run.folder}: {trainable_count(experiment.task):,} parameters, "
        f"{sizes(data)}, "
        f"batch {data.train.batch_size}, {device['device']} {device['precision']}"
    )


def closing(session: Session, results: dict[str, Any]) -> str:
    """The table at the end of a run."""
    task = session.experiment.task
    test = {name: value for name, value in results["metrics"].items() if name.startswith("test/")}
    rows = figure_rows(task, test, f"{RESULTS} has all")
    best = results["best"]
    if best:
        rows.append(best_row(task, best))
    rows.append(("training", f"{duration(results['seconds'])}, {results['steps']:,} steps"))
    if results["samples_per_second"]:
        rows.append(("speed", f"{results['samples_per_second']:,.0f} samples/s"))
    for name, claim in results["expect"].items():
        rows.append((f"expect {name}", f"{claim['claim']}: {'met' if claim['met'] else 'NOT met'}"))
    if "reason" in results and results["status"] != "interrupted":  # the error's line says it
        rows.append(("reason", results["reason"].splitlines()[0]))
    rows.append(("run", results["run"]))
    for callback in session.engine.callbacks:
        rows += callback.summary_rows()
    status = results["status"]
    if status == "interrupted":
        rows.append(("continue", f"dltrain resume {shell_word(results['run'])}"))
    title = {"completed": "done", "stopped": "done (stopped early)"}.get(status, status)
    return f"\n{title}\n{table(rows)}"


def drawn(scores: dict[str, Any]) -> list[str]:
    """The planes of fields among `scores`, as text."""
    planes = [value for value in scores.values() if isinstance(value, Grid)]
    return [f"\n{fields(plane.values.tolist(), plane.marks, plane.title)}" for plane in planes]


def verdict(session: Session, results: dict[str, Any]) -> None:
    """Say whether `debug=overfit` learned its one batch by heart; DltrainError if not."""
    lines = (session.run.folder / METRICS).read_text(encoding="utf-8").splitlines()
    losses = [r["train/loss"] for r in map(json.loads, lines) if r.get("train/loss") is not None]
    if not losses:
        raise DltrainError("overfit: FAIL  no step had a loss that is a finite number")
    accuracy = results["metrics"].get("test/accuracy", 0.0)
    how = f"loss {number(losses[0])} -> {number(losses[-1])}, accuracy on the batch {number(accuracy)}"
    if losses[-1] > 0.1 * losses[0] and accuracy < 0.99:
        raise DltrainError(
            f"overfit: FAIL  {how}\nA network that cannot learn one batch by heart has a bug or too small a learning rate"
        )
    log.info(f"overfit: PASS  {how}")


class QuietFile(logging.FileHandler):
    """A log that training does not depend on: what cannot be written to it is lost, without a word."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # of opening it
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None: ...

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class Memory(logging.Handler):
    """What is said while a run has no folder yet: of its data what was left out, of its weights what was taken over."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def remembered() -> Iterator[list[logging.LogRecord]]:
    """Everything that is said."""
    handler = Memory()
    log.addHandler(handler)
    try:
        yield handler.records
    finally:
        log.removeHandler(handler)


@contextmanager
def unrepeated(said: Sequence[logging.LogRecord]) -> Iterator[None]:
    """Drop messages in the block that were logged before, when the same data was read for the first
    time.
    """
    known = {record.getMessage() for record in said}

    def is_new(record: logging.LogRecord) -> bool:
        return record.getMessage() not in known

    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


@contextmanager
def logged_to(run: Run, said: Sequence[logging.LogRecord] = ()) -> Iterator[None]:
    """Everything that is said, and tracebacks, also go into the run's train.log, after what was `said` before."""
    handler = QuietFile(run.folder / LOG, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for record in said:
        handler.handle(record)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
