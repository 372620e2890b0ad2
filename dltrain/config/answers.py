"""Looks up in habits.py what to type here instead of what other programs have. Imports no torch."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dltrain.config import habits, quoting
from dltrain.config.groups import COMPOSING, groups
from dltrain.config.spelling import close_matches
from dltrain.shell import shell_word

PLACEHOLDER = "{value}"
NOT_COUNTED = ("0", "[]", "null", "none", "false")  # values of a number of GPUs that mean the CPU


@dataclass(frozen=True)
class Answer:
    """Words to type, a note, and the key here where the value stays what it was."""

    words: str
    note: str = ""
    same_value: str | None = None

    @property
    def text(self) -> str:
        """The end of a message, from its semicolon on."""
        if not self.words:
            return f"; {self.note}"
        meant = f"`{self.words}`" if self.words.startswith("dltrain") else self.words
        return f"; did you mean {meant}?{f' ({self.note})' if self.note else ''}"


def answer_for(key: str, value: str, has: Callable[[str], bool]) -> Answer | None:
    """Return what to type instead of key=value; None where no other program is known to have that
    key.

    `has` tells whether a key is one of the configuration. GNU flags come without their dashes.
    """
    name = key.rpartition(".")[2].lower().replace("-", "_")
    top = key.partition(".")[0].lower()
    verb = verb_for(top) is not None and name in _renamed()  # train.batch_size
    if top != name and top in habits.ANSWERS and not has(top) and not verb:  # logger.wandb.offline
        return answer_for(top, "", has)
    if name == "mode" and (command := verb_for(value)):
        return Answer(command)
    for here in _renamed().get(name, ()):
        if has(here):
            return _renamed_to(here, value)
    for group, names in habits.GROUPS.items():
        if name in names.split():
            return _choice(group, name, value)
    if name in habits.ANSWERS:
        return _told(habits.ANSWERS[name], value)
    homes = [habits.HOMES[here] for here in _renamed().get(name, ()) if here in habits.HOMES]
    return _told(homes[0], value) if homes else None


def _told(answer: tuple[str, str], value: str) -> Answer:
    words, note = answer
    return Answer(_filled(words, value), note)


def verb_for(word: str) -> str | None:
    """Return the command that does what another program's verb does."""
    word = word.lower()
    if word in ("train", "check", "evaluate", "predict", "resume"):
        return {"evaluate": "dltrain evaluate RUN", "predict": "dltrain predict RUN INPUT"}.get(
            word, f"dltrain {word}"
        )
    return habits.VERBS.get(word)


def option_for(group: str, name: str) -> str | None:
    """Return the option of `group` that another program calls `name`, or the words to type for it
    (they have a =).
    """
    by_plain = {_plain(option): option for option in groups()[group]}
    plain = _plain(name)
    if plain in by_plain:
        return by_plain[plain]
    for pattern, option in habits.OPTIONS.get(group, {}).items():
        if fnmatchcase(plain, pattern):
            return _filled(option, name)
    last = name.rpartition(".")[2]  # torch.optim.Adam, nn.MSELoss
    return option_for(group, last) if last != name and last else None


def unknown_option(group: str, name: str) -> str:
    """Return what to type instead of an option that does not exist."""
    found = option_for(group, name)
    if found is not None and "=" in found:
        return f"no such {group}; did you mean {found}? (dltrain list {group})"
    close = [found] if found is not None else close_matches(name, groups()[group])[:2]
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"no such {group}{meant} (dltrain list {group})"


def hydra_answer(key: str) -> str:
    """Return what does here what a setting of Hydra's does."""
    refused = "hydra.* is not to be set"
    below = key.replace("/", ".").partition(".")[2]
    for beginning, words in habits.HYDRA.items():
        if below.startswith(beginning):
            return f"{refused}{Answer(words).text}"
    return f"{refused}: a run's folder is paths.output and name, a sweep is -m"


def flag_answer(flag: str, value: str, has: Callable[[str], bool]) -> Answer | None:
    """Return what to type instead of a flag, with the word that follows it as its value."""
    words = habits.FLAGS.get(flag)
    if words is None:
        return answer_for(flag.lstrip("-"), value, has)
    if not words.endswith("="):
        return Answer(words)
    here = words.rstrip("=")
    if not has(here) and here not in groups():
        return answer_for(here, value, has)
    if here in groups():
        return _choice(here, here, value)
    return _renamed_to(here, value)


@functools.cache
def _renamed() -> dict[str, list[str]]:
    """Return the keys here by the names of others."""
    found: dict[str, list[str]] = {}
    for here, names in habits.RENAMED.items():
        for name in names.split():
            found.setdefault(name, []).append(here)
    return found


def _renamed_to(here: str, value: str) -> Answer:
    ours = habits.VALUES.get(here, {}).get(_plain(value), value)
    return Answer(_set(here, ours), "", here if ours == value else None)


def _choice(group: str, name: str, value: str) -> Answer:
    """Return the choice of a group that is called `name` elsewhere."""
    if name in habits.NO_GPU:
        return Answer("device=cuda" if _plain(value) in NOT_COUNTED else "device=cpu")
    if name in habits.GPU_COUNTS:
        return Answer(
            "device=cpu" if _plain(value) in NOT_COUNTED else "device=cuda",
            "a run is on one device",
        )
    if group == "dataset" and value and Path(value).is_dir():
        return Answer(
            f"dataset=image_folder {quoting.text_override('dataset.path', value)}",
            "for images of yours",
        )
    if group in COMPOSING and value.startswith("["):
        names = [option_for(group, part.strip()) for part in value.strip("[]").split(",")]
        if all(one is not None and "=" not in one for one in names):
            return Answer(f"{group}=[{','.join(map(str, names))}]")
    found = option_for(group, value) if value else None
    if found is None:
        return Answer(
            f"{group}={'[NAME]' if group in COMPOSING else 'NAME'}", f"dltrain list {group}"
        )
    if "=" in found:
        return Answer(found)
    return Answer(f"{group}=[{found}]" if group in COMPOSING else f"{group}={found}")


def _filled(words: str, value: str) -> str:
    """Return `words` with the value that was typed."""
    return " ".join(
        _set(word.partition("=")[0], value or "...") if word.endswith(f"={PLACEHOLDER}") else word
        for word in words.split(" ")
    )


def _set(key: str, value: str) -> str:
    """Return key=value as it is typed in a shell; quoted where it could not be read else."""
    if quoting.value_of(f"{key}={value}") is None and value.lower() != "null":
        return quoting.text_override(key, value)
    return shell_word(f"{key}={value}")


def _plain(name: str) -> str:
    """Return a name in lower case without spaces, dots, dashes and underscores."""
    return re.sub(r"[\s._-]+", "", name.strip("'\"").lower())
