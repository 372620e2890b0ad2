"""The command line: verbs, flags, exit codes. It imports no torch; a verb's module is imported when it runs."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from dataclasses import dataclass

from dltrain import __version__
from dltrain.commands.options import Options
from dltrain.config.schema import close_matches
from dltrain.errors import DltrainError, Interrupted, UsageError

log = logging.getLogger("dltrain")


@dataclass(frozen=True)
class Verb:
    """What a first bare word calls, and how its help line reads. `names`: how many more bare words it takes."""

    module: str
    function: str
    usage: str
    help: str
    names: int = 0


VERBS = {
    "train": Verb("train", "train", "[train] [overrides]", "train, then test the best checkpoint"),
    "check": Verb("check", "check", "check [overrides]", "every problem at once; layers, FLOPs, memory, time"),
    "list": Verb("list", "list_", "list [group]", "what can be chosen, a line each", 99),
    "show": Verb("show", "show", "show KEY|GROUP/OPTION", "a key's value, type, range and where it was set", 99),
    "evaluate": Verb("evaluate", "evaluate", "evaluate RUN [split=test]", "score a run's best checkpoint", 1),
    "resume": Verb("resume", "resume", "resume RUN [overrides]", "go on, or train longer (trainer.epochs=20)", 1),
}
MULTIRUN = Verb("multirun", "multirun", "-m [overrides]", "a grid of runs: values separated by commas")
FLAGS = {"--help": "help", "-h": "help", "--version": "version", "--json": "json", "--debug": "debug"}
FLAGS |= {"-m": "multirun", "--multirun": "multirun"}


def help_text() -> str:
    from dltrain.config.compose import groups
    from dltrain.report.text import table

    verbs = [(f"dltrain {verb.usage}", verb.help) for verb in (VERBS["train"], MULTIRUN, *list(VERBS.values())[1:])]
    choices = [(group, ", ".join(options)) for group, options in groups().items() if options]
    width = 100
    lines = [(g, o if len(o) <= width else o[:width].rpartition(",")[0] + ", ...") for g, o in choices]
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

flags: --json (outcome as a last line of JSON)  --debug (tracebacks)  --version  --help
RUN is a run folder, a unique part of its name, or `last`
exit codes: 0 done, 1 failure, 2 usage or configuration, 3 input file, 4 diverged, 130 Ctrl-C, 143 SIGTERM

next: dltrain check model=cnn dataset=mnist"""


def parse(argv: list[str]) -> tuple[Verb | None, Options, set[str]]:
    """The verb, its words, and the flags; UsageError for what is none of them, with what to type instead."""
    options, flags, words = Options(argv=argv), set(), []
    for i, word in enumerate(argv):
        if word in FLAGS:
            flags.add(FLAGS[word])
        elif word.startswith("-"):
            raise UsageError(_as_override(word, argv[i + 1 : i + 2]))
        else:
            words.append(word)
    options.json, options.debug, options.multirun = ("json" in flags, "debug" in flags, "multirun" in flags)
    verb: Verb | None = VERBS["train"]
    if words and "=" not in words[0] and not words[0].startswith(("~", "+")):
        name = words.pop(0)
        if name not in VERBS and "help" not in flags:
            close = close_matches(name, VERBS)
            raise UsageError(
                f"{name} is not a verb; did you mean `dltrain {close[0]}`?"
                if close
                else f"{name} is not a verb ({', '.join(VERBS)}); settings are KEY=VALUE (dltrain --help)"
            )
        verb = VERBS.get(name)
    while verb and len(options.names) < verb.names and words and "=" not in words[0]:
        options.names.append(words.pop(0))
    options.overrides = words
    if options.multirun and verb is not VERBS["train"]:
        raise UsageError("-m runs a grid of trainings; it goes with no other verb")
    return MULTIRUN if options.multirun else verb, options, flags


def _as_override(flag: str, following: list[str]) -> str:
    """What to type instead of `--epochs 5`."""
    from dltrain.config.compose import common_keys

    name, _, value = flag.lstrip("-").replace("-", "_").partition("=")
    value = value or (following[0] if following and "=" not in following[0] else "...")
    keys = common_keys()
    exact = [key for key in keys if name in (key, key.rpartition(".")[2])]
    alike = close_matches(name, [key.rpartition(".")[2] for key in keys])
    close = exact or [key for best in alike for key in keys if key.rpartition(".")[2] == best]
    if flag in ("-v", "-V"):
        return f"no such flag: {flag}; did you mean --version?"
    if flags := close_matches(flag, FLAGS):
        return f"no such flag: {flag}; did you mean {flags[0]}?"
    meant = f"; did you mean {close[0]}={value}?" if close else ""
    return f"no such flag: {flag}; settings are KEY=VALUE without dashes{meant}"


class Screen(logging.StreamHandler):
    """Plain messages on stdout. When the reader has gone (`dltrain | head`) a command goes on without a word."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code. Messages go to stdout, errors to stderr."""
    argv = sys.argv[1:] if argv is None else argv
    handler = Screen(sys.stdout)
    handler.setLevel(logging.INFO)
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    options = Options(json="--json" in argv, debug="--debug" in argv)
    try:
        verb, options, flags = parse(argv)
        if "help" in flags or verb is None:
            log.info(help_text())
        elif "version" in flags:
            log.info(f"dltrain {__version__}")
        else:
            module = importlib.import_module(f"dltrain.commands.{verb.module}")
            getattr(module, verb.function)(options)
        code = 0
    except Exception as e:
        code = report(e, options)
    except KeyboardInterrupt:
        print("dltrain: interrupted", file=sys.stderr)
        code = 130
    finally:
        log.removeHandler(handler)
    if options.json:
        try:
            print(json.dumps({"exit_code": code, **options.outcome}, default=str), flush=True)
        except BrokenPipeError as e:
            report(e, options)
    return code


def report(error: Exception, options: Options) -> int:
    """Print an error in a few lines, or with its traceback under --debug; its exit code."""
    known = isinstance(error, DltrainError)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: say no more
        return 0
    if options.debug:
        traceback.print_exception(error)
    text = str(error) if known else f"{type(error).__name__}: {error}"
    more = "" if known or options.debug else "\n(an unexpected failure: --debug shows where)"
    print(f"dltrain: {text}{more}", file=sys.stderr)
    options.outcome.setdefault("error", text)
    if isinstance(error, Interrupted):
        options.outcome["status"] = "interrupted"
    return error.exit_code if isinstance(error, DltrainError) else 1


def entry() -> None:
    sys.exit(main())
