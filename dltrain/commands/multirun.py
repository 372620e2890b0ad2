"""`dltrain -m ...`: a grid of runs, one after the other, and a table of them all."""

from __future__ import annotations

import itertools
import logging
import re
import signal
import traceback
from pathlib import Path
from typing import Any

from dltrain.config.annotations import literals
from dltrain.config.check import problems_of
from dltrain.config.compose import Composed, compose, full_key_of
from dltrain.config.groups import groups
from dltrain.config.look_up import look_up
from dltrain.config.overrides import parse, raise_problems
from dltrain.errors import DltrainError, Interrupted, StoppedBySignal, UsageError
from dltrain.files import replace_file, to_json
from dltrain.options import Options
from dltrain.report.text import duration, number, table
from dltrain.runs.folder import Run
from dltrain.runs.training import start
from dltrain.shell import shell_word

log = logging.getLogger("dltrain")
RESULTS = "sweep.json"
MAX_TITLE_BYTES = 140  # of a folder's name; some file systems take no more than 143
QUOTES = re.compile("[\"']")
UNSAFE = re.compile(r"""[\x00-\x1f\x7f/\\<>:|?*]+""")
IN_UNIT = {"test/mse": ("test/rmse", "test/r2")}  # shown in its place, where a run has them
COLUMNS = (
    "test/accuracy",
    "test/loss",
    "train/gradient_ratio",
    "train/dead_units",
    "train/saturated_units",
)


def multirun(options: Options) -> None:
    """Run every combination of the swept values; one that raises is in the table with its reason.

    A configuration that cannot be right ends the sweep before its first job: a typo should not cost a night.
    """
    jobs = expand(options.overrides)
    composed = [compose(job) for job in jobs]
    problems = list(dict.fromkeys(problem for job in composed for problem in problems_of(job)))
    raise_problems(problems)
    jobs, composed = distinct(jobs, composed)
    root = Path(composed[0].config["paths"]["output"])
    with Run.create(root, "sweep", {}).locked() as made:
        sweep = made.folder
    varied = swept_keys(jobs)
    log.info(f"{sweep}: {len(jobs)} jobs over {', '.join(varied) or 'nothing'}")
    rows: list[dict[str, Any]] = []
    for number_, (job, one) in enumerate(zip(jobs, composed, strict=True)):
        log.info(f"\n[{number_ + 1}/{len(jobs)}] {' '.join(job)}")
        rows.append(
            {"job": number_, "overrides": job, **run_job(one, job, options, sweep, number_, varied)}
        )
        write_rows(sweep / RESULTS, rows)
        if rows[-1]["status"] == "interrupted":
            break
    log.info(
        f"\n{sweep}\n{overview(rows, varied)}\ncurves  tensorboard --logdir {shell_word(str(sweep))}"
    )
    leave_curves(sweep, rows, varied)
    options.outcome.update({"sweep": str(sweep), "jobs": rows})
    failed = [row for row in rows if row["status"] not in ("completed", "stopped")]
    if failed and failed[-1]["status"] == "interrupted":
        raise Interrupted(failed[-1]["signal"])
    if failed:
        raise DltrainError(f"{len(failed)} of {len(jobs)} jobs did not finish")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the jobs that are done so far; where that cannot be, the other jobs go on, and the
    screen has the table.
    """
    try:
        replace_file(path, f"{to_json(rows, indent=1)}\n".encode())
    except OSError as e:
        log.warning(f"{path} cannot be written: {e.strerror or e}")


def run_job(
    composed: Composed,
    job: list[str],
    options: Options,
    sweep: Path,
    number: int,
    varied: list[str],
) -> dict[str, Any]:
    """Run one job in its folder of the sweep; return its results, or its status and reason where it
    raised.
    """
    own = Options(argv=job, overrides=job, json=options.json, debug=options.debug)
    try:
        return start(composed, own, sweep / str(number), varied, title_of(number, job, varied))
    except KeyboardInterrupt as e:
        number = e.number if isinstance(e, StoppedBySignal) else signal.SIGINT
        return {
            "status": "interrupted",
            "reason": "interrupted",
            "metrics": {},
            "signal": int(number),
        }
    except Interrupted as e:
        return {
            "status": "interrupted",
            "reason": str(e),
            "metrics": {},
            "signal": e.exit_code - 128,
        }
    except DltrainError as e:
        status = "diverged" if e.exit_code == 4 else "failed"
        log.warning(str(e))
        return {"status": status, "reason": str(e), "metrics": {}}
    except Exception as e:  # any job may fail in its own way: the others go on
        log.warning(traceback.format_exc() if options.debug else f"{type(e).__name__}: {e}")
        return {"status": "failed", "reason": f"{type(e).__name__}: {e}", "metrics": {}}


def expand(overrides: list[str]) -> list[list[str]]:
    """Return the grid: one list of overrides a job, the last swept key varying fastest.

    Where a swept key is set again, the last one counts, as in Hydra.
    """
    parsed, problems = parse(overrides, sweep=True)
    raise_problems(problems)
    chosen = [override.input_line for override in parsed if not override.is_sweep_override()]
    last = {_name(override): override for override in parsed}
    swept = {_name(override) for override in parsed if override.is_sweep_override()}
    axes: list[list[str]] = []
    for override in parsed:
        if _name(override) in swept and override is not last[_name(override)]:
            log.warning(
                f"{override.input_line} is not read: {last[_name(override)].input_line} comes after it"
            )
        else:
            axes.append(_axis(override, chosen))
    return [list(job) for job in itertools.product(*axes)]


def _name(override: Any) -> str:
    """Return the key of an override; a deletion is not the same as a value."""
    return f"{'~' if override.is_delete() else ''}{override.key_or_group}"


def _axis(override: Any, chosen: list[str]) -> list[str]:
    """Return the overrides that one override stands for: itself, or one for each of its values."""
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        raise UsageError(
            f"{override.input_line}: a grid needs values, such as {override.key_or_group}=1,2,3"
        )
    return [f"{override.get_key_element()}={value}" for value in values_of(override, chosen)]


def distinct(
    jobs: list[list[str]], composed: list[Composed]
) -> tuple[list[list[str]], list[Composed]]:
    """Return the jobs without those whose configuration an earlier one has; a line says which are
    left out.
    """
    first: dict[str, int] = {}
    for i, one in enumerate(composed):
        earlier = first.setdefault(repr(one.config), i)
        if earlier != i:
            log.warning(
                f"{' '.join(jobs[i])} is left out: it is the same run as {' '.join(jobs[earlier])}"
            )
    kept = list(first.values())
    return [jobs[i] for i in kept], [composed[i] for i in kept]


def values_by_key(overrides: list[str]) -> dict[str, str]:
    """Return what is set to what; +KEY and ++KEY are the same key."""
    return {
        key.lstrip("+"): value
        for key, _, value in (override.partition("=") for override in overrides)
    }


def values_of(override: Any, chosen: list[str]) -> list[str]:
    """The values that one swept override goes through, beside the `chosen` ones that are not swept.

    A pattern stands for the options of a group, or the values of a key that has names for them: model.activation=glob(*).
    UsageError where nothing matches it.
    """
    from hydra.core.override_parser.types import Glob

    pattern = override.value()
    if not isinstance(pattern, Glob):
        return list(override.sweep_string_iterator())
    key = override.key_or_group
    names = groups()[key] if key in groups() else named_values(key, chosen)
    found = pattern.filter(names)
    if not found:
        there = f"there are {', '.join(names)}" if names else "its values have no names: KEY=1,2,3"
        raise UsageError(f"{override.input_line}: no {key} is called like that; {there}")
    return list(found)


def named_values(key: str, chosen: list[str]) -> list[str]:
    """The named values that the signature behind `key` admits; UsageError if there is no such key."""
    composed = compose(chosen)
    _, argument = look_up(composed, full_key_of(composed, key))
    return literals(argument.annotation) if argument is not None else []


def swept_keys(jobs: list[list[str]]) -> list[str]:
    """The keys whose value differs between jobs."""
    return [
        column[0].partition("=")[0].lstrip("+")
        for column in zip(*jobs, strict=True)
        if len(set(column)) > 1
    ]


def title_of(number: int, job: list[str], varied: list[str]) -> str:
    """Return what TensorBoard calls a job, as `0 model=cnn lr=0.001`; empty where nothing is
    varied.

    It is the name of a folder: characters that some file system refuses become -, and it is cut to
    `MAX_TITLE_BYTES`.
    """
    values = values_by_key(job)
    text = UNSAFE.sub("-", QUOTES.sub("", f"{number} {labelled(varied, values)}")) if varied else ""
    return text.encode()[:MAX_TITLE_BYTES].decode(errors="ignore").rstrip(". ")


def labelled(keys: list[str], values: dict[str, str]) -> str:
    """Return `model=cnn lr=0.001`: the values of dotted `keys`, each called by as little of its key
    as tells it apart.
    """
    names = short_names(keys)
    return " ".join(f"{names[key]}={values[key]}" for key in keys)


def short_names(keys: list[str]) -> dict[str, str]:
    """Return for each key the fewest of its last parts that no other of the keys ends with."""
    names = {}
    for key in keys:
        parts = key.lstrip("+").replace("/", ".").split(".")
        others = [other for other in keys if other != key]
        ends = (".".join(parts[i:]) for i in reversed(range(len(parts))))
        names[key] = next(
            (e for e in ends if not any(f".{o}".endswith(f".{e}") for o in others)), key
        )
    return names


def leave_curves(sweep: Path, rows: list[dict[str, Any]], varied: list[str]) -> None:
    """Draw how the finished runs learned, those that differ only in their seed as one line, into curves.png.

    Of the figure that decides which weights are best, and of its counterpart in training (train/return, or the loss).
    """
    from dltrain.report import curves

    done = [row for row in rows if row["status"] in ("completed", "stopped") and row.get("best")]
    keys = [key for key in varied if key != "seed"]
    groups: dict[str, list[Path]] = {}
    for row in done:
        values = values_by_key(row["overrides"])
        groups.setdefault(labelled(keys, values) or "all", []).append(Path(row["run"]))
    if len(done) < 2:
        return
    watched = done[0]["best"]["metric"]
    trained = curves.counterpart(watched, {name for row in done for name in row["metrics"]})
    pixels = curves.picture(groups, [trained, watched])
    if pixels is not None:
        write_picture(sweep / curves.PICTURE, pixels)
    if len(done) > len(groups):
        found = curves.averages(groups, trained)
        lines = [[", ".join(keys) or "runs", f"mean {trained}", "standard error", "runs"]]
        for name, (mean, error, count) in found.items():
            spread = number(error) if count > 1 else "-"  # one run says nothing of it
            lines.append([name, number(mean), spread, str(count)])
        log.info(table(lines))


def write_picture(path: Path, pixels: Any) -> None:
    """Write a picture; the runs are worth as much without it."""
    from dltrain.report import curves

    try:
        curves.write(path, pixels)
    except OSError as e:
        log.warning(f"{path} cannot be written: {e.strerror or e}")
    else:
        log.info(f"picture {path}")


def overview(rows: list[dict[str, Any]], varied: list[str]) -> str:
    """A line a job: what was varied, what came out; of the test set also what decided which weights are best."""
    watched = [row.get("best", {}).get("metric", "").replace("val/", "test/") for row in rows]
    watched = [name for metric in watched for name in IN_UNIT.get(metric, (metric,))]
    names = [
        n for n in dict.fromkeys([*watched, *COLUMNS]) if any(n in row["metrics"] for row in rows)
    ]
    lines = [["job", *varied, "status", *names, "time"]]
    for row in rows:
        values = values_by_key(row["overrides"])
        figures = [number(row["metrics"][n]) if n in row["metrics"] else "-" for n in names]
        spent = duration(row["seconds"]) if "seconds" in row else "-"
        reason = (
            f"{row['status']}: {row['reason'].splitlines()[0]}"
            if row.get("reason")
            else row["status"]
        )
        lines.append(
            [str(row["job"]), *(values[key] for key in varied), reason[:70], *figures, spent]
        )
    return table(lines)
