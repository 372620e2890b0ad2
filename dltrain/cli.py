"""The command line: verbs, flags, exit codes. It imports no torch; a verb's module is imported when it runs."""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from dltrain import __version__
from dltrain.commands.options import Options
from dltrain.config.answers import Answer, answer_for, flag_answer, option_for, verb_for
from dltrain.config.groups import config_dir, groups
from dltrain.config.habits import VERBS as VERBS_ELSEWHERE
from dltrain.config.quoting import exists
from dltrain.config.spelling import close_matches
from dltrain.config.suggest import common_keys, default_keys
from dltrain.console import open_closed_descriptors, safe_streams
from dltrain.errors import DltrainError, Interrupted, StoppedBySignal, UsageError, ending_signals
from dltrain.files import to_json
from dltrain.report.text import screen_width, wrap
from dltrain.shell import shell_word

log = logging.getLogger("dltrain")


@dataclass(frozen=True)
class Verb:
    """What a first bare word calls, and how its help line reads.

    `names`: how many more bare words it takes. `files`: they may be names of files, which may look like settings.
    `keeps`: its result lies in files, so it succeeds where standard output cannot be written.
    """

    module: str
    function: str
    usage: str
    help: str
    names: int = 0
    files: bool = False
    keeps: bool = False


MANY = sys.maxsize
WAITING = {  # of GNU's OpenMP (turns of a loop), LLVM's and Intel's (milliseconds)
    "GOMP_SPINCOUNT": "3000",
    "KMP_BLOCKTIME": "1",
}
VERBS = {
    "train": Verb(
        "train", "train", "[train] [overrides]", "train, then test the best checkpoint", keeps=True
    ),
    "check": Verb(
        "check", "check", "check [overrides]", "every problem at once; layers, FLOPs, memory, time"
    ),
    "list": Verb("list", "list_", "list [group]", "what can be chosen, a line each", MANY),
    "show": Verb(
        "show",
        "show",
        "show KEY|GROUP/OPTION",
        "a key's value, type, range and where it was set",
        MANY,
    ),
    "evaluate": Verb(
        "evaluate", "evaluate", "evaluate RUN [split=test]", "score a run's best checkpoint", 1
    ),
    "predict": Verb(
        "predict",
        "predict",
        "predict RUN INPUT...",
        "answers for files, folders, globs",
        MANY,
        True,
    ),
    "resume": Verb(
        "resume",
        "resume",
        "resume RUN [overrides]",
        "go on, or train longer (trainer.epochs=20)",
        1,
        keeps=True,
    ),
    "completion": Verb(
        "completion",
        "completion",
        "completion bash|zsh|fish",
        "a script that completes with TAB",
        1,
    ),
}
HIDDEN = {
    "__complete": Verb("completion", "complete", "", "", MANY, True)
}  # what that script calls
MULTIRUN = Verb(
    "multirun",
    "multirun",
    "-m [overrides]",
    "a grid of runs: values separated by commas",
    keeps=True,
)
FLAGS = {
    "--help": "help",
    "-h": "help",
    "--version": "version",
    "--json": "json",
    "--debug": "debug",
}
FLAGS |= {"-m": "multirun", "--multirun": "multirun", "--plot": "plot", "--fork": "fork"}
FLAGS |= {"--explain": "explain", "--data": "data"}
VALUED = {
    "--config-dir": "config_dir",
    "--out": "out",
    "--images": "images",
    "--samples": "samples",
    "--tokens": "tokens",
}  # flags that take a value
EXAMPLES = {
    "--config-dir": "FOLDER",
    "--out": "FILE.csv",
    "--images": "FILE.png",
    "--samples": "64",
    "--tokens": "200",
}
OWN_FLAGS = {  # of one verb, with what they do there
    "plot": ("check", "--plot draws the learning rate of `dltrain check`"),
    "data": ("check", "--data reads the data set of `dltrain check` as training would"),
    "images": (
        "check",
        "--images is the file into which `dltrain check` draws a batch as the network sees it",
    ),
    "explain": ("predict", "--explain draws why `dltrain predict` answers as it does"),
    "out": ("predict", "--out is the file that `dltrain predict` writes"),
    "samples": ("predict", "--samples is how many images `dltrain predict` lets a generator draw"),
    "tokens": (
        "predict",
        "--tokens is how many tokens `dltrain predict RUN TEXT` lets a language model write",
    ),
    "fork": ("resume", "--fork goes on from a run in a new one (dltrain resume RUN --fork)"),
}


def help_text() -> str:
    from dltrain.report.text import table

    verbs = [
        (f"dltrain {verb.usage}", verb.help)
        for verb in (VERBS["train"], MULTIRUN, *list(VERBS.values())[1:])
    ]
    choices = [(group, ", ".join(options)) for group, options in groups().items() if options]
    width = 100
    lines = [
        (g, o if len(o) <= width else o[:width].rpartition(",")[0] + ", ...") for g, o in choices
    ]
    return f"""dltrain {__version__}: deep-learning experiments from YAML, all on one engine

{table(verbs)}

examples
  dltrain                                            the default: a small CNN on handwritten digits, in seconds
  dltrain model=cnn dataset=mnist                    choose by GROUP=OPTION
  dltrain trainer.epochs=10 optimizer.lr=3e-3        set by KEY=VALUE
  dltrain regularization=[l2,dropout] schedule=onecycle
  dltrain experiment=lenet5_mnist                    a measured experiment, with what it must reach
  dltrain -m model=cnn,lenet5 optimizer.lr=1e-3,1e-2
  dltrain debug=smoke                                two steps on fake data; also overfit, profile

groups (dltrain list GROUP)
{table(lines)}

flags: --json (outcome as a last line of JSON)  --debug (tracebacks)  --plot (check: learning rate)  --version  --help
       --config-dir DIR (options of yours: DIR/model/mine.yaml is model=mine)
       --out FILE.csv|FILE.jsonl (predict)  --samples N (predict: a generator's images)
       --tokens N (predict: what follows a text)
       --explain (predict: why, as pictures)  --images FILE.png (check: a batch as the network sees it)
       --data (check: read the data as training would, and report what is in it)
       --fork (resume: in a new run)  -- (what follows is no flag)
RUN is a run folder, a unique part of its name, or `last`
exit codes: 0 done, 1 failure, 2 usage or configuration, 3 input file, 4 diverged, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM

next: dltrain check model=cnn dataset=mnist"""


def parse(argv: list[str]) -> tuple[Verb | None, Options, set[str]]:
    """The verb, its words, and the flags; UsageError for what is none of them, with what to type instead."""
    options, flags, words, rest = Options(argv=argv), set(), [], []
    left = iter(enumerate(argv))
    for i, word in left:
        flag, _, value = word.partition("=")
        if word in FLAGS:
            flags.add(FLAGS[word])
        elif flag in VALUED:
            value = value or next((following for _, following in left), "")
            if not value:
                raise UsageError(f"{flag} needs a value: {flag} {EXAMPLES[flag]}")
            setattr(options, VALUED[flag], value)
            flags.add(VALUED[flag])
        elif word == "--":
            rest = [following for _, following in left]
        elif word.startswith("-"):
            raise UsageError(_as_override(word, argv[i + 1 : i + 2]))
        else:
            words.append(word)
    options.json, options.debug, options.multirun = (
        "json" in flags,
        "debug" in flags,
        "multirun" in flags,
    )
    options.plot, options.fork, options.explain = (
        "plot" in flags,
        "fork" in flags,
        "explain" in flags,
    )
    options.data = "data" in flags
    verb: Verb | None = VERBS["train"]
    if words and "=" not in words[0] and not words[0].startswith(("~", "+")):
        name = words.pop(0)
        if name not in VERBS | HIDDEN and "help" not in flags:
            raise UsageError(_unknown_verb(name))
        verb = (VERBS | HIDDEN).get(name)
    if verb and verb.files:
        options.names = [*(word for word in words if not _is_setting(word)), *rest]
        options.overrides = [word for word in words if _is_setting(word)]
    else:
        words += rest
        while verb and len(options.names) < verb.names and words and _is_name(words[0]):
            options.names.append(words.pop(0))
        options.overrides = words
    refuse_late_verb(options.overrides)
    if options.multirun and verb is not VERBS["train"]:
        raise UsageError("-m runs a grid of trainings; it goes with no other verb")
    for flag, (name, what) in OWN_FLAGS.items():
        if flag in flags and "help" not in flags and verb is not VERBS[name]:
            raise UsageError(f"{what}; it goes with no other verb")
    return MULTIRUN if options.multirun else verb, options, flags


def refuse_late_verb(overrides: list[str]) -> None:
    """Raise UsageError for a verb among the settings: it would be read as one of them."""
    for word in overrides:
        if word in VERBS:
            raise UsageError(f"{word} is a verb, and comes first: dltrain {word} ...")


def _is_setting(word: str) -> bool:
    """Tell whether a word among names is a setting: it looks like one, and there is no file of that
    name.
    """
    looks_like_one = re.fullmatch(r"(\+{0,2}|~)[\w.]+=.*|~[\w.]+", word, re.DOTALL) is not None
    return looks_like_one and not exists(word)


def _is_name(word: str) -> bool:
    """Tell whether a word after a verb is a name (RUN, KEY, GROUP): it has no =, or there is a file
    of that name.
    """
    return "=" not in word or exists(word)


def _unknown_verb(name: str) -> str:
    """Return what to type instead of a first word that is no verb."""
    command = verb_for(name)
    if command is not None:
        return f"{name} is not a verb; did you mean `{command}`?"
    if (data := option_for("dataset", name)) and "=" in data:  # data.csv
        return f"{name} is not a verb; did you mean {data}?"
    key, _, value = name.partition(":")
    if answer := answer_for(key, value, default_keys().__contains__):  # epochs:10
        return f"{name} is not a verb; settings are KEY=VALUE{_text_of(answer, value)}"
    for group in ("experiment", "dataset", "model"):
        if name in groups()[group]:
            return f"{name} is not a verb; did you mean {group}={name}?"
    if close := close_matches(name, VERBS):
        return f"{name} is not a verb; did you mean `dltrain {close[0]}`?"
    if close := close_matches(name, VERBS_ELSEWHERE):
        return f"{name} is not a verb; did you mean `{VERBS_ELSEWHERE[close[0]]}`?"
    return f"{name} is not a verb ({', '.join(VERBS)}); settings are KEY=VALUE (dltrain --help)"


def _text_of(answer: Answer, value: str) -> str:
    """Return the end of a message from an answer, with dots for a value that was not typed."""
    return (
        answer.text
        if value or not answer.words.endswith("=")
        else f"; did you mean {answer.words}...?"
    )


def _as_override(flag: str, following: list[str]) -> str:
    """Return what to type instead of `--epochs 5`."""
    if flag in ("-v", "-V"):
        return f"no such flag: {flag}; did you mean --version?"
    dashed, _, value = flag.partition("=")
    value = value or next(
        (word for word in following if not word.startswith("-") and "=" not in word), ""
    )
    known = default_keys()
    answer = flag_answer(dashed, value, known.__contains__)
    if answer is not None:
        return (
            f"no such flag: {flag}; settings are KEY=VALUE without dashes{_text_of(answer, value)}"
        )
    name = dashed.lstrip("-").replace("-", "_")
    close = sorted((key for key in known if name == key.rpartition(".")[2]), key=len)
    bare = {
        known_flag.lstrip("-"): known_flag for known_flag in FLAGS | VALUED
    }  # all dashes are alike
    if not close and (flags := close_matches(dashed.lstrip("-"), bare)):
        return f"no such flag: {flag}; did you mean {bare[flags[0]]}?"
    by_name = {key.rpartition(".")[2]: key for key in reversed(common_keys())}
    close += [by_name[best] for best in close_matches(name, by_name)]
    meant = (
        f"; did you mean {shell_word(f'{close[0]}={value}')}{'' if value else '...'}?"
        if close
        else ""
    )
    return f"no such flag: {flag}; settings are KEY=VALUE without dashes{meant}"


class Screen(logging.StreamHandler[Any]):
    """Plain messages on standard output, on a terminal with lines broken between words.

    A message that cannot be formatted is a fault of dltrain's, and is raised.
    """

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        width = screen_width()
        return text if width is None else wrap(text, width)

    def handleError(self, record: logging.LogRecord) -> None:
        raise


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code. Messages go to stdout, errors to stderr."""
    argv = sys.argv[1:] if argv is None else argv
    options = Options(json="--json" in argv, debug="--debug" in argv)
    with safe_streams() as output:
        verb, options, code = command(argv, options)
        if options.json:
            print(to_json({"exit_code": code, **options.outcome}, default=str))
        if output.lost is None:
            return code
        print(
            f"dltrain: standard output cannot be written: {output.lost.strerror}", file=sys.stderr
        )
        in_files = verb is not None and (verb.keeps or bool(options.out)) and not options.json
        return code if in_files else code or 1


def command(argv: list[str], options: Options) -> tuple[Verb | None, Options, int]:
    """Run one command, with its messages on standard output: its verb, what was asked of it, and
    its exit code.
    """
    verb: Verb | None = None
    handler = Screen(sys.stdout)
    handler.setLevel(logging.INFO)
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        verb, options, flags = parse(argv)
        verb = None if flags & {"help", "version"} else verb
        with config_dir(options.config_dir):
            run(verb, options, flags)
        code = 0
    except Exception as e:
        code = report(e, options)
    except KeyboardInterrupt as e:
        print("dltrain: interrupted", file=sys.stderr)
        code = 128 + (e.number if isinstance(e, StoppedBySignal) else signal.SIGINT)
    finally:
        log.removeHandler(handler)
    return verb, options, code


def run(verb: Verb | None, options: Options, flags: set[str]) -> None:
    if "version" in flags and "help" not in flags:
        log.info(f"dltrain {__version__}")
    elif verb is None:
        log.info(help_text())
    else:
        module = importlib.import_module(f"dltrain.commands.{verb.module}")
        getattr(module, verb.function)(options)


def report(error: Exception, options: Options) -> int:
    """Print an error in a few lines, or with its traceback under --debug; its exit code."""
    known = isinstance(error, DltrainError)
    if options.debug:
        traceback.print_exception(error)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    more = "" if known or options.debug else "\n(an unexpected failure: --debug shows where)"
    message = f"dltrain: {text}{more}"
    width = screen_width(sys.stderr)
    print(message if width is None else wrap(message, width), file=sys.stderr)
    options.outcome.setdefault("error", text)
    if isinstance(error, Interrupted):
        options.outcome["status"] = "interrupted"
    return error.exit_code if isinstance(error, DltrainError) else 1


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise what Ctrl-C raises; but while a module is imported end at once: extensions abort on what is raised in them."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            with suppress(OSError):
                os.write(2, b"dltrain: interrupted\n")
            os._exit(128 + number)
        frame = frame.f_back
    raise StoppedBySignal(number)


def let_waiting_threads_sleep() -> None:
    """Have the threads of OpenMP wait for each other asleep, after a moment: set before torch is
    loaded.

    By default they wait busily for milliseconds. Beside other busy processes they so take from each
    other the time that they wait for: small steps became a hundred times as slow. What the user has
    set stays.
    """
    if not {"OMP_WAIT_POLICY", *WAITING} & os.environ.keys():
        os.environ.update(WAITING)


def entry() -> None:
    open_closed_descriptors()
    let_waiting_threads_sleep()
    for (
        number
    ) in ending_signals():  # while a run trains it has handlers of its own: callbacks/signals.py
        signal.signal(number, interrupt)
    sys.exit(main())
