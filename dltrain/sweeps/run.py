"""Running a sweep from its command, and resuming one from its folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.config.check import problems_of
from dltrain.config.command_groups import is_of_command, of_run, split_overrides
from dltrain.config.compose import Composed, compose
from dltrain.config.groups import COMMAND_GROUPS, config_dir, own_dir
from dltrain.config.overrides import parse, raise_problems
from dltrain.config.policy import MAIN
from dltrain.errors import DltrainError, InputError, Interrupted, UsageError
from dltrain.experiment.instantiate import instantiate
from dltrain.files import unused_folder, writing
from dltrain.options import Options
from dltrain.runs import automatic
from dltrain.runs.folder import RunFolder
from dltrain.runs.identity import FOLD_KEY, FOLDS_KEY, identity
from dltrain.runs.keys import AUTO, NAMED, held_key, key_of
from dltrain.shell import setting
from dltrain.sweeps.coordinator import Coordinator, interruption
from dltrain.sweeps.definition import (
    definition,
    lasting_settings,
    require_same_definition,
    require_same_settings,
)
from dltrain.sweeps.display import Display
from dltrain.sweeps.folds import fold_axis
from dltrain.sweeps.job import ENDED
from dltrain.sweeps.journal import JOURNAL, Journal, first_line, mend_journal, read_journal
from dltrain.sweeps.launchers.launcher import Launcher
from dltrain.sweeps.out_of_fold import write_predictions
from dltrain.sweeps.samplers.sampler import Sampler
from dltrain.sweeps.samplers.space import space_overrides
from dltrain.sweeps.trial import Row, Trial, trials_of

log = logging.getLogger("dltrain")
KEY_FILE = ".key"  # in the folder of a sweep with resume=auto
PLUGINS = "plugins"
LAUNCHER = "launcher"


@dataclass
class SweepPlan:
    """A sweep that is ready to run: its overrides, and what they choose.

    `settings` are those of the sampler that a resume may not change.
    """

    overrides: list[str]
    settings: dict[str, Any]
    sampler: Sampler
    launcher: Launcher

    @property
    def first(self) -> Composed:
        """A configuration of the sweep, for its places."""
        return self.sampler.first


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


def key_in(override: str) -> str:
    """Return the key of an override, without + signs."""
    return override.partition("=")[0].lstrip("+")


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
def planned(overrides: list[str]) -> Iterator[SweepPlan]:
    """Yield the sampler and the launcher that overrides choose, with checked configurations.

    The launcher warms up meanwhile, and is closed after the block.
    """
    own, of_runs = split_overrides(overrides)
    require_one_number_of_folds(of_runs)
    base = base_configuration(own, of_runs)
    plugins = base.config[PLUGINS]
    sampler: Sampler = instantiate(base.config["sweep"], "sweep", {}, plugins)
    launcher: Launcher = instantiate(base.config["launcher"], "launcher", {}, plugins)
    require_importable(plugins, launcher)
    typed = {key_in(override) for override in of_runs}
    require_keys_of_runs(sampler.space)
    searched = {key: value for key, value in sampler.space.items() if key_in(key) not in typed}
    log_keys_left_out(sampler.space, searched)
    space = space_overrides(searched)
    axis = axis_of_folds(base, sampler, typed)
    with closing(launcher):
        launcher.warm_up()
        sampler.open([*of_runs, *space, *axis])
        yield SweepPlan(overrides, lasting_settings(base.config["sweep"]), sampler, launcher)


def log_keys_left_out(space: Mapping[str, Any], searched: Mapping[str, Any]) -> None:
    """Log which keys of `sweep.space` are not searched, since an override sets them."""
    for key in space:
        if key not in searched:
            name = key_in(key)
            log.info(f"sweep.space.{name} is not read: the command sets {name}")


def require_keys_of_runs(space: Mapping[str, Any]) -> None:
    """Raise ConfigError if `sweep.space` names code, or a setting that runs do not have."""
    problems = []
    for key in space:
        name = key_in(key)
        if name == PLUGINS:
            why = f"a file cannot name plugins: type {setting(PLUGINS, ['NAME'])} yourself"
            problems.append((f"sweep.space.{name}", why))
        elif is_of_command(key):
            problems.append((f"sweep.space.{name}", "is a setting of the sweep, not of its runs"))
    raise_problems(problems)


def require_importable(plugins: list[str], launcher: Launcher) -> None:
    """Raise UsageError if jobs of other processes would need classes of this program itself."""
    if MAIN in plugins and not launcher.in_process:
        raise UsageError(
            f"{setting(PLUGINS, [MAIN])}: the jobs run in other processes, which cannot import the "
            "classes of this script or notebook; set launcher=inline, or move the classes into a "
            "file of their own and import it"
        )


def require_one_number_of_folds(of_runs: list[str]) -> None:
    """Raise UsageError for several numbers of folds, unless one fold of each is chosen."""
    parsed, _ = parse(of_runs, sweep=True)
    keys = {override.key_or_group for override in parsed}
    for override in parsed:
        is_swept = override.key_or_group == FOLDS_KEY and override.is_sweep_override()
        if is_swept and FOLD_KEY not in keys:
            raise UsageError(
                f"{override.input_line}: a sweep over all folds has one number of folds; "
                f"{FOLD_KEY}=0 trains one fold of each"
            )


def axis_of_folds(base: Composed, sampler: Sampler, typed: set[str]) -> list[str]:
    """Return the override that sweeps over all folds, unless no folds or one of them is chosen.

    Raises UsageError if the sampler does not try all values.
    """
    if FOLD_KEY in typed:
        return []
    axis = fold_axis(base.config)
    if axis and not sampler.is_exhaustive:
        raise UsageError(
            f"sweep={base.choices['sweep']} chooses the values of each trial, and {axis[0]} must "
            f"all be tried; search with {FOLD_KEY}=0, then train all folds of the best trial"
        )
    return axis


def base_configuration(own: list[str], of_runs: list[str]) -> Composed:
    """Return a configuration with the settings of the sweep; ConfigError if these are wrong.

    It has the overrides of the runs that are not swept. What is wrong with those is found when
    the configurations of the trials are checked.
    """
    parsed, _ = parse(of_runs, sweep=True)
    fixed = [override.input_line for override in parsed if not override.is_sweep_override()]
    base = compose([*own, *fixed])
    raise_problems([problem for problem in problems_of(base) if is_own(problem[0])])
    return base


def is_own(text: str) -> bool:
    """Tell if a problem's text begins with a key of the sweep's own groups."""
    return text.lstrip("+~\"'").startswith(COMMAND_GROUPS)


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


def restored(folder: Path, plan: SweepPlan, options: Options) -> dict[int, Trial]:
    """Return the trials of a sweep that was begun, and tell the sampler of them.

    Raises UsageError if the configuration files have changed, so that a trial is another one.
    """
    events = read_journal(folder)
    require_same_settings(events[0].get("settings"), plan.settings, folder)
    mend_journal(folder, events)
    trials = trials_of(events, folder)
    for trial in trials.values():
        require_same_trial(trial, folder)
        require_same_plugins(trial, plan, folder)
    plan.sampler.restore([trials[number] for number in sorted(trials)])
    Journal(folder).append("resume", command=options.command)
    done = sum(trial.is_done for trial in trials.values())
    total = plan.sampler.total()
    following = "the others follow" if done < total else "nothing is left to do"
    log.info(f"{folder}: {done} of {total} trials are done; {following}")
    return trials


def require_same_plugins(trial: Trial, plan: SweepPlan, folder: Path) -> None:
    """Raise InputError if a trial names plugins that the command does not: they are code."""
    for override in trial.overrides:
        if key_in(override) == PLUGINS and override not in plan.overrides:
            raise InputError(
                f"{folder}: trial {trial.number} has {override}, which its sweep has not; "
                "the file was changed"
            )


def require_same_trial(trial: Trial, folder: Path) -> None:
    """Raise UsageError if a trial's overrides no longer mean the configuration that they did."""
    if trial.is_done:
        return
    composed = compose(trial.overrides)
    if identity(of_run(composed).public) != trial.identity:
        raise_problems(composed.problems)
        raise UsageError(
            f"{folder}: trial {trial.number} ({' '.join(trial.overrides)}) now has another "
            "configuration than when the sweep began, since a file of options or an environment "
            "variable has changed; undo that, or start a new sweep"
        )


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
    if not interruption(rows):
        options.outcome.update(write_predictions(folder, rows, plan.sampler.swept))
    if coordinator.signal and not interruption(rows):  # it arrived while no job was running
        raise Interrupted(coordinator.signal)
    return rows


def require_finished(rows: list[Row]) -> None:
    """Raise Interrupted or DltrainError unless every trial was trained and tested, or pruned."""
    signal_number = interruption(rows)
    if signal_number:
        raise Interrupted(signal_number)
    unfinished_count = sum(row["status"] not in ENDED for row in rows)
    if unfinished_count:
        raise DltrainError(f"{unfinished_count} of {len(rows)} jobs did not finish")
