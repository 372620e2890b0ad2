"""Differences between a run's saved configuration and the one to continue with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dltrain.config.schema import as_yaml
from dltrain.report.text import table
from dltrain.types import flatten

FUTURE = "changes what follows"
HARMLESS = "harmless"
NO_EFFECT = "no longer has an effect: the weights are there"
HARMLESS_KEYS = (  # and the beginnings of harmless keys
    *("name", "expect", "callbacks.", "checkpoints.", "paths.", "plugins", "resume", "debug"),
    *("dataset.eval_batch_size", "dataset.threads", "dataset.workers", "dataset.timeout"),
    "dataset.memory",
    *("trainer.log_every", "trainer.save_every", "trainer.on_save_error", "trainer.on_oom"),
    *("trainer.max_seconds", "trainer.evaluate_every", "trainer.watch", "trainer.mode"),
    *("trainer.skip_nonfinite", "device.processes", "device.parallel", "device.process_timeout"),
)
BEFORE_TRAINING = ("initialization.", "init.", "lora.alpha")
UNFREEZE = "unfreeze_epoch"
LENGTH = (
    "trainer.epochs",
    "trainer.steps",
    "trainer.stage_steps",
)  # a schedule is planned over these
START = "init.from=RUN begins a new run with the weights that fit"
REFUSED = {
    f"{group}._target_": f"another {group} cannot continue from this one's state; {START}"
    for group in ("optimizer", "task", "model")
}


@dataclass
class Change:
    """A key whose value is not the saved one, and what that means for the run that continues."""

    key: str
    before: Any
    after: Any
    effect: str
    refused: bool = False


def changes(saved: dict[str, Any], config: dict[str, Any]) -> list[Change]:
    """Return what differs between a saved configuration and the one to continue with, by key."""
    before = flatten(saved)
    after = flatten(config)
    plans_ahead = not _is_constant(config["schedule"])
    changed = []
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key):
            continue
        effect = REFUSED.get(key) or _effect(key, plans_ahead)
        change = Change(key, before.get(key), after.get(key), effect, key in REFUSED)
        changed.append(change)
    return changed


def refused_in_stage(changed: list[Change], index: int) -> list[Change]:
    """Return the changes of earlier stages' lengths that come too late in stage `index`."""
    late = []
    for change in changed:
        if change.key == UNFREEZE and index > 0:
            why = (
                f"the layers were unfrozen after epoch {change.before} of this run; leave it as it "
                f"was; {START}"
            )
            late.append(replace(change, effect=why, refused=True))
    return late


def _is_constant(schedule: dict[str, Any]) -> bool:
    """Return True if the learning rate of each update is the same, however many follow."""
    is_constant = str(schedule.get("_target_")).endswith(".Constant")
    return is_constant and not schedule.get("warmup")


def _effect(key: str, plans_ahead: bool) -> str:
    if key.startswith(BEFORE_TRAINING):
        return NO_EFFECT
    if key.startswith(HARMLESS_KEYS):
        return HARMLESS
    if key in LENGTH and not plans_ahead:
        return HARMLESS
    return FUTURE


def described(changed: list[Change]) -> list[str]:
    """Return a heading and a table of the changes; nothing if there are none."""
    if not changed:
        return []
    rows = []
    for change in changed:
        values = f"{as_yaml(change.before)} -> {as_yaml(change.after)}"
        rows.append((change.key, values, change.effect))
    return ["changed", table(rows)]
