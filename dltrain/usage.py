"""The help text, and messages that say what to type instead of an unknown verb or flag."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dltrain import __version__
from dltrain.config.groups import groups
from dltrain.config.suggestions.habits import VERBS as VERBS_ELSEWHERE
from dltrain.config.suggestions.other_programs import (
    Answer,
    answer_for,
    command_for,
    flag_answer,
    option_for,
)
from dltrain.config.suggestions.spelling import close_matches
from dltrain.config.suggestions.suggest import common_keys, default_keys
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.report.text import table
from dltrain.shell import shell_word
from dltrain.verb_pages import GRID, print_page
from dltrain.verbs import FLAGS, MULTIRUN, VERBS

log = logging.getLogger("dltrain")
MAX_LISTED_CHARS = 100  # of a group's options in the help text
MOVED_BY_SUFFIX = {  # of --out: the words that replace `predict`
    ".vec": ["export", "--format", "word2vec"],
    ".safetensors": ["export", "--format", "safetensors"],
    ".gif": ["rollout"],
}
HELP = """\
dltrain {version}: deep-learning experiments from YAML, all on one engine

{verbs}

examples
  dltrain                                            the default: a small CNN on handwritten digits
  dltrain model=cnn dataset=mnist                    choose by GROUP=OPTION
  dltrain trainer.epochs=10 optimizer.lr=3e-3        set by KEY=VALUE
  dltrain "regularization=[l2,dropout]" schedule=onecycle
  dltrain experiment=lenet5_mnist                    a measured experiment, with its target figures
  dltrain -m model=cnn,lenet5 optimizer.lr=1e-3,1e-2
  dltrain debug=smoke                                two steps a stage, fake data; or overfit

groups (dltrain list GROUP)
{groups}

flags: --json (the outcome as JSON, the only text on standard output)  --debug (tracebacks)
       --config-dir DIR (your own options: DIR/model/mine.yaml is model=mine)
       --version  --help  -- (what follows is not a flag)
RUN is a run folder, a unique part of its name, `last`, or `last-any` (debug runs count too)
exit codes: 0 done, 1 failure, 2 usage, configuration or your own code, 3 input file,
            4 diverged, 5 not reproduced, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM

next: dltrain check model=cnn dataset=mnist        dltrain help predict"""


def print_version(options: Options) -> None:
    """Print the version of dltrain."""
    log.info(f"dltrain {__version__}")
    options.outcome["version"] = __version__


def print_help(options: Options) -> None:
    """Print the page of the verb that is named, or all verbs, examples, groups and flags.

    Raises UsageError for a name that is not a verb.
    """
    if options.names:
        print_page(verb_named(options.names[0]), options)
        return
    first, *others = VERBS.values()
    verbs = [(f"dltrain {verb.usage}", verb.help) for verb in (first, MULTIRUN, *others)]
    rows = [(group, listed(options)) for group, options in groups().items() if options]
    log.info(HELP.format(version=__version__, verbs=table(verbs), groups=table(rows)))
    options.outcome |= {"commands": dict(verbs), "groups": groups()}


def verb_named(name: str) -> str:
    """Return the name of a page. Raises UsageError with what to type for one that has none."""
    if name in (*VERBS, GRID):
        return name
    if name in groups():
        raise UsageError(f"{name} is a group, not a command: dltrain list {name}")
    if name in default_keys():
        raise UsageError(f"{name} is a key, not a command: dltrain show {name}")
    raise UsageError(unknown_verb(name))


def listed(options: list[str]) -> str:
    """Return options in a line, the first ones if there are very many."""
    line = ", ".join(options)
    if len(line) <= MAX_LISTED_CHARS:
        return line
    return line[:MAX_LISTED_CHARS].rpartition(",")[0] + ", ..."


def unknown_verb(name: str, following: Sequence[str] = ()) -> str:
    """Return what to type instead of a first word that is not a verb.

    `following` are the words after it: its value, as in `optimizer.lr 0.01`, or the verb after the
    name of a program.
    """
    problem = f"{name} is not a command"
    command = command_for(name, following)
    if command is not None:
        return f"{problem}; did you mean `{command}`?"
    value = following[0] if following else ""
    hint = _setting_without_equals(name, value)
    if hint is not None:
        return f"{problem}; {hint}"
    for suggest in (_data_file, _setting_with_colon, _option, _similar_verb):
        hint = suggest(name)
        if hint is not None:
            return f"{problem}; {hint}"
    return f"{problem} ({', '.join(VERBS)}); settings are KEY=VALUE (dltrain --help)"


def _setting_without_equals(name: str, value: str) -> str | None:
    """Suggest the setting for a key or a group with its value after a space."""
    if not value or "=" in value or value.startswith("-"):
        return None
    words = _meant_setting(name, value)
    if "=" not in words:
        return None
    return f"settings are KEY=VALUE; did you mean {words}?"


def _meant_setting(name: str, value: str) -> str:
    """Return the setting of a key here, or of another program's; empty for other names."""
    if name in default_keys():
        return shell_word(f"{name}={value}")
    answer = answer_for(name, value, default_keys().__contains__)
    if answer is None:
        return ""
    return answer.words


def _data_file(name: str) -> str | None:
    """Suggest the data set for a file, such as data.csv."""
    dataset = option_for("dataset", name)
    if not dataset or "=" not in dataset:
        return None
    return f"did you mean {dataset}?"


def _setting_with_colon(name: str) -> str | None:
    """Suggest the setting for a word such as epochs:10."""
    key, _, value = name.partition(":")
    answer = answer_for(key, value, default_keys().__contains__)
    if answer is None:
        return None
    return f"settings are KEY=VALUE{text_of(answer, value)}"


def _option(name: str) -> str | None:
    """Suggest GROUP=OPTION for the name of an option."""
    for group in ("experiment", "dataset", "model"):
        if name in groups()[group]:
            return f"did you mean {group}={name}?"
    return None


def _similar_verb(name: str) -> str | None:
    """Suggest the command for a misspelled verb."""
    own_verbs = {verb: f"dltrain {verb}" for verb in VERBS}
    for commands in (own_verbs, VERBS_ELSEWHERE):
        close = close_matches(name, commands)
        if close and commands[close[0]] != "dltrain":
            return f"did you mean `{commands[close[0]]}`?"
    return None


def text_of(answer: Answer, value: str) -> str:
    """Return the end of a message from an answer, with dots for a value that was not typed."""
    if value or not answer.words.endswith("="):
        return answer.text
    return f"; did you mean {answer.words}...?"


def unknown_flag(typed: str, following: list[str]) -> str:
    """Return what to type instead of a flag that does not exist, such as `--epochs 5`.

    `following` is the word after it, if any, which may be its value.
    """
    problem = f"no such flag: {typed}"
    flag, value = _flag_and_value(typed, following)
    if flag in ("-v", "-V"):
        return f"{problem}; did you mean --version?"
    settings = f"{problem}; settings are KEY=VALUE without dashes"
    answer = flag_answer(flag, value, default_keys().__contains__)
    if answer is not None:
        return f"{settings}{text_of(answer, value)}"
    keys = keys_called(flag)
    similar_flag = _similar_flag(flag)
    if not keys and similar_flag is not None:
        return f"{problem}; did you mean {similar_flag}?"
    keys = keys or keys_like(flag)
    if not keys:
        return settings
    dots = "" if value else "..."
    return f"{settings}; did you mean {shell_word(f'{keys[0]}={value}')}{dots}?"


def _flag_and_value(typed: str, following: list[str]) -> tuple[str, str]:
    """Return a flag and its value: after its =, or the following word if that can be one."""
    flag, _, value = typed.partition("=")
    if value or not following:
        return flag, value
    word = following[0]
    if "=" in word or word.startswith("-"):
        return flag, ""
    return flag, word


def _similar_flag(flag: str) -> str | None:
    by_name = {known.lstrip("-"): known for known in FLAGS}  # one dash is as good as two
    close = close_matches(flag.lstrip("-"), by_name)
    if not close:
        return None
    return by_name[close[0]]


def _as_key(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def keys_called(flag: str) -> list[str]:
    """Return the keys whose last part is the flag's name, the shortest first."""
    name = _as_key(flag)
    return sorted((key for key in default_keys() if key.rpartition(".")[2] == name), key=len)


def keys_like(flag: str) -> list[str]:
    """Return common keys whose last part is similar to the flag's name."""
    by_name = {key.rpartition(".")[2]: key for key in reversed(common_keys())}
    return [by_name[best] for best in close_matches(_as_key(flag), by_name)]


def moved_command(options: Options) -> str | None:
    """Return the command for what `dltrain predict` once did with these flags; None for others.

    Generating images and texts, exporting word vectors and rolling out episodes are now commands.
    """
    words = MOVED_BY_SUFFIX.get(Path(options.out or "").suffix)
    if options.samples is not None or options.tokens is not None:
        words = ["generate"]
    if words is None:
        return None
    where = options.argv.index("predict")
    argv = [*options.argv[:where], *words, *options.argv[where + 1 :]]
    return " ".join(map(shell_word, ["dltrain", *argv]))


def do_nothing(options: Options) -> None:
    """Do nothing: the first of several processes does what was asked for."""
