"""What a saved configuration and the one to go on with differ in, and what that means for a run that goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dltrain.config.schema import as_yaml
from dltrain.report.text import table
from dltrain.types import flatten

FUTURE = "changes what follows"
HARMLESS = (
    *(
        "name",
        "expect",
        "callbacks.",
        "paths.",
        "plugins",
        "debug",
        "dataset.eval_batch_size",
        "dataset.threads",
    ),
    *(
        "trainer.log_every",
        "trainer.save_every",
        "trainer.on_save_error",
        "trainer.on_oom",
        "trainer.max_seconds",
    ),
    *("trainer.evaluate_every", "trainer.watch", "trainer.mode", "trainer.skip_nonfinite"),
)
NO_EFFECT = ("initialization.", "init.")
LENGTH = ("trainer.epochs", "trainer.steps")  # what a schedule is planned over
START = "init.from=RUN begins a new run with the weights that fit"
REFUSED = {
    "optimizer._target_": f"another optimizer cannot go on from this one's state; {START}",
    "task._target_": f"another task cannot go on from this one's state; {START}",
    "model._target_": f"another model cannot go on from this one's state; {START}",
}


@dataclass
class Change:
    """A key that is not what the run was saved with, and what that means for a run that goes on."""

    key: str
    before: Any
    after: Any
    effect: str
    refused: bool = False


def changes(saved: dict[str, Any], config: dict[str, Any]) -> list[Change]:
    """What differs between a saved configuration and the one to go on with, key by key."""
    before, after = flatten(saved), flatten(config)
    constant = str(config["schedule"].get("_target_")).endswith(".Constant") and not config[
        "schedule"
    ].get("warmup")
    found = []
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key):
            continue
        change = Change(key, before.get(key), after.get(key), FUTURE)
        if key in REFUSED:
            change.effect, change.refused = REFUSED[key], True
        elif key.startswith(NO_EFFECT):
            change.effect = "no effect any more: the weights are there"
        elif key in HARMLESS or key.startswith(HARMLESS) or (key in LENGTH and constant):
            change.effect = "harmless"
        found.append(change)
    return found


def described(changed: list[Change]) -> list[str]:
    """A line a change."""
    if not changed:
        return []
    rows = [(c.key, f"{as_yaml(c.before)} -> {as_yaml(c.after)}", c.effect) for c in changed]
    return ["changed", table(rows)]
