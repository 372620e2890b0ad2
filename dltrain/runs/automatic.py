"""`resume=auto`: a command that is started again continues the run that it began."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dltrain.config.compose import Composed
from dltrain.config.schema import as_yaml
from dltrain.distributed.environment import launch_key
from dltrain.errors import UsageError
from dltrain.experiment.session import start
from dltrain.options import Options
from dltrain.report.text import duration, number, table
from dltrain.runs.continuation import continue_or_fork
from dltrain.runs.folder import MANIFEST, RESULTS, RunFolder
from dltrain.runs.identity import defining, is_surrounding, requested_config
from dltrain.runs.keys import AUTO, NAMED, held_key, key_of, run_with_key
from dltrain.runs.listing.summary import RunSummary
from dltrain.shell import shell_word

log = logging.getLogger("dltrain")
MAX_SHOWN_KEYS = 5
NOT_TO_RESUME = ("resume", "name", "paths.output")  # settings of the command, not of its run
ABSENT = object()


def train(
    composed: Composed,
    options: Options,
    folder: Path | None = None,
    swept: Sequence[str] = (),
    title: str = "",
) -> dict[str, Any]:
    """Train a new run, or with resume=auto continue the one that the same command began.

    What torchrun starts again, because one of its processes has died, continues its run as well.
    The arguments are those of `start`. The results of a finished run are returned as they are.

    Raises:
        UsageError: Another process trains this run, or a run of that name has another
            configuration.
    """
    root = Path(composed.config["paths"]["output"])
    if composed.config["resume"] == AUTO:
        require_no_folder(options)
        key = key_of(composed.public)
    elif launch_key():
        require_no_folder(options, "torchrun --max-restarts")
        key = restart_key_of(composed.public)
    else:
        return start(composed, options, folder, swept, title)
    with held_key(root, key):
        run = run_with_key(root, key)
        if run is None:
            return start(composed, options, folder, swept, title, key)
        return continued(root / run.path, run, composed, options)


def restart_key_of(config: dict[str, Any]) -> str:
    """Return the key of a run that torchrun would restart; another configuration has another."""
    return f"{launch_key()} {key_of({**config, 'name': None})}"


def why_continued(config: dict[str, Any]) -> str:
    """Return why a run with a configuration is continued, for the beginning of a message."""
    return f"resume={AUTO}" if config["resume"] == AUTO else "restarted by torchrun"


def require_no_folder(options: Options, cause: str = f"resume={AUTO}") -> None:
    """Raise UsageError for a folder that was typed for a run that `cause` may continue."""
    if options.folder is not None:
        raise UsageError(
            f"{cause} finds its run under paths.output, not in {options.folder}; "
            f"leave out the folder, or {cause}"
        )


def continued(
    folder: Path, summary: RunSummary, composed: Composed, options: Options
) -> dict[str, Any]:
    """Continue a run to its end and return its results; those of a finished one as they are."""
    run = RunFolder(folder)
    require_same_experiment(run, summary, composed)
    why = why_continued(composed.config)
    if summary.is_finished:
        return finished_results(run, options, why)
    log.info(f"{why}: {folder} is {summary.status}; it continues")
    continue_or_fork(run, surrounding_overrides(options.overrides), options)
    return dict(options.outcome)


def finished_results(run: RunFolder, options: Options, why: str) -> dict[str, Any]:
    """Return the results of a finished run, after printing them."""
    results = {**run.read_json(RESULTS), "run": str(run.folder)}
    status = results["status"]
    log.info(f"{why}: {run.folder} is {status}; nothing is left to train")
    metrics = results.get("metrics", {}).items()
    rows = [(name, number(value)) for name, value in metrics if name.startswith("test/")]
    rows.append(("training", duration(results.get("seconds", 0))))
    log.info(table([*rows, ("run", str(run.folder))]))
    options.outcome.update(results)
    return results


def surrounding_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that change no result: where the data lies, what is logged, plugins.

    The others are in the run's saved configuration.
    """
    keys = [override.partition("=")[0].lstrip("+") for override in overrides]
    return [
        override
        for override, key in zip(overrides, keys, strict=True)
        if is_surrounding(key) and key not in NOT_TO_RESUME
    ]


def require_same_experiment(run: RunFolder, summary: RunSummary, composed: Composed) -> None:
    """Raise UsageError if the run of a name has another configuration than the command.

    Values that a resume changed since then do not count.
    """
    if not summary.key.startswith(NAMED):
        return
    differences = different_keys(run.read_json(MANIFEST), composed)
    if not differences:
        return
    shown = "\n".join(f"  {line}" for line in differences[:MAX_SHOWN_KEYS])
    place = shell_word(str(run.folder))
    raise UsageError(
        f"resume={AUTO}: the run name={composed.config['name']} is {run.folder}, which has "
        f"another configuration\n{shown}\n"
        f"name=OTHER begins a new run; `dltrain resume {place} KEY=VALUE` changes that one"
    )


def different_keys(manifest: dict[str, Any], composed: Composed) -> list[str]:
    """Return a line for each key that differs: the run's value and the command's."""
    changed = {key for one in manifest.get("resumed", []) for key in one.get("changed", {})}
    before = defining(requested_config(manifest))
    after = defining(composed.public)
    keys = sorted((before.keys() | after.keys()) - changed)
    different = [key for key in keys if before.get(key, ABSENT) != after.get(key, ABSENT)]
    return [f"{key}: {as_yaml(before.get(key))} -> {as_yaml(after.get(key))}" for key in different]
