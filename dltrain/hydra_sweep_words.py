"""Hydra's launchers and sweepers and their settings, in the words of `launcher` and `sweep`.

Only those of the plugins that the Hydra project ships are known. Nothing of them runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LAUNCHER = "hydra/launcher"
SWEEPER = "hydra/sweeper"
SAMPLER = "hydra/sweeper/sampler"
PARAMS = "hydra.sweeper.params"
DIRECTION = "hydra.sweeper.direction"

LAUNCHERS: dict[str, list[str]] = {
    "basic": ["launcher=inline"],
    "joblib": ["launcher=local"],
    "submitit_local": ["launcher=submitit", "launcher.cluster=local"],
    "submitit_slurm": ["launcher=submitit", "launcher.cluster=slurm"],
    "ray": ["launcher=ray"],
}
SAMPLERS = {"tpe": "tpe", "motpe": "tpe", "random": "random", "cmaes": "cmaes", "grid": "grid"}

# The same settings here; of Joblib, submitit, Ray and Optuna.
SETTINGS = {
    "hydra.launcher.n_jobs": "launcher.jobs",
    "hydra.launcher.timeout": "launcher.timeout",
    "hydra.launcher.timeout_min": "launcher.time",
    "hydra.launcher.signal_delay_s": "launcher.grace",
    "hydra.launcher.max_num_timeout": "launcher.requeues",
    "hydra.launcher.array_parallelism": "launcher.jobs",
    "hydra.launcher.gpus_per_node": "launcher.gpus",
    "hydra.launcher.cpus_per_task": "launcher.cpus",
    "hydra.launcher.mem_gb": "launcher.memory",
    "hydra.launcher.partition": "launcher.partition",
    "hydra.launcher.account": "launcher.account",
    "hydra.launcher.qos": "launcher.qos",
    "hydra.launcher.constraint": "launcher.constraint",
    "hydra.launcher.comment": "launcher.comment",
    "hydra.launcher.ray.init.address": "launcher.address",
    "hydra.launcher.ray.remote.num_cpus": "launcher.cpus",
    "hydra.launcher.ray.remote.num_gpus": "launcher.gpus",
    "hydra.sweeper.n_trials": "sweep.trials",
    "hydra.sweeper.n_jobs": "launcher.jobs",
    "hydra.sweeper.max_batch_size": "launcher.jobs",
    "hydra.sweeper.sampler.seed": "sweep.seed",
    "hydra.sweeper.sampler.n_startup_trials": "sweep.random_trials",
    PARAMS: "sweep.space",
}
MODES = {"minimize": "min", "maximize": "max"}
WITH_COUNT_OF_CORES = ("launcher.jobs",)  # keys whose value may be -1: one job for each core


def translated_sweep(words: Sequence[str]) -> list[str]:
    """Return overrides with those of Hydra's launchers and sweepers in the words of dltrain.

    What has no counterpart stays as it is, and is refused later.
    """
    has_sampler = any(key_of(word) == SAMPLER for word in words)
    translated = []
    for word in words:
        if has_sampler and word == f"{SWEEPER}=optuna":  # a sampler says more
            continue
        translated += translated_word(word)
    return translated


def key_of(word: str) -> str:
    """Return the key of an override, without + signs."""
    return word.partition("=")[0].lstrip("+")


def translated_word(word: str) -> list[str]:
    """Return what an override means here; itself if it is not one of Hydra's."""
    key = key_of(word)
    value = word.partition("=")[2]
    if key == LAUNCHER:
        return LAUNCHERS.get(value, [word])
    if key == SWEEPER and value == "optuna":
        return ["sweep=tpe"]
    if key == SAMPLER and value in SAMPLERS:
        return [f"sweep={SAMPLERS[value]}"]
    if key == DIRECTION:
        return [f"sweep.mode={modes(value)}"]
    if key in SETTINGS:
        return [f"{SETTINGS[key]}={own_value(SETTINGS[key], value)}"]
    if key.startswith(f"{PARAMS}."):
        return [f"{key.removeprefix(PARAMS + '.')}={value}"]
    return [word]


def modes(value: str) -> str:
    """Return a direction, or a list of them, as max and min."""
    return re.sub(r"\w+", lambda name: MODES.get(name[0], name[0]), value)


def own_value(key: str, value: str) -> str:
    """Return the value of a key; of Joblib's counts, -1 is all cores and -2 all but one."""
    if key not in WITH_COUNT_OF_CORES or not re.fullmatch(r"-\d+", value):
        return value
    from dltrain.sweeps.launchers.slots import cores

    return str(max(1, cores() + 1 + int(value)))
