"""Running a sweep from its command, and resuming one from its folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dltrain.config.groups import config_dir, own_dir
from dltrain.errors import DltrainError, Interrupted, UsageError
from dltrain.files import unused_folder, writing
from dltrain.options import Options
from dltrain.runs import automatic
from dltrain.runs.folder import RunFolder
from dltrain.runs.keys import AUTO, NAMED, held_key, key_of
from dltrain.sweeps.coordinator import Coordinator, interruption
from dltrain.sweeps.definition import (
    definition,
    require_same_definition,
)
from dltrain.sweeps.display import Display
from dltrain.sweeps.jobs.job import ENDED, is_over
from dltrain.sweeps.journal import JOURNAL, first_line, read_journal
from dltrain.sweeps.plan import PLUGINS, SweepPlan, key_in, planned
from dltrain.sweeps.restored import restored
from dltrain.sweeps.summary.out_of_fold import write_predictions
from dltrain.sweeps.trial import Row, Trial

log = logging.getLogger("dltrain")
KEY_FILE = ".key"  # in the folder of a sweep with resume=auto
LAUNCHER = "launcher"


def run_sweep(options: Options) -> list[Row]:
    """Run the trials of `options.overrides`, and return their results, by number.

    All configurations are checked before the first job starts. A trial that fails is in the results
    with its reason; after an interruption the trials that are left do not start. `options.outcome`
    gets the folder and the results.

    Raises:
        ConfigError: A configuration is wrong.
    """
    with (
        planned(options.overrides) as plan,
        begun_or_new(plan, options) as (folder, trials),
    ):
        return run_trials(folder, trials, plan, options)


def resume_sweep(folder: Path, overrides: list[str], options: Options) -> list[Row]:
    """Run the trials of a sweep that are not done, and return the results of all, by number.

    `overrides` may set the launcher and the number of trials. Trials that were killed or failed
    continue from their checkpoints; those that finished or were pruned stay as they are.

    Raises:
        UsageError: An override would change the trials, or another process runs the sweep.
        InputError: The journal is damaged.
    """
    header = read_journal(folder)[0]
    before = header["overrides"]
    kept = kept_overrides(before, overrides)
    require_same_definition(before, [*kept, *overrides], folder)
    require_same_typed_plugins(before, overrides, folder)
    own = own_options() or header["config_dir"]
    with (
        config_dir(own),
        RunFolder(folder).locked(),
        planned([*kept, *overrides]) as plan,
    ):
        return run_trials(folder, restored(folder, plan, options), plan, options)


def require_same_typed_plugins(before: list[str], overrides: list[str], folder: Path) -> None:
    """Raise UsageError unless the plugins of a sweep are typed again."""
    for override in before:
        if key_in(override) == PLUGINS and override not in overrides:
            raise UsageError(
                f"{folder} was started with {override}: type it again, "
                "since a file cannot name code to run"
            )


def kept_overrides(before: list[str], later: list[str]) -> list[str]:
    """Return the overrides of a sweep that later ones do not replace.

    A later launcher replaces the settings of the one before, which it may not have.
    """
    keys = {key_in(override): override for override in later}
    kept = []
    for override in before:
        key = key_in(override)
        if key in keys:
            continue
        if LAUNCHER in keys and key.startswith(f"{LAUNCHER}."):
            log.warning(f"{override} is not read: {keys[LAUNCHER]} comes after it")
        else:
            kept.append(override)
    return kept


@contextmanager
def begun_or_new(plan: SweepPlan, options: Options) -> Iterator[tuple[Path, dict[int, Trial]]]:
    """Yield the locked folder of a sweep and the trials it has.

    It is a new one, or with resume=auto that which was begun before. Raises UsageError if another
    process runs the sweep of this command.
    """
    if plan.first.config["resume"] != AUTO:
        with new_sweep(plan, options, {}).locked() as sweep:
            yield sweep.folder, {}
        return
    automatic.require_no_folder(options)
    root = Path(plan.first.config["paths"]["output"])
    key = sweep_key(plan)
    with held_key(root, key):
        begun = begun_folder(root, key)
        if begun is None:
            with new_sweep(plan, options, {KEY_FILE: key.encode()}).locked() as sweep:
                yield sweep.folder, {}
            return
        require_same_definition(read_journal(begun)[0]["overrides"], plan.overrides, begun)
        with RunFolder(begun).locked():
            yield begun, restored(begun, plan, options)


def sweep_key(plan: SweepPlan) -> str:
    """Return the key by which resume=auto finds a sweep: its name, or a hash of its trials."""
    key = key_of(plan.first.public)
    if key.startswith(NAMED):
        return f"sweep {key}"
    return f"sweep {plan.sampler.key()}"


def begun_folder(root: Path, key: str) -> Path | None:
    """Return the newest folder of a sweep with a key, or None."""
    files = sorted(root.glob(f"*/*_sweep/{KEY_FILE}"), reverse=True)
    return next((file.parent for file in files if file.read_text(encoding="utf-8") == key), None)


def new_sweep(plan: SweepPlan, options: Options, files: dict[str, bytes]) -> RunFolder:
    """Return the new, locked folder of a sweep, with `files` and a journal in it."""
    header = first_line(
        command=options.command,
        overrides=plan.overrides,
        definition=definition(plan.overrides),
        settings=plan.settings,
        config_dir=own_options(),
        swept=plan.sampler.swept,
    )
    contents = {**files, JOURNAL: header}
    folder = unused_folder(options.folder)
    if folder is None:
        root = Path(plan.first.config["paths"]["output"])
        return RunFolder.create(root, "sweep", contents)
    with writing(folder):
        return RunFolder.make(folder, contents)


def own_options() -> str | None:
    """Return the folder with the user's own options, if there is one."""
    folder = own_dir.get()
    return None if folder is None else str(folder)


def run_trials(
    folder: Path, trials: dict[int, Trial], plan: SweepPlan, options: Options
) -> list[Row]:
    """Run the trials in their folders below that of the sweep, and print a table of them."""
    display = Display(folder, plan.sampler, plan.launcher.in_process)
    coordinator = Coordinator(
        folder, plan.sampler, plan.launcher, trials, own_options(), options.debug, display
    )
    display.begin(trials)
    try:
        rows = coordinator.run()
    finally:
        display.close()
    options.outcome.update({"sweep": str(folder), "jobs": rows})
    options.outcome.update(display.finish(rows))
    if not interruption(rows) and not plan.first.config["debug"]:  # fake data has no folds
        options.outcome.update(write_predictions(folder, rows, plan.sampler.swept))
    if coordinator.signal and not interruption(rows):  # it arrived while no job was running
        raise Interrupted(coordinator.signal)
    return rows


def require_finished(rows: list[Row]) -> None:
    """Raise Interrupted or DltrainError unless every trial was trained and tested, or pruned.

    Those that cannot be trained count as well, unless no other has finished.
    """
    signal_number = interruption(rows)
    if signal_number:
        raise Interrupted(signal_number)
    unfinished_count = sum(not is_over(row) for row in rows)
    if rows and not any(row["status"] in ENDED for row in rows):
        unfinished_count = len(rows)
    if unfinished_count:
        raise DltrainError(f"{unfinished_count} of {len(rows)} jobs did not finish")
