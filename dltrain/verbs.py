"""The verbs and flags of the command line: tables that parsing, help and completion read."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """The function that a first bare word calls, and its line in the help.

    `names` is the number of further words that are not overrides; with `files` they may be names of
    files that look like overrides. With `writes_files` the result is in files, so that the command
    succeeds even if standard output cannot be written. One that `trains` is what the processes of
    torchrun do together.
    """

    function: str
    usage: str
    help: str
    names: int = 0
    files: bool = False
    writes_files: bool = False
    trains: bool = False


@dataclass(frozen=True)
class Flag:
    """A flag: the field of `Options` that it sets, and where it may stand.

    A flag with an `example` takes a value; an `optional` one only after an equals sign. A
    `repeated` flag may be typed several times. A flag with `verbs` is a flag of these only;
    `purpose` says what it does there, and `examples` have the values that fit single verbs.
    """

    field: str
    example: str = ""
    verbs: tuple[str, ...] = ()
    purpose: str = ""
    optional: bool = False
    repeated: bool = False
    examples: tuple[tuple[str, str], ...] = ()

    def example_for(self, verb: str) -> str:
        """Return an example of the flag's value for a verb; "" if it takes none."""
        return dict(self.examples).get(verb, self.example)


ANY_NUMBER = sys.maxsize
VERBS = {
    "train": Verb(
        "dltrain.commands.train:train",
        "[train] [overrides]",
        "train, then test the best checkpoint",
        writes_files=True,
        trains=True,
    ),
    "check": Verb(
        "dltrain.commands.check:check",
        "check [overrides]",
        "every problem at once; layers, FLOPs, memory, time",
    ),
    "list": Verb(
        "dltrain.commands.list:list_",
        "list [group]",
        "the options of every group, one per line",
        names=ANY_NUMBER,
    ),
    "show": Verb(
        "dltrain.commands.show:show",
        "show KEY|GROUP/OPTION",
        "a key's value, type, range and where it was set",
        names=ANY_NUMBER,
    ),
    "config": Verb(
        "dltrain.commands.config:config",
        "config [KEY] [overrides]",
        "the whole configuration as YAML",
        names=1,
    ),
    "evaluate": Verb(
        "dltrain.commands.evaluate:evaluate",
        "evaluate RUN [RUN...] [split=test]",
        "score a run's best checkpoint; of several runs, an ensemble",
        names=ANY_NUMBER,
    ),
    "predict": Verb(
        "dltrain.commands.predict:predict",
        "predict RUN INPUT...",
        "predictions for files, folders, globs, texts",
        names=ANY_NUMBER,
        files=True,
    ),
    "generate": Verb(
        "dltrain.commands.generate:generate",
        "generate RUN [TEXT...]",
        "images of a GAN or VAE; texts that a language model continues",
        names=ANY_NUMBER,
        files=True,
    ),
    "rollout": Verb(
        "dltrain.commands.rollout:rollout",
        "rollout RUN",
        "an episode of an agent, as an animated GIF",
        names=1,
    ),
    "export": Verb(
        "dltrain.commands.export:export",
        "export RUN --format safetensors",
        "weights or word vectors, for other programs",
        names=1,
    ),
    "pack": Verb(
        "dltrain.commands.pack:pack",
        "pack DATASET --out FOLDER",
        "write images into shards, for sets beyond memory",
        names=1,
        writes_files=True,
    ),
    "resume": Verb(
        "dltrain.commands.resume:resume",
        "resume RUN|SWEEP [overrides]",
        "continue, or train longer (trainer.epochs=20)",
        names=1,
        writes_files=True,
        trains=True,
    ),
    "runs": Verb(
        "dltrain.commands.runs:runs",
        "runs [ROOT]",
        "a table of all runs; --where, --sort, --group; --delete",
        names=ANY_NUMBER,
        files=True,
    ),
    "compare": Verb(
        "dltrain.commands.compare:compare",
        "compare RUN RUN...",
        "what differs: settings, metrics, data, cost; curves",
        names=ANY_NUMBER,
        files=True,
    ),
    "reproduce": Verb(
        "dltrain.commands.reproduce:reproduce",
        "reproduce RUN",
        "train a run again and compare every metric",
        names=1,
        trains=True,
    ),
    "completion": Verb(
        "dltrain.commands.completion:completion",
        "completion bash|zsh|fish",
        "a shell script that completes words with TAB",
        names=1,
    ),
    "schema": Verb(
        "dltrain.commands.schema:schema",
        "schema [KIND]",
        "a JSON Schema of the YAML files, for editors",
        names=1,
    ),
    "help": Verb(
        "dltrain.usage:print_help",
        "help [command]",
        "a command's settings, flags and examples",
        names=1,
    ),
}
HIDDEN = {  # called by the completion script
    "__complete": Verb(
        "dltrain.commands.completion:complete", "", "", names=ANY_NUMBER, files=True
    ),
}
MULTIRUN = Verb(
    "dltrain.commands.multirun:multirun",
    "-m [overrides]",
    "a sweep: values separated by commas, or a search",
    writes_files=True,
    trains=True,
)
HELP = VERBS["help"]
VERSION = Verb("dltrain.usage:print_version", "--version", "")
RUN_VERBS = ("evaluate", "predict", "generate", "rollout", "export", "resume", "reproduce")

_HELP = Flag("help", purpose="prints this page")
_MULTIRUN = Flag("multirun", verbs=("train",), purpose="runs a sweep of trainings")
_CONFIG_DIR = Flag(
    "config_dir", "FOLDER", purpose="adds your own options: FOLDER/model/mine.yaml is model=mine"
)
_CFG = Flag("cfg", "job", ("train",), "prints the configuration, as `dltrain config` does")
_PACKAGE = Flag("package", "KEY", ("train",), "prints the part of --cfg below a key")
FLAGS = {
    "--help": _HELP,
    "-h": _HELP,
    "--version": Flag("version", purpose="prints the version"),
    "--json": Flag("json", purpose="prints the outcome as JSON, messages on standard error"),
    "--debug": Flag("debug", purpose="shows tracebacks"),
    "-m": _MULTIRUN,
    "--multirun": _MULTIRUN,
    "--config-dir": _CONFIG_DIR,
    "-cd": _CONFIG_DIR,
    "--cfg": _CFG,
    "-c": _CFG,
    "--package": _PACKAGE,
    "-p": _PACKAGE,
    "--resolve": Flag(
        "resolve", verbs=("config", "train"), purpose="replaces interpolations by their values"
    ),
    "--plot": Flag("plot", verbs=("check",), purpose="draws the learning rate"),
    "--data": Flag("data", verbs=("check",), purpose="reads the data set as training would"),
    "--images": Flag("images", "FILE.png", ("check",), "draws a batch as the network sees it"),
    "--keep": Flag(
        "keep", verbs=("predict",), purpose="keeps the columns of a table beside its predictions"
    ),
    "--explain": Flag("explain", verbs=("predict",), purpose="draws why a run predicts a class"),
    "--samples": Flag("samples", "64", ("generate",), "is the number of images"),
    "--tokens": Flag("tokens", "200", ("generate",), "is the number of tokens after a text"),
    "--format": Flag(
        "format",
        "safetensors",
        ("export", "pack"),
        "is the format of the file, or of the shards",
        examples=(("export", "safetensors"), ("pack", "webdataset")),
    ),
    "--shard-size": Flag(
        "shard_size", "100MB", ("pack",), "is about how much a shard holds: KB, MB or GB"
    ),
    "--out": Flag(
        "out",
        "FILE",
        ("evaluate", "predict", "generate", "export", "rollout", "compare", "schema", "pack"),
        "is the file to write",
        examples=(
            ("evaluate", "FILE.csv"),
            ("predict", "FILE.csv"),
            ("generate", "FILE.png"),
            ("export", "vectors.vec"),
            ("rollout", "episode.gif"),
            ("compare", "curves.png"),
            ("schema", "schema.json"),
            ("pack", "FOLDER"),
        ),
    ),
    "--where": Flag("where", "model=cnn", ("runs",), "selects runs by a condition", repeated=True),
    "--sort": Flag("sort", "test/accuracy", ("runs",), "is the key to sort by"),
    "--desc": Flag("desc", verbs=("runs",), purpose="sorts from high to low"),
    "--group": Flag(
        "group",
        "model,optimizer.lr",
        ("runs",),
        "averages over seeds, or over the runs with the same KEYs",
        optional=True,
    ),
    "--columns": Flag("columns", "run,optimizer.lr", ("runs",), "names the columns"),
    "--limit": Flag("limit", "20", ("runs",), "is the number of rows"),
    "--csv": Flag("csv", verbs=("runs",), purpose="prints CSV"),
    "--all": Flag("all", verbs=("runs",), purpose="shows debug runs too"),
    "--delete": Flag("delete", verbs=("runs",), purpose="moves runs to the trash"),
    "--empty-trash": Flag("empty_trash", verbs=("runs",), purpose="deletes what is in the trash"),
    "--yes": Flag("yes", verbs=("runs",), purpose="deletes without asking"),
    "--worst": Flag(
        "worst", "10", ("evaluate",), "prints so many samples, those of the greatest loss"
    ),
    "--tolerance": Flag(
        "tolerance",
        "0.02",
        ("reproduce",),
        "accepts this relative difference; by default 0, elsewhere than then 0.02",
    ),
    "--fork": Flag("fork", verbs=("resume",), purpose="continues a run in a new one"),
}
