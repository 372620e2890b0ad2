"""Answers for users of other programs: what to type here. The tables are in habits.py."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dltrain.config.groups import COMPOSING, groups, read_option
from dltrain.config.suggestions import habits, quoting
from dltrain.config.suggestions.spelling import close_matches
from dltrain.shell import shell_word

PLACEHOLDER = "{value}"
CPU_VALUES = ("0", "[]", "null", "none", "false")  # values of a number of GPUs that mean the CPU
OWN_VERBS = {
    "train": "dltrain train",
    "check": "dltrain check",
    "evaluate": "dltrain evaluate RUN",
    "predict": "dltrain predict RUN INPUT",
    "resume": "dltrain resume",
}


@dataclass(frozen=True)
class Answer:
    """Words to type, a note, and the key here if the value stays the same."""

    words: str
    note: str = ""
    same_value: str | None = None

    @property
    def text(self) -> str:
        """The end of a message, from its semicolon on."""
        if not self.words:
            return f"; {self.note}"
        meant = f"`{self.words}`" if self.words.startswith("dltrain") else self.words
        question = f"; did you mean {meant}?"
        if self.note:
            return f"{question} ({self.note})"
        return question


@dataclass(frozen=True)
class _Asked:
    """The typed key=value, or a flag without its dashes."""

    key: str
    value: str
    has: Callable[[str], bool]  # tells whether the configuration has a key

    @property
    def name(self) -> str:
        """The last name of the key, as the tables have it."""
        return self.key.rpartition(".")[2].lower().replace("-", "_")

    @property
    def top(self) -> str:
        """The first name of the key."""
        return self.key.partition(".")[0].lower()

    @property
    def own_keys(self) -> list[str]:
        """The keys here that others call by this name."""
        return _renamed().get(self.name, [])


def answer_for(key: str, value: str, has: Callable[[str], bool]) -> Answer | None:
    """Return what to type instead of key=value; None if no other program is known to have the key.

    `has` tells whether the configuration has a key. Flags come without their dashes.
    """
    asked = _Asked(key, value, has)
    for answer_by in ANSWERS_BY:
        answer = answer_by(asked)
        if answer is not None:
            return answer
    return None


def _by_first_name(asked: _Asked) -> Answer | None:
    """Answer for a key whose first name has an answer, such as logger.wandb.offline."""
    top = asked.top
    is_verb = verb_for(top) is not None and bool(asked.own_keys)  # train.batch_size
    if top == asked.name or is_verb or top not in habits.ANSWERS or asked.has(top):
        return None
    return answer_for(top, "", asked.has)


def _by_mode(asked: _Asked) -> Answer | None:
    """Answer for mode=train, which is a verb here."""
    command: str | None = None
    if asked.name == "mode":
        command = verb_for(asked.value)
    if command is None:
        return None
    return Answer(command)


def _by_own_key(asked: _Asked) -> Answer | None:
    """Answer with the key that the configuration has for it."""
    for own_key in asked.own_keys:
        if asked.has(own_key):
            return _renamed_to(own_key, asked.value)
    return None


def _by_group(asked: _Asked) -> Answer | None:
    """Answer with a choice of a group."""
    for group, names in habits.GROUPS.items():
        if asked.name in names.split():
            return _choice(group, asked.name, asked.value)
    return None


def _by_value(asked: _Asked) -> Answer | None:
    """Answer by the value too, such as for train=false."""
    answers = habits.BY_VALUE.get(asked.name, {})
    plain = _plain(asked.value)
    if plain in answers:
        return _from_table(answers[plain], asked.value)
    if asked.name in habits.OFF_UNLESS_CHOSEN.split() and plain in CPU_VALUES:
        return Answer("", "it is off by default: leave it out")
    return None


def _by_sweep_key(asked: _Asked) -> Answer | None:
    """Answer for a setting of sweeps, such as launcher.n_jobs, which alone would mean threads."""
    if "." not in asked.key:
        return None
    meant = [
        own_key
        for own_key, names in habits.SWEEP_KEYS.items()
        if own_key.partition(".")[0] == asked.top and asked.name in names.split()
    ]
    for own_key in meant:
        if asked.has(own_key):
            return _renamed_to(own_key, asked.value)
    for own_key in meant:
        if own_key in habits.SWEEP_WORDS:
            return Answer(_filled(habits.SWEEP_WORDS[own_key], asked.value))
    return None


def _by_parent(asked: _Asked) -> Answer | None:
    """Answer for a key below a node that is a group here, such as model.scheduler.factor."""
    for parent, group in habits.PARENTS.items():
        if asked.key.startswith(parent):
            return _below_group(f"{group}.{asked.key.removeprefix(parent)}", asked)
    return None


def _below_group(key: str, asked: _Asked) -> Answer | None:
    """Answer with a key of a group here, and with the option that has it if it is not chosen."""
    if asked.has(key):
        return _renamed_to(key, asked.value)
    choice = _choice_with(key)
    if choice is None:
        return None
    return Answer(f"{choice} {_override(key, asked.value or '...')}")


def _choice_with(key: str) -> str | None:
    """Return GROUP=OPTION for the first option whose file has a key."""
    group, _, name = key.partition(".")
    for option in groups()[group]:
        if name in read_option(group, option):
            return f"{group}={option}"
    return None


def _by_table(asked: _Asked) -> Answer | None:
    """Answer with other words, also for a key that this configuration does not have."""
    if asked.name in habits.ANSWERS:
        return _from_table(habits.ANSWERS[asked.name], asked.value)
    for own_key in asked.own_keys:
        if own_key in habits.HOMES:
            return _from_table(habits.HOMES[own_key], asked.value)
    return None


ANSWERS_BY = (  # the first one counts
    _by_sweep_key,
    _by_parent,
    _by_first_name,
    _by_mode,
    _by_value,
    _by_own_key,
    _by_group,
    _by_table,
)


def _from_table(answer: tuple[str, str], value: str) -> Answer:
    words, note = answer
    return Answer(_filled(words, value), note)


def verb_for(word: str) -> str | None:
    """Return the command that does what another program's verb does."""
    word = word.lower()
    return OWN_VERBS.get(word) or habits.VERBS.get(word)


def command_for(word: str, following: Sequence[str] = ()) -> str | None:
    """Return the command for another program's verb, or for its name and the verb after it.

    For `yolo detect predict ...` that is the command for `predict`.
    """
    if word.lower() in habits.PROGRAMS:
        for other in following:
            command = habits.PROGRAM_VERBS.get(other.lower())
            if command is not None:
                return command
    return verb_for(word)


def option_for(group: str, name: str) -> str | None:
    """Return the option of `group` that another program calls `name`.

    Where it takes other settings, the words to type are returned; they have a = in them.
    """
    by_plain_name = {_plain(option): option for option in groups()[group]}
    plain = _plain(name)
    if plain in by_plain_name:
        return by_plain_name[plain]
    for pattern, option in habits.OPTIONS.get(group, {}).items():
        if fnmatchcase(plain, pattern):
            return _filled(option, name)
    last_name = name.rpartition(".")[2]  # torch.optim.Adam, nn.MSELoss
    if not last_name or last_name == name:
        return None
    return option_for(group, last_name)


def unknown_option(group: str, name: str) -> str:
    """Return what to type instead of an option that does not exist."""
    meant = option_for(group, name)
    if meant is not None and "=" in meant:
        return f"no such {group}; did you mean {meant}? (dltrain list {group})"
    close = [meant] if meant is not None else close_matches(name, groups()[group])[:2]
    question = ""
    if close:
        question = f"; did you mean {' or '.join(close)}?"
    return f"no such {group}{question} (dltrain list {group})"


def hydra_answer(key: str) -> str:
    """Return what to type for a setting of Hydra's own."""
    refused = "hydra.* cannot be set"
    below = key.replace("/", ".").partition(".")[2]
    for begin, words in habits.HYDRA.items():
        if below.startswith(begin):
            return f"{refused}{Answer(_filled(words, '')).text}"
    return f"{refused}: a run's folder is paths.output and name, a sweep is -m"


def flag_answer(flag: str, value: str, has: Callable[[str], bool]) -> Answer | None:
    """Return what to type instead of a flag; `value` is the word that follows it."""
    words = habits.FLAGS.get(flag)
    if words is None:
        return answer_for(flag.lstrip("-"), value, has)
    if not words.endswith("="):
        return Answer(_filled(words, value))
    own_key = words.rstrip("=")
    if own_key in groups():
        return _choice(own_key, own_key, value)
    if has(own_key):
        return _renamed_to(own_key, value)
    return answer_for(own_key, value, has)


@functools.cache
def _renamed() -> dict[str, list[str]]:
    """Return the keys here by the names that other programs have for them."""
    by_name: dict[str, list[str]] = {}
    for own_key, names in habits.RENAMED.items():
        for name in names.split():
            by_name.setdefault(name, []).append(own_key)
    return by_name


def _renamed_to(own_key: str, value: str) -> Answer:
    own_value = habits.VALUES.get(own_key, {}).get(_plain(value), value)
    same_value: str | None = None
    if own_value == value:
        same_value = own_key
    return Answer(_override(own_key, own_value), "", same_value)


def _choice(group: str, name: str, value: str) -> Answer:
    """Return the choice of a group that another program calls `name`."""
    special = _device_choice(name, value) or _folder_choice(group, value)
    if special is not None:
        return special
    options = _all_options(group, value)
    if options:
        return Answer(shell_word(f"{group}=[{','.join(options)}]"))
    option: str | None = None
    if value:
        option = option_for(group, value)
    if option is None:
        return Answer(_choosing(group, "NAME"), f"dltrain list {group}")
    return Answer(option if "=" in option else _choosing(group, option))


def _device_choice(name: str, value: str) -> Answer | None:
    """Return the device that is meant by a number of GPUs, or by no GPU."""
    on_cpu = _plain(value) in CPU_VALUES
    if name in habits.NO_GPU:
        return Answer("device=cuda" if on_cpu else "device=cpu")
    if name in habits.GPU_COUNTS:
        return Answer("device=cpu" if on_cpu else "device=cuda", "a run is on one device")
    return None


def _folder_choice(group: str, value: str) -> Answer | None:
    """Return the dataset that reads a folder that exists."""
    if group != "dataset" or not value or not Path(value).is_dir():
        return None
    path = quoting.text_override("dataset.path", value)
    return Answer(f"dataset=image_folder {path}", "for your own images")


def _all_options(group: str, value: str) -> list[str]:
    """Return the options that are meant by a list, [A,B].

    It is empty if one of them is not known, or the group takes one option.
    """
    if group not in COMPOSING or not value.startswith("["):
        return []
    options = []
    for name in value.strip("[]").split(","):
        option = option_for(group, name.strip())
        if option is None or "=" in option:
            return []
        options.append(option)
    return options


def _choosing(group: str, option: str) -> str:
    if group in COMPOSING:
        return shell_word(f"{group}=[{option}]")
    return f"{group}={option}"


def _filled(words: str, value: str) -> str:
    """Return `words` with the value that was typed in the place of the placeholder."""
    filled = []
    for word in words.split():
        key, _, placeholder = word.partition("=")
        filled.append(
            _override(key, value or "...") if placeholder == PLACEHOLDER else shell_word(word)
        )
    return " ".join(filled)


def _override(key: str, value: str) -> str:
    """Return key=value as it is typed in a shell, with quotes if it cannot be read without."""
    if quoting.value_of(f"{key}={value}") is None and value.lower() != "null":
        return quoting.text_override(key, value)
    return shell_word(f"{key}={value}")


def _plain(name: str) -> str:
    """Return a name in lower case without spaces, dots, dashes and underscores."""
    return re.sub(r"[\s._-]+", "", name.strip("'\"").lower())
