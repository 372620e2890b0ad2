"""The command line: parses the words, calls the function of the verb and returns an exit code.

A verb is the first word of a command, such as `train`. Its module is imported when it runs; this
file imports no torch.
"""

from __future__ import annotations

import itertools
import logging
import os
import pkgutil
import re
import signal
import sys
import traceback

from dltrain.config.groups import config_dir
from dltrain.config.suggestions.quoting import exists
from dltrain.console import open_closed_descriptors, output_on_error, safe_streams
from dltrain.distributed.environment import follows, launched_size
from dltrain.errors import (
    DltrainError,
    Interrupted,
    StoppedBySignal,
    UsageError,
    UserCodeError,
    ending_signals,
)
from dltrain.files import to_json
from dltrain.hydra_words import translate
from dltrain.interrupts import interrupt
from dltrain.options import Options
from dltrain.screen import screen_messages, wrapped_to_screen
from dltrain.usage import moved_command, unknown_flag, unknown_verb
from dltrain.user_code import user_errors_explained
from dltrain.verb_pages import GRID
from dltrain.verbs import FLAGS, HELP, HIDDEN, MULTIRUN, VERBS, VERSION, Verb

log = logging.getLogger("dltrain")
SETTING = re.compile(r"(\+{0,2}|~)[\w.]+=.*|~[\w.]+", re.DOTALL)
FOLLOWER = "dltrain.experiment.follower:follow_torchrun"
NOTHING = "dltrain.usage:do_nothing"
RELEASE = "dltrain.experiment.processes:release_others"
SHORT_WAITS = {  # GNU's OpenMP counts loops, those of LLVM and Intel count milliseconds
    "GOMP_SPINCOUNT": "3000",
    "KMP_BLOCKTIME": "1",
}


def entry() -> None:
    """Run the command of this process, and exit with its code."""
    open_closed_descriptors()
    let_waiting_threads_sleep()
    for number in ending_signals():  # training has handlers of its own: callbacks/signals.py
        signal.signal(number, interrupt)
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Messages go to standard output and errors to standard error. With --json the outcome is all of
    the standard output, and messages go to standard error too.
    """
    if argv is None:
        argv = sys.argv[1:]
    argv = without_comment(argv)
    is_json = "--json" in itertools.takewhile(lambda word: word != "--", argv)
    options = Options(argv=argv, json=is_json, debug="--debug" in argv)
    verb: Verb | None = None
    code = 0
    with safe_streams() as output:
        with output_on_error(is_json):
            try:
                with screen_messages():
                    verb = parse(options)
                    with config_dir(options.config_dir), user_errors_explained():
                        function = pkgutil.resolve_name(function_of(verb))
                        function(options)
                        release_followers(verb)
            except (Exception, KeyboardInterrupt) as e:
                code = report(e, options)
        if options.json:
            print(to_json({"exit_code": code, **options.outcome}, default=str))
        if output.lost is not None:
            code = report_lost_output(output.lost, code, verb, options)
    return code


def function_of(verb: Verb) -> str:
    """Return the name of a verb's function; of torchrun's processes only the first calls it.

    The others train with it, or have nothing to do.
    """
    if not follows():
        return verb.function
    return FOLLOWER if verb.trains else NOTHING


def release_followers(verb: Verb) -> None:
    """Let the other processes of torchrun end, which train with the first one until it ends."""
    if verb.trains and launched_size() > 1 and not follows():
        pkgutil.resolve_name(RELEASE)()


def without_comment(argv: list[str]) -> list[str]:
    """Return the words before a `#` that stands alone, unless it comes after `--`.

    On a terminal, zsh passes a comment on as words where other shells remove it.
    """
    before = list(itertools.takewhile(lambda word: word not in ("#", "--"), argv))
    if argv[len(before) :][:1] == ["#"]:
        return before
    return argv


def report(error: BaseException, options: Options) -> int:
    """Print an error in a few lines, or with its traceback under --debug; return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, StoppedBySignal) else signal.SIGINT
        print("dltrain: interrupted", file=sys.stderr)
        options.outcome |= {"status": "interrupted", "error": "interrupted"}
        return 128 + number
    if options.debug:
        traceback.print_exception(error)
    if isinstance(error, DltrainError):
        text = str(error)
        hint = ""
        code = error.exit_code
        if isinstance(error, UserCodeError):
            hint = "\n(add --debug for the traceback; the train.log of a run has it)"
    else:
        text = f"{type(error).__name__}: {error}"
        hint = "\n(an unexpected failure; add --debug for the traceback)"
        code = 1
    if options.debug:
        hint = ""
    note = note_on_run(text, options)
    print(wrapped_to_screen(f"dltrain: {text}{note}{hint}", sys.stderr), file=sys.stderr)
    options.outcome.setdefault("error", text)
    if isinstance(error, Interrupted):
        options.outcome["status"] = "interrupted"
    return code


def note_on_run(text: str, options: Options) -> str:
    """Return which run `last` or a part of a name means, unless the `text` of an error says it.

    The run may not be the one that the user has in mind, as after a training that failed.
    """
    if not options.found_run:
        return ""
    options.outcome.setdefault("run", options.found_run)
    if options.found_run in text:
        return ""
    return f"\n({options.names[0]} is the run {options.found_run})"


def report_lost_output(error: OSError, code: int, verb: Verb | None, options: Options) -> int:
    """Report that standard output was lost; return the exit code.

    A success becomes a failure unless the result is in files.
    """
    print(f"dltrain: standard output cannot be written: {error.strerror}", file=sys.stderr)
    has_files = verb is not None and (verb.writes_files or bool(options.out))
    if has_files and not options.json:
        return code
    return code or 1


def parse(options: Options) -> Verb:
    """Return the verb of `options.argv`, and set its words and flags in `options`.

    Raises UsageError for unknown words, with what to type instead.
    """
    words, rest, flags = split_flags(options)
    options.json = "--json" in flags  # not if it comes after `--`
    options.debug = "--debug" in flags
    if options.version:
        return VERSION
    if options.help:
        options.names = page_named(words, options)
        return HELP
    if options.multirun and words[:1] == ["help"]:  # dltrain help -m
        options.names = [GRID]
        return HELP
    name = "train"
    if words and not is_override(words[0]):
        name = words.pop(0)
    refuse_flags_without_cfg(name, options)
    verb = verb_called(name, words, options)
    if verb.files:
        options.overrides = list(filter(is_setting, words))
        options.names = [*itertools.filterfalse(is_setting, words), *rest]
    else:
        options.names, options.overrides = split_names([*words, *rest], verb.names)
    refuse_late_verb(options.overrides)
    translate(GRID if verb is MULTIRUN else name, options)
    if name == "predict":
        refuse_old_spelling(options)
    refuse_flags_of_others(flags, name)
    return verb


def page_named(words: list[str], options: Options) -> list[str]:
    """Return the name of the page that --help asks for; an empty list for the general one."""
    if words and words[0] in VERBS:
        return words[:1]
    if options.multirun:
        return [GRID]
    return []


def verb_called(name: str, following: list[str], options: Options) -> Verb:
    """Return the verb of a name; the flags -m and --cfg stand for verbs of their own.

    Raises UsageError for an unknown name, by it and the words after it.
    """
    if name == "train" and options.cfg is not None:
        return VERBS["config"]
    if name == "train" and options.multirun:
        return MULTIRUN
    verb = (VERBS | HIDDEN).get(name)
    if verb is None:
        raise UsageError(unknown_verb(name, following))
    return verb


def split_flags(options: Options) -> tuple[list[str], list[str], list[str]]:
    """Set the flags in `options`; return the other words, those after `--`, and the flags."""
    words: list[str] = []
    rest: list[str] = []
    flags: list[str] = []
    argv = list(options.argv)
    while argv:
        word = argv.pop(0)
        if word == "--":
            rest = argv
            break
        if word.startswith("-"):
            flags.append(set_flag(word, argv, options))
        else:
            words.append(word)
    return words, rest, flags


def set_flag(word: str, following: list[str], options: Options) -> str:
    """Set a flag in `options` and return its name; its value may be the first following word.

    Raises UsageError for an unknown flag, and if another flag stands where the value belongs.
    """
    name, equals, value = word.partition("=")
    flag = FLAGS.get(name)
    if flag is None or (equals and not flag.example):
        raise UsageError(unknown_flag(word, following[:1]))
    if not flag.example:
        setattr(options, flag.field, True)
        return name
    if flag.optional:
        setattr(options, flag.field, value)
        return name
    value = value or following_value(following)
    if not value:
        raise UsageError(f"{name} needs a value: {name} {flag.example}")
    if flag.repeated:
        getattr(options, flag.field).append(value)
    else:
        setattr(options, flag.field, value)
    return name


def following_value(following: list[str]) -> str:
    """Take the value of a flag off the words after it; empty if another flag stands there."""
    if not following or following[0] in FLAGS:
        return ""
    return following.pop(0)


def split_names(words: list[str], count: int) -> tuple[list[str], list[str]]:
    """Return up to `count` names (RUN, KEY, GROUP) that begin the words, and the overrides."""
    end = 0
    while end < min(count, len(words)) and is_name(words[end]):
        end += 1
    return words[:end], words[end:]


def refuse_late_verb(overrides: list[str]) -> None:
    """Raise UsageError for a verb after the settings, which would be read as one of them."""
    for word in overrides:
        if word in VERBS:
            raise UsageError(f"{word} is a command and comes first: dltrain {word} ...")


def refuse_old_spelling(options: Options) -> None:
    """Raise UsageError for flags of `predict` that are now another verb's, such as --samples."""
    command = moved_command(options)
    if command is not None:
        raise UsageError(f"predict no longer does this; type: {command}")


def refuse_flags_of_others(names: list[str], verb: str) -> None:
    """Raise UsageError for a flag that other verbs have and this one does not."""
    for name in names:
        flag = FLAGS[name]
        if flag.verbs and verb not in flag.verbs:
            commands = ", ".join(f"`dltrain {one}`" for one in flag.verbs)
            raise UsageError(f"{name} is a flag of {commands} only: it {flag.purpose}")


def refuse_flags_without_cfg(verb: str, options: Options) -> None:
    """Raise UsageError for --package and --resolve of a training, which print nothing alone."""
    if verb == "train" and options.cfg is None and (options.package or options.resolve):
        flag = "--package" if options.package else "--resolve"
        raise UsageError(f"{flag} prints a configuration: add --cfg job, or type `dltrain config`")


def is_override(word: str) -> bool:
    """Tell if a first word is an override, not a verb."""
    return "=" in word or word.startswith(("~", "+"))


def is_setting(word: str) -> bool:
    """Tell if a word looks like a setting and is not the name of a file."""
    return SETTING.fullmatch(word) is not None and not exists(word)


def is_name(word: str) -> bool:
    """Tell if a word after a verb is a name (RUN, KEY, GROUP): it has no =, or is a file's name."""
    return "=" not in word or exists(word)


def let_waiting_threads_sleep() -> None:
    """Have the threads of OpenMP sleep while they wait for each other, after a moment.

    By default they spin for milliseconds. On a machine with other busy processes, spinning threads
    take CPU time from the threads that they wait for, and small steps become a hundred times as
    slow. The user's own settings stay. This must be set before torch is loaded.
    """
    if not {"OMP_WAIT_POLICY", *SHORT_WAITS} & os.environ.keys():
        os.environ.update(SHORT_WAITS)
