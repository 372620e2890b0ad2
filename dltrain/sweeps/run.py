"""Runs the jobs of a sweep, one after the other, each in a folder of its own."""

from __future__ import annotations

import hashlib
import logging
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltrain.config.compose import Composed
from dltrain.config.grid import swept_keys
from dltrain.errors import DivergedError, DltrainError, Interrupted, StoppedBySignal
from dltrain.files import unused_folder, writing
from dltrain.options import Options
from dltrain.runs import automatic
from dltrain.runs.folder import FINISHED, RunFolder
from dltrain.runs.keys import AUTO, HASH_CHARS, NAMED, held_key, key_of
from dltrain.shell import shell_word
from dltrain.sweeps.expansion import checked_jobs
from dltrain.sweeps.names import title_of
from dltrain.sweeps.results import overview, report_curves, write_rows
from dltrain.user_code import user_errors_explained

log = logging.getLogger("dltrain")
RESULTS = "sweep.json"
EVENT_FILES = "events.out.tfevents.*"  # as TensorBoard calls them
KEY_FILE = ".key"  # in the folder of a sweep with resume=auto


def run_sweep(options: Options) -> list[dict[str, Any]]:
    """Train every combination of the swept values of `options.overrides`; return the results.

    All configurations are checked before the first job starts. A job that fails is in the results
    with its reason; after an interruption the jobs that are left do not start. `options.outcome`
    gets the folder and the results.

    Raises:
        ConfigError: A configuration is wrong.
    """
    jobs, configurations = checked_jobs(options.overrides)
    with sweep_folder(configurations, options) as sweep:
        return run_jobs(jobs, configurations, sweep, options)


@contextmanager
def sweep_folder(configurations: Sequence[Composed], options: Options) -> Iterator[Path]:
    """Yield the folder of a sweep: a new one, or with resume=auto that which was begun before.

    Raises UsageError if another process runs the sweep of this command.
    """
    first = configurations[0]
    if first.config["resume"] != AUTO:
        yield new_sweep(first, options, {})
        return
    automatic.require_no_folder(options)
    root = Path(first.config["paths"]["output"])
    key = sweep_key([key_of(composed.public) for composed in configurations])
    with held_key(root, key):
        yield begun_folder(root, key) or new_sweep(first, options, {KEY_FILE: key.encode()})


def sweep_key(keys: Sequence[str]) -> str:
    """Return the key of the sweep whose jobs have these keys: their name, or a hash of all."""
    if keys[0].startswith(NAMED):
        return f"sweep {keys[0]}"
    return f"sweep {hashlib.sha256(' '.join(keys).encode()).hexdigest()[:HASH_CHARS]}"


def begun_folder(root: Path, key: str) -> Path | None:
    """Return the newest folder of a sweep with a key, or None."""
    files = sorted(root.glob(f"*/*_sweep/{KEY_FILE}"), reverse=True)
    return next((file.parent for file in files if file.read_text(encoding="utf-8") == key), None)


def run_jobs(
    jobs: list[list[str]], configurations: list[Composed], sweep: Path, options: Options
) -> list[dict[str, Any]]:
    """Run the jobs in their folders below that of the sweep, and print a table of them."""
    swept = swept_keys(jobs)
    log.info(f"{sweep}: {len(jobs)} jobs over {', '.join(swept) or 'no key'}")
    rows: list[dict[str, Any]] = []
    for number, job in enumerate(jobs):
        log.info(f"\n[{number + 1}/{len(jobs)}] {' '.join(job)}")
        title = title_of(number, job, swept)
        results = run_job(
            configurations[number], job, options, sweep / str(number), swept, title, number
        )
        rows.append({"job": number, "overrides": job, **results})
        write_rows(sweep / RESULTS, rows)
        if results["status"] == "interrupted":
            break
    log.info(f"\n{sweep}\n{overview(rows, swept)}{curves_line(sweep)}")
    report_curves(sweep, rows, swept)
    options.outcome.update({"sweep": str(sweep), "jobs": rows})
    return rows


def curves_line(sweep: Path) -> str:
    """Return the command that shows the curves of all jobs; "" if none of them has written any."""
    if not any(sweep.rglob(EVENT_FILES)):
        return ""
    return f"\ncurves  tensorboard --logdir {shell_word(str(sweep))}"


def new_sweep(composed: Composed, options: Options, files: dict[str, bytes]) -> Path:
    """Return the new folder of a sweep, with `files` in it."""
    folder = unused_folder(options.folder)
    if folder is None:
        sweep_run = RunFolder.create(Path(composed.config["paths"]["output"]), "sweep", files)
    else:
        with writing(folder):
            sweep_run = RunFolder.make(folder, files)
    with sweep_run.locked():  # released: the jobs lock their own
        return sweep_run.folder


def run_job(
    composed: Composed,
    job: list[str],
    options: Options,
    folder: Path,
    swept: list[str],
    title: str,
    number: int,
) -> dict[str, Any]:
    """Run one job in its folder; return its results, or its status and reason if it failed."""
    job_options = Options(argv=job, overrides=job, json=options.json, debug=options.debug)
    try:
        with user_errors_explained():
            return automatic.train(composed, job_options, folder, swept, title, number)
    except StoppedBySignal as e:
        return {**unfinished("interrupted", "interrupted"), "signal": e.number}
    except KeyboardInterrupt:
        return {**unfinished("interrupted", "interrupted"), "signal": int(signal.SIGINT)}
    except Interrupted as e:
        return {**unfinished("interrupted", str(e)), "signal": e.exit_code - 128}
    except DivergedError as e:
        log.warning(str(e))
        return unfinished("diverged", str(e))
    except DltrainError as e:
        log.warning(str(e))
        return unfinished("failed", str(e))
    except Exception as e:  # the other jobs still run, whatever is wrong with this one
        reason = f"{type(e).__name__}: {e}"
        log.warning(traceback.format_exc() if options.debug else reason)
        return unfinished("failed", reason)


def unfinished(status: str, reason: str) -> dict[str, Any]:
    """Return the results of a job that did not finish: why, and no metrics."""
    return {"status": status, "reason": reason, "metrics": {}}


def require_finished(rows: list[dict[str, Any]]) -> None:
    """Raise Interrupted or DltrainError unless every job was trained and tested."""
    if rows[-1]["status"] == "interrupted":
        raise Interrupted(rows[-1]["signal"])
    unfinished_count = sum(row["status"] not in FINISHED for row in rows)
    if unfinished_count:
        raise DltrainError(f"{unfinished_count} of {len(rows)} jobs did not finish")
