"""Settings of Hydra itself that mean the same here: the folder and the name of a run, tracebacks.

Those of launchers and sweepers are in hydra_sweep_words.py. The others are refused with what to
type instead (config/suggestions/habits.py). Nothing of Hydra itself runs: a folder is taken from
the command line only, as plain text.
"""

from __future__ import annotations

import re

from dltrain.hydra_sweep_words import translated_sweep
from dltrain.options import Options

PLAIN_VALUE = re.compile(r"[^'\"$\\{}\[\](),]+")  # a text without interpolations and quotes
VERBOSE = {"true": True, "True": True, "false": False, "False": False}
AS_ALWAYS = ("hydra/sweeper=basic", "hydra.mode=RUN")
BASIC_LAUNCHER = "hydra/launcher=basic"  # of a single run, too: it changes nothing there
MULTIRUN = "-m"
FOLDER_OF = {"train": "hydra.run.dir", MULTIRUN: "hydra.sweep.dir"}  # by verb
COMPOSING_VERBS = ("train", MULTIRUN, "check", "config")


def translate(verb: str, options: Options) -> None:
    """Take the settings of Hydra that mean the same here out of `options.overrides`.

    The folder becomes `options.folder`, the job's name the run's, and verbose --debug. Launchers
    and sweepers become choices of the groups `launcher` and `sweep`.
    """
    if verb not in COMPOSING_VERBS:
        return
    words = []
    for word in options.overrides:
        words += translated(word, verb, options)
    options.overrides = translated_sweep(words)


def translated(word: str, verb: str, options: Options) -> list[str]:
    """Return the override that is meant, if any; a folder and verbose are set in `options`."""
    key, _, value = word.partition("=")
    if word in AS_ALWAYS or (word == BASIC_LAUNCHER and verb != MULTIRUN):
        return []
    if key == FOLDER_OF.get(verb) and PLAIN_VALUE.fullmatch(value):
        options.folder = value
        return []
    if key == "hydra.verbose" and value in VERBOSE:
        options.debug |= VERBOSE[value]
        return []
    if key == "hydra.job.name" and value:
        return [f"name={value}"]
    return [word]
