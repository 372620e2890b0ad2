"""Resuming a run: the state to continue from, its folder, and forks that continue elsewhere."""

from __future__ import annotations

import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.config.changes import Change
from dltrain.config.compose import Composed
from dltrain.config.overrides import expand_home, take
from dltrain.config.own_settings import belongs
from dltrain.engine import Resume
from dltrain.errors import InputError, UsageError
from dltrain.experiment.experiment import Experiment
from dltrain.files import replace_file, writing
from dltrain.options import Options
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store, commit
from dltrain.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    MANIFEST,
    METRICS,
    READ_ONLY,
    RESULTS,
    TIMING,
    RunFolder,
)
from dltrain.runs.initial_files import as_yaml, initial_files
from dltrain.runs.open import require_engine_state
from dltrain.runs.reproduction.history import earlier_part

log = logging.getLogger("dltrain")


def newest_state(run: RunFolder, store: Store, fork: bool) -> dict[str, Any] | None:
    """Return the state to continue from; None before the first checkpoint.

    It is that of the newest complete checkpoint, or of the one that the user named. Raises
    InputError if no checkpoint is complete, or the named one is not; UsageError if newer ones
    follow the named one, unless the run is forked there.
    """
    if run.checkpoint is not None:
        if not fork and run.checkpoint in store.steps()[:-1]:
            raise UsageError(
                f"{run.checkpoint} is not the newest checkpoint of its run; "
                "add --fork to continue from it in a new run"
            )
        return _loaded(run.checkpoint)
    if not run.is_writable():
        newest = store.read("last")
        if newest is None:
            return None
        require_engine_state(*newest)
        return newest[1]
    with writing(run.folder, READ_ONLY):
        folder = store.recover()
    if folder is None:
        log.info(f"{run.folder} has no checkpoint yet; it starts at step 0")
        return None
    return _loaded(folder)


def _loaded(folder: Path) -> dict[str, Any]:
    state = checkpoint.load(folder)
    require_engine_state(folder, state)
    return state


def prepare_folder(
    run: RunFolder,
    composed: Composed,
    options: Options,
    resume: Resume | None,
    changed: list[Change],
) -> None:
    """Drop what the run logged after the checkpoint, and record the command that continues it."""
    place = resume.state if resume is not None else {"step": 0, "index": 0}
    after = {change.key: change.after for change in changed}
    manifest = run.read_json(MANIFEST)
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": options.command,
        "step": place["step"],
        "changed": after,
    }
    if after:
        record["earlier"] = earlier_part(run, manifest, place["step"])
    if "settings" in manifest:
        manifest["settings"] |= {key: value for key, value in after.items() if belongs(key)}
    manifest["config"] = composed.public
    manifest["resumed"] = [*manifest.get("resumed", []), record]
    with writing(run.folder, READ_ONLY):
        run.cut_back(TIMING, place["step"])
        if resume is None:
            run.keep(METRICS, 0)
        run.write_json(MANIFEST, manifest)
        reopen_results(run)
        replace_file(run.folder / CONFIG, as_yaml(composed.public))
        Store(run.folder / CHECKPOINTS).forget_stage_ends(place["index"])


def reopen_results(run: RunFolder) -> None:
    """Note in the results of an earlier end that the run continues, in case it is killed."""
    results: dict[str, Any] = {}
    with suppress(InputError):  # what is damaged is replaced at the end
        results = run.read_json(RESULTS)
    if results:
        reason = "the run was continued, and has not ended since"
        run.write_json(RESULTS, {**results, "status": "interrupted", "reason": reason})


def fork_run(
    run: RunFolder,
    composed: Composed,
    experiment: Experiment,
    resume: Resume | None,
    options: Options,
) -> RunFolder:
    """Create a run that starts as a copy of `run` and has it as its parent."""
    step = resume.state["step"] if resume else 0
    manifest = run.read_json(MANIFEST)
    extra: dict[str, Any] = {"parent": {"run": str(run.folder), "step": step}}
    if "settings" in manifest:
        extra["settings"] = manifest["settings"]
    files = initial_files(experiment, composed, options, **extra)
    label = run.folder.name.partition("_")[2] or run.folder.name
    paths, _ = take(options.overrides, ["paths.output"])
    root = expand_home(paths.get("paths.output", composed.config["paths"]["output"]))
    fork = RunFolder.create(Path(root), f"{label}_fork", files)
    if resume is not None:
        with writing(fork.folder):
            copy_state(run, fork, resume)
    log.info(f"forked from {run.folder}")
    return fork


def copy_state(run: RunFolder, fork: RunFolder, resume: Resume) -> None:
    """Copy what `run` has logged and saved up to a checkpoint into the fork's folder."""
    for name in (METRICS, TIMING):
        if (run.folder / name).exists():
            shutil.copyfile(run.folder / name, fork.folder / name)
    state = resume.state
    step = state["step"]
    source = Store(run.folder / CHECKPOINTS)
    target = Store(fork.folder / CHECKPOINTS)
    for index, end in resume.stage_ends.items():
        commit(target.stage_end(index, end["step"]), end, {"step": end["step"]})
    best = best_checkpoint(source, state)
    if best is not None:
        folder, best_state = best
        about = {**evaluation_in(folder), "step": best_state["step"], "points": ["best"]}
        commit(target.folder / folder.name, best_state, about)
        target.point("best", folder.name)
        if best_state["step"] == step:
            return
    commit(target.folder / target.new_name(step), state, {"step": step, "points": ["last"]})


def evaluation_in(folder: Path) -> dict[str, Any]:
    """Return the place and the evaluation of a checkpoint by its manifest."""
    about = checkpoint.manifest_or_nothing(folder)
    keys = ("stage", "epoch", "position", "metric", "rank")
    return {key: about[key] for key in keys if key in about}


def best_checkpoint(store: Store, state: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """Return the checkpoint that `state` names as the best so far; None if it is gone."""
    best = Checkpoint.best_in(state)
    if not best:
        return None
    saved = store.read("best")
    if saved is None or saved[1]["step"] != best["step"]:
        return None
    return saved
