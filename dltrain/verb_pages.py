"""The help pages of single verbs: `dltrain help VERB` and `dltrain VERB --help`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from dltrain.options import Options
from dltrain.report.text import table
from dltrain.verbs import FLAGS, MULTIRUN, VERBS, Flag, Verb

log = logging.getLogger("dltrain")
GRID = "-m"  # how the page of a grid of runs is called
CHECKPOINT = "the checkpoint to load: best, last, best-2, a step or epoch:3"
RUN = "RUN is a run folder, a unique part of its name, `last`, or `last-any` (also debug runs)."


@dataclass(frozen=True)
class VerbPage:
    """The part of a verb's page that is not made of its usage and its flags.

    `settings` are words of the form KEY=DEFAULT that the verb itself reads, and what they mean.
    """

    text: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()


OVERRIDES = {
    "GROUP=OPTION": "choose an option: model=cnn (dltrain list)",
    "KEY=VALUE": "set a key: optimizer.lr=0.01 (dltrain show KEY)",
    '"~KEY"': 'remove a key: "~model.dropout"',
}
VERB_PAGES = {
    "train": VerbPage(
        "Train a new run, load its best checkpoint and test it. The run's folder is made under\n"
        "paths.output. `train` may be left out.",
        OVERRIDES,
        (
            "dltrain model=cnn dataset=digits trainer.epochs=2",
            "dltrain experiment=lenet5_mnist",
            'dltrain model=mlp "regularization=[l2,dropout]"',
        ),
    ),
    GRID: VerbPage(
        "Train a run for each combination of values, or search for the best values, and print a\n"
        "table. `dltrain resume SWEEP` trains what is left of a sweep that was ended.",
        {
            "KEY=A,B,C": "several values: optimizer.lr=1e-3,1e-2",
            '"KEY=range(A,B)"': 'whole numbers from A to B - 1: "seed=range(0,5)"',
            '"KEY=interval(A,B)"': "a range to search; tag(log,interval(A,B)): in logarithms",
            "sweep=grid": "how values are chosen: random, tpe, architecture (dltrain list sweep)",
            "sweep.metric=METRIC": "of the best trial; by default the one that the runs watch",
            "launcher=local": "where the jobs run (dltrain list launcher)",
            "launcher.jobs=N": "so many jobs side by side",
        },
        (
            "dltrain -m model=cnn,mlp optimizer.lr=1e-3,1e-2",
            'dltrain -m "seed=range(0,5)" launcher.jobs=2',
            'dltrain -m sweep=tpe sweep.trials=20 "optimizer.lr=tag(log,interval(1e-4,1e-1))"',
        ),
    ),
    "check": VerbPage(
        "Report every problem of a configuration. Without one, print what a training step costs.\n"
        "Nothing is written.",
        OVERRIDES,
        ("dltrain check model=cnn dataset=digits", "dltrain check dataset=digits --data"),
    ),
    "list": VerbPage(
        "Print the options of every group, or of the groups that are named.",
        examples=("dltrain list", "dltrain list model dataset"),
    ),
    "show": VerbPage(
        "Print a key's value, its type and range, the comment in its file and where it was set;\n"
        "or an option's file and the arguments of its class.",
        OVERRIDES,
        ("dltrain show optimizer.lr optimizer=sgd", "dltrain show model/cnn"),
    ),
    "config": VerbPage(
        "Print the whole composed configuration as YAML, or the part below KEY. Problems are\n"
        "reported on standard error (exit 2).",
        OVERRIDES,
        (
            "dltrain config model=mlp dataset=digits",
            "dltrain config optimizer experiment=lenet5_mnist",
            "dltrain config --resolve",
        ),
    ),
    "evaluate": VerbPage(
        "Score a split of the run's data set with its trained weights. Several runs are scored as\n"
        f"one ensemble, on the data set of the first.\n{RUN}",
        {
            "split=test": "the samples to score: train, val or test",
            "checkpoint=best": CHECKPOINT,
            "tta=": 'average over views of an input: tta=flip or "tta=[flip,shift]"',
            "combine=": "the rule for several runs: mean (the default), vote or stacking",
            "calibrate=": "temperature: fit one to the validation samples",
            "KEY=VALUE": "a key of the run's configuration, such as dataset.path=FOLDER",
        },
        (
            "dltrain evaluate last",
            "dltrain evaluate last split=val tta=flip",
            "dltrain evaluate last calibrate=temperature",
            "dltrain evaluate last --out scores.csv --worst 10",
        ),
    ),
    "predict": VerbPage(
        f"Predict files, folders, globs, tables or texts, a row each.\n{RUN}",
        {
            "split=": "samples of the data set instead of inputs: val or test",
            "top=3": "the number of most probable classes in a row",
            "checkpoint=best": CHECKPOINT,
            "KEY=VALUE": "a key of the run's configuration, such as device=cpu",
        },
        (
            "dltrain predict last photos --out predictions.csv",
            "dltrain predict last split=test top=5",
            "dltrain predict last people.csv --keep --out with_columns.csv",
        ),
    ),
    "generate": VerbPage(
        f"Write images of a GAN or VAE, or let a language model continue each TEXT.\n{RUN}",
        {
            "checkpoint=best": CHECKPOINT,
            "temperature=0.8": "of a text: 0 always takes the most probable token; 1 as learned",
            "top_p=0.95": "of a text: draw from the most probable tokens up to this probability",
            "seed=0": "another number gives other images and texts",
        },
        (
            "dltrain generate last --samples 64",
            'dltrain generate last "To be" --tokens 200 temperature=0.5',
        ),
    ),
    "rollout": VerbPage(
        f"Write one episode of an agent as an animated GIF.\n{RUN}",
        {"checkpoint=best": CHECKPOINT, "seed=0": "another number gives another episode"},
        ("dltrain rollout last", "dltrain rollout last --out episode.gif"),
    ),
    "export": VerbPage(
        f"Write what was learned in a format of other programs.\n{RUN}",
        {"checkpoint=best": CHECKPOINT},
        (
            "dltrain export last --format safetensors --out model.safetensors",
            "dltrain export last --format word2vec --out words.vec",
        ),
    ),
    "pack": VerbPage(
        "Write the images of a data set into shards of many images each, tar files in the layout\n"
        "of WebDataset, or Parquet files. `dataset=shards dataset.path=FOLDER` reads them without\n"
        "holding them in memory. Images that are files are copied byte for byte.",
        {
            "dataset=cifar10": "the data set; a bare `cifar10` is the same",
            "KEY=VALUE": "a key of the data set, such as dataset.path=FOLDER",
        },
        (
            "dltrain pack dataset=cifar10 --out packed",
            "dltrain pack dataset=image_folder dataset.path=photos --out packed --shard-size 1GB",
            "dltrain pack cifar10 --out packed --format parquet",
        ),
    ),
    "resume": VerbPage(
        f"Continue an interrupted run exactly, or train a finished one longer.\n{RUN}\n"
        "SWEEP is a sweep's folder or a part of its name; trials that are not done are trained.",
        {
            "KEY=VALUE": "what changes from here on, such as trainer.epochs=20",
            "launcher.jobs=N": "of a sweep: so many jobs side by side; so any other launcher.*",
        },
        (
            "dltrain resume last",
            "dltrain resume last trainer.epochs=20 --fork",
            "dltrain resume outputs/DATE/TIME_sweep",
        ),
    ),
    "runs": VerbPage(
        "Print a table of all runs under ROOT (paths.output), the newest first. A key is that of\n"
        "a setting or a metric, or status, name, date, epochs, steps or seconds.\n"
        "With --delete, runs are moved to the trash.",
        {"paths.output=outputs": "the folder of all runs"},
        (
            "dltrain runs --where model=cnn --where 'test/accuracy>=0.9' --sort test/accuracy",
            "dltrain runs --group --csv",
            "dltrain runs --delete --where status=failed",
        ),
    ),
    "compare": VerbPage(
        f"Print how runs differ: settings beside metrics, the better run by each metric, data,\n"
        f"versions and cost, and what cannot be compared. A sweep means all of its jobs.\n{RUN}",
        {
            "paths.output=outputs": "the folder of all runs",
            "measure=auto": "size, FLOPs, latency of up to ten networks; true for more, or false",
        },
        ("dltrain compare 10-15-02 last", "dltrain compare outputs/DATE/TIME_sweep --out c.png"),
    ),
    "reproduce": VerbPage(
        "Train a run again with its settings and its seed in a new folder, and compare every\n"
        "metric of metrics.jsonl record by record. What differs between then and now is printed\n"
        "first: commit, versions, data, machine, environment. Exit 0 if it is reproduced, else 5.\n"
        f"{RUN}",
        {
            "paths.data=FOLDER": "where the data is now (dataset.path= for your own)",
            "device=cpu": "another device",
        },
        ("dltrain reproduce last", "dltrain reproduce last --tolerance 0.05 device=cpu"),
    ),
    "completion": VerbPage(
        "Print a script that completes words with TAB.",
        examples=("dltrain completion bash", "dltrain completion zsh"),
    ),
    "schema": VerbPage(
        "Print a JSON Schema by which an editor completes and checks YAML files. KIND is config\n"
        "(a configuration or an experiment) or a group; --out FOLDER writes those of all kinds.",
        {'"plugins=[NAME]"': "your own packages, whose classes the schema has too"},
        (
            "dltrain schema --out schemas",
            "dltrain schema model --out model.json",
        ),
    ),
    "help": VerbPage(
        "Print the commands, groups and flags; or a command's settings, flags and examples.",
        examples=("dltrain help", "dltrain help predict", "dltrain predict --help"),
    ),
}


def print_page(name: str, options: Options) -> None:
    """Print the page of a verb: usage, settings, flags and examples."""
    verb = MULTIRUN if name == GRID else VERBS[name]
    page = VERB_PAGES.get(name, VerbPage())
    flags = flags_of(name)
    examples = [f"  {example}" for example in page.examples]
    parts = [f"dltrain {verb.usage}\n{page.text or described(verb)}"]
    for title, rows in (("settings", dict(page.settings)), ("flags", flags)):
        if rows:
            parts.append(f"{title}\n{table(list(rows.items()))}")
    if examples:
        parts.append("\n".join(["examples", *examples]))
    log.info("\n\n".join(parts))
    options.outcome |= {
        "usage": f"dltrain {verb.usage}",
        "help": verb.help,
        "settings": dict(page.settings),
        "flags": flags,
        "examples": list(page.examples),
    }


def described(verb: Verb) -> str:
    """Return a verb's line in the help as a sentence."""
    return f"{verb.help[:1].upper()}{verb.help[1:]}."


def flags_of(name: str) -> dict[str, str]:
    """Return the flags that a verb takes, its own first, and what each does."""
    verb = "train" if name == GRID else name
    distinct = list(dict.fromkeys(FLAGS.values()))
    own = [flag for flag in distinct if verb in flag.verbs]
    common = [flag for flag in distinct if not flag.verbs]
    return {spellings(flag, verb): flag.purpose for flag in [*own, *common]}


def spellings(flag: Flag, verb: str) -> str:
    """Return the ways to write a flag of a verb, with an example of its value."""
    names = ", ".join(name for name, other in FLAGS.items() if other == flag)
    if flag.optional:
        return f"{names} [={flag.example}]"
    return f"{names} {flag.example_for(verb)}".strip()
