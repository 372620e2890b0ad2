"""`dltrain -m ...`: a grid of runs, one after the other, and a table of them all."""

from __future__ import annotations

import logging
import signal
import traceback
from pathlib import Path
from typing import Any

from dltrain.config.check import problems_of
from dltrain.config.compose import Composed, compose
from dltrain.config.grid import distinct, expand, swept_keys
from dltrain.config.overrides import raise_problems
from dltrain.errors import DivergedError, DltrainError, Interrupted, StoppedBySignal
from dltrain.experiment.session import start
from dltrain.options import Options
from dltrain.runs.folder import FINISHED, Run
from dltrain.shell import shell_word
from dltrain.sweeps.names import title_of
from dltrain.sweeps.results import overview, report_curves, write_rows

log = logging.getLogger("dltrain")
RESULTS = "sweep.json"


def multirun(options: Options) -> None:
    """Run every combination of the swept values; a job that fails is in the table with its reason.

    A wrong configuration ends the sweep before its first job: a typo should not cost a night.
    """
    jobs, composed = composed_jobs(options.overrides)
    root = Path(composed[0].config["paths"]["output"])
    with Run.create(root, "sweep", {}).locked() as made:
        sweep = made.folder
    varied = swept_keys(jobs)
    log.info(f"{sweep}: {len(jobs)} jobs over {', '.join(varied) or 'nothing'}")
    rows: list[dict[str, Any]] = []
    for number, job in enumerate(jobs):
        log.info(f"\n[{number + 1}/{len(jobs)}] {' '.join(job)}")
        title = title_of(number, job, varied)
        results = run_job(composed[number], job, options, sweep / str(number), varied, title)
        rows.append({"job": number, "overrides": job, **results})
        write_rows(sweep / RESULTS, rows)
        if results["status"] == "interrupted":
            break
    curves = f"tensorboard --logdir {shell_word(str(sweep))}"
    log.info(f"\n{sweep}\n{overview(rows, varied)}\ncurves  {curves}")
    report_curves(sweep, rows, varied)
    options.outcome.update({"sweep": str(sweep), "jobs": rows})
    require_finished(rows, len(jobs))


def composed_jobs(overrides: list[str]) -> tuple[list[list[str]], list[Composed]]:
    """Return the overrides and the configuration of each job; ConfigError if one is wrong."""
    jobs = expand(overrides)
    composed = [compose(job) for job in jobs]
    problems = [problem for job in composed for problem in problems_of(job)]
    raise_problems(list(dict.fromkeys(problems)))
    return distinct(jobs, composed)


def run_job(
    composed: Composed,
    job: list[str],
    options: Options,
    folder: Path,
    varied: list[str],
    title: str,
) -> dict[str, Any]:
    """Run one job in its folder; return its results, or its status and reason if it failed."""
    own_options = Options(argv=job, overrides=job, json=options.json, debug=options.debug)
    try:
        return start(composed, own_options, folder, varied, title)
    except StoppedBySignal as e:
        return {**ended("interrupted", "interrupted"), "signal": e.number}
    except KeyboardInterrupt:
        return {**ended("interrupted", "interrupted"), "signal": int(signal.SIGINT)}
    except Interrupted as e:
        return {**ended("interrupted", str(e)), "signal": e.exit_code - 128}
    except DivergedError as e:
        log.warning(str(e))
        return ended("diverged", str(e))
    except DltrainError as e:
        log.warning(str(e))
        return ended("failed", str(e))
    except Exception as e:  # the other jobs still run, whatever is wrong with this one
        reason = f"{type(e).__name__}: {e}"
        log.warning(traceback.format_exc() if options.debug else reason)
        return ended("failed", reason)


def ended(status: str, reason: str) -> dict[str, Any]:
    """Return the results of a job that has none."""
    return {"status": status, "reason": reason, "metrics": {}}


def require_finished(rows: list[dict[str, Any]], job_count: int) -> None:
    """Raise Interrupted or DltrainError unless every job was trained and tested."""
    failed = [row for row in rows if row["status"] not in FINISHED]
    if failed and failed[-1]["status"] == "interrupted":
        raise Interrupted(failed[-1]["signal"])
    if failed:
        raise DltrainError(f"{len(failed)} of {job_count} jobs did not finish")
