"""Training a run: making its folder, fitting, testing, and writing its results."""

from __future__ import annotations

import json
import logging
import math
import operator
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltrain.callbacks.tensorboard import TENSORBOARD
from dltrain.config.combinations import unread
from dltrain.config.compose import Composed
from dltrain.config.own_settings import own_settings
from dltrain.engine import Engine, Resume
from dltrain.errors import DivergedError, DltrainError, InputError, Interrupted
from dltrain.experiment.batch_norm import require_batches_for_norm
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.session import Session, open_session
from dltrain.files import finite, writing
from dltrain.options import Options
from dltrain.report.splits import empty_splits, sizes
from dltrain.report.summary import closing_table, rendered_grids
from dltrain.report.text import number
from dltrain.runs.folder import FINISHED, METRICS, RESULTS, Run
from dltrain.runs.initial_files import initial_files, label
from dltrain.runs.log_file import buffered_records, logged_to
from dltrain.weights.freezing import trainable_count

log = logging.getLogger("dltrain")
COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
SIGN = re.compile(r"\s*([<>=]*)")
CLAIM_TOLERANCE = 1e-7  # relative: 9960 of 10,000 is a little less than 0.996 in 32 bits
OVERFIT_LOSS_RATIO = 0.1  # of the last loss to the first, which debug=overfit has to reach
OVERFIT_ACCURACY = 0.99  # or this accuracy


def start(
    composed: Composed,
    options: Options,
    folder: Path | None = None,
    swept: Sequence[str] = (),
    title: str = "",
) -> dict[str, Any]:
    """Train a new run of a checked configuration and return its results.

    Everything that can be wrong with data or device comes up before the run's folder is made:
    `folder`, or one with the time in its name. `swept` are the keys that differ between the runs of
    a sweep; TensorBoard calls the run by the `title`.
    """
    config = composed.config
    with buffered_records() as records:
        for line in unread(composed):
            log.warning(line)
        experiment = Experiment.to_train(config).build()
        _ = experiment.data.train.samples  # reads the data set
        require_batches_for_norm(experiment)
        if not config["debug"]:
            for message in empty_splits(experiment.data, config["dataset"]):
                log.warning(message)
    more: dict[str, Any] = {"settings": own_settings(composed, swept)}
    if title:
        more[TENSORBOARD] = title
    files = initial_files(experiment, composed, options, **more)
    if folder is None:
        run = Run.create(Path(config["paths"]["output"]), label(composed), files)
    else:
        with writing(folder):
            run = Run.make(folder, files)
    with run.locked():
        session = open_session(experiment, run, options.command, composed.public)
        return execute(session, options.outcome, earlier=records)


@dataclass
class Ending:
    """The end of a run: its status, the reason if it did not complete, and the test's scores."""

    status: str = "failed"
    reason: str = ""
    scores: dict[str, Any] = field(default_factory=dict)


def execute(
    session: Session,
    outcome: dict[str, Any],
    resume: Resume | None = None,
    earlier: Sequence[logging.LogRecord] = (),
) -> dict[str, Any]:
    """Fit, test and return the results.

    results.json and `outcome` get them also if training raises. The `earlier` records, which were
    logged before the run had a folder, go into its log first.
    """
    ending = Ending()
    with logged_to(session.run, earlier):
        log.info(opening_line(session))
        try:
            fit_and_test(session, resume, ending)
        finally:
            try:
                session.checkpoint.finish()
            finally:
                results = finish(session, ending)
                outcome.update(results)
    session.checkpoint.require_complete()
    if session.experiment.config["debug"] == "overfit":
        require_overfit(session.run, results)
    return results


def fit_and_test(session: Session, resume: Resume | None, ending: Ending) -> None:
    """Fit, then test, and note in `ending` how that ended.

    What was learned is saved if a signal or a batch that cannot be read interrupts the training.
    After training the last checkpoint is there, and the task may hold the best weights by now.
    """
    engine = session.engine
    trained = False
    try:
        with session.signals:
            engine.fit(session.experiment.task, resume)
            trained = True
            if session.experiment.config["debug"] != "profile":
                ending.scores = score_test_set(session)
        ending.status = "stopped" if ended_early(session) else "completed"
    except Interrupted as e:
        ending.status = "interrupted"
        ending.reason = str(e)
        log.debug(ending.reason)  # the error message says it on the screen
        if not trained:
            session.checkpoint.save(engine)
        raise
    except DivergedError as e:
        ending.status = "diverged"
        ending.reason = str(e)
        raise
    except InputError as e:
        ending.reason = str(e)
        if engine.step and not trained:
            session.checkpoint.save(engine)
        raise
    except DltrainError as e:
        ending.reason = str(e)
        raise
    except BaseException as e:
        ending.reason = f"{type(e).__name__}: {e}"
        log.debug(traceback.format_exc())
        raise


def score_test_set(session: Session) -> dict[str, Any]:
    """Score the test set with the best checkpoint, or with the last state if there is no best one.

    Nothing has touched the test set before.
    """
    engine = session.engine
    session.checkpoint.finish()
    if session.checkpoint.best.get("stage") == engine.stage.name:
        best = session.checkpoint.best_state()
        if best:
            restore_weights(session, best)
    return engine.test(session.experiment.data.test)


def restore_weights(session: Session, state: dict[str, Any]) -> None:
    """Load a checkpoint's weights and averages into the task, and nothing else."""
    engine = session.engine
    engine.task.load_state_dict(state["task"])
    for optim, saved in zip(engine.stage.optims, state["optims"], strict=True):
        optim.load_state_dict(saved)


def ended_early(session: Session) -> bool:
    """Tell if a callback ended the last stage, or the time limit ended the run."""
    limit = session.experiment.trainer.max_seconds or math.inf
    return session.engine.stage_ended or session.timer.seconds() >= limit


def finish(session: Session, ending: Ending) -> dict[str, Any]:
    """Write and return the results, let callbacks finish, and print the closing table."""
    results = write_results(session, ending)
    close_callbacks(session.engine, ending.status)
    rows = [row for callback in session.engine.callbacks for row in callback.summary_rows()]
    log.info(closing_table(session.experiment.task, results, RESULTS, rows))
    for text in rendered_grids(ending.scores):
        log.info(text)
    return results


def write_results(session: Session, ending: Ending) -> dict[str, Any]:
    """Write results.json and return its content."""
    engine = session.engine
    test_figures = {k: v for k, v in ending.scores.items() if isinstance(v, float)}
    metrics = {**session.log.latest, **test_figures}
    results: dict[str, Any] = {"status": ending.status}
    if ending.reason:
        results["reason"] = ending.reason
    results |= {
        "metrics": finite(metrics),
        "best": session.checkpoint.best,
        "epochs": engine.epoch,
        "steps": engine.step,
        "seconds": round(session.timer.seconds(), 3),
        "samples_per_second": round(session.timer.rate(engine), 1),
        "expect": {},
        "run": str(session.run.folder),
    }
    if ending.status in FINISHED:
        results["expect"] = claims(session.experiment.config, metrics)
    try:
        session.run.write_json(RESULTS, results)
    except OSError as e:
        log.warning(f"{session.run.folder / RESULTS} cannot be written: {e.strerror}")
    return results


def claims(config: dict[str, Any], metrics: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return each `expect:` claim with the measured value and whether it is met."""
    if config["debug"]:
        return {}
    judged = {}
    for name, text in config["expect"].items():
        measured = metrics.get(name)
        met = measured is not None and is_met(text, measured)
        judged[name] = {"claim": text, "value": measured, "met": met}
    return judged


def is_met(claim: str, value: float) -> bool:
    """Tell if `value` meets a claim such as ">= 0.99"."""
    bound = float(claim.lstrip("<>= "))
    sign = SIGN.match(claim)
    compare = COMPARISONS.get(sign[1]) if sign else None
    if compare is None:
        return False
    if math.isclose(value, bound, rel_tol=CLAIM_TOLERANCE):
        value = bound
    return bool(compare(value, bound))


def close_callbacks(engine: Engine, status: str) -> None:
    """Let the callbacks finish; those that observe the test do so if the run came to its end."""
    try:
        if status in FINISHED:
            engine.emit("test_end")
    finally:
        engine.emit("close")


def opening_line(session: Session) -> str:
    """Return a line that says what is about to be trained."""
    experiment = session.experiment
    data = experiment.data
    device = experiment.device.summary()
    return (
        f"{session.run.folder}: {trainable_count(experiment.task):,} parameters, "
        f"{sizes(data)}, "
        f"batch {data.train.batch_size}, {device['device']} {device['precision']}"
    )


def require_overfit(run: Run, results: dict[str, Any]) -> None:
    """Report whether `debug=overfit` learned its one batch by heart; raise DltrainError if not."""
    lines = (run.folder / METRICS).read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line).get("train/loss") for line in lines]
    losses = [loss for loss in logged if loss is not None]
    if not losses:
        raise DltrainError("overfit: FAIL  no step had a loss that is a finite number")
    first = losses[0]
    last = losses[-1]
    accuracy = results["metrics"].get("test/accuracy", 0.0)
    figures = f"loss {number(first)} -> {number(last)}, accuracy on the batch {number(accuracy)}"
    if last > OVERFIT_LOSS_RATIO * first and accuracy < OVERFIT_ACCURACY:
        raise DltrainError(
            f"overfit: FAIL  {figures}\n"
            "A network that cannot learn one batch by heart has a bug or too small a learning rate"
        )
    log.info(f"overfit: PASS  {figures}")
