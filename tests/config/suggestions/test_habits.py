"""Answers to what users of other programs type: each of them composes."""

from __future__ import annotations

import functools
import re
import shlex

import pytest

from dltrain.cli import parse
from dltrain.config.check import problems_of
from dltrain.config.compose import compose
from dltrain.config.groups import groups, read_option
from dltrain.config.suggestions import habits
from dltrain.config.suggestions.other_programs import (
    Answer,
    answer_for,
    flag_answer,
    option_for,
    verb_for,
)
from dltrain.errors import UsageError
from dltrain.options import Options
from dltrain.verbs import MULTIRUN, VERBS

OVERRIDE = re.compile(r"(?<![\w.])[a-z][\w.]*=(?:\[[^\]]*\]|[^\s;,()?`\"]+)")
# Values that fit a key which 0.5 does not fit.
SAMPLES = {
    "folds": "5",
    "paths.output": "x",
    "checkpoints.keep": "3",
    "paths.data": "x",
    "name": "x",
    "dataset.path": "x",
    "dataset.test_path": "x",
    "dataset.target": "x",
    "trainer.watch": "val/loss",
    "trainer.mode": "max",
    "device.precision": "bf16",
    "model.activation": "gelu",
    "model.hidden_sizes": "[3]",
    "milestones": "[0.5]",
    "hidden_layer_sizes": "[3]",
    "hidden_units": "[3]",
    "device.compile": "true",
    "device.deterministic": "true",
    "device.checkpoint_activations": "true",
}
WHOLE = (
    *(
        "batch",
        "size",
        "epochs",
        "steps",
        "every",
        "accumulate",
        "seed",
        "nonfinite",
        "workers",
        "length",
        "threads",
    ),
    *(
        "patience",
        "no_change",
        "top_k",
        "imgsz",
        "resolution",
        "resize",
        "max_len",
        "maxlen",
        "seq_len",
        "vocab",
        "dim",
        "layers",
    ),
)


def sample(key: str) -> str:
    """A value that fits a key."""
    name = key.rpartition(".")[2]
    if key in SAMPLES or name in SAMPLES:
        return SAMPLES.get(key, SAMPLES.get(name, ""))
    if name in ("target", "target_column", "label_column", "csv", "csv_path") or name.startswith(
        ("train_", "data")
    ):
        return "x"
    return "8" if any(word in name for word in WHOLE) and "test_size" not in name else "0.5"


@functools.cache
def home_of(key: str) -> str:
    """A choice that has the key."""
    group, _, name = key.partition(".")
    if group == "regularization":
        return "regularization=[early_stopping]"
    options = groups().get(group, []) if name else []
    return next(
        (f"{group}={option}" for option in options if name in read_option(group, option)), "seed=0"
    )


def overrides_of(words: str) -> str:
    """The words, unless they are a command."""
    return "" if words.startswith("dltrain") else words


@functools.cache
def mistakes_in(words: str, context: str = "seed=0") -> list[str]:
    """Return what is wrong with words that a message suggests."""
    typed = shlex.split(words)
    if typed[:1] != ["dltrain"]:
        return [why for _, why in problems_of(compose([context, *typed]))]
    options = Options(argv=typed[1:])
    verb = parse(options)
    assert verb.usage
    if verb is VERBS["train"] or verb is VERBS["check"] or options.multirun:
        first = [
            override.split(",")[0] if "[" not in override else override
            for override in options.overrides
        ]
        return [why for _, why in problems_of(compose(first))]
    return []


def test_every_key_that_a_name_stands_for_takes_a_value() -> None:
    for here, names in habits.RENAMED.items():
        value = sample(here)
        answer = answer_for(names.split()[0], value, lambda key, here=here: key == here)
        assert answer is not None
        assert (
            answer.words == shlex.join([f"{here}={value}"]) or answer.words == f'"{here}={value}"'
        ), here
        assert mistakes_in(answer.words, home_of(here)) == [], answer.words


def test_every_value_has_a_name_here() -> None:
    for here, values in habits.VALUES.items():
        for value in set(values.values()):
            assert mistakes_in(f"{here}={value}", home_of(here)) == []


def test_every_answer_composes() -> None:
    for name in habits.ANSWERS:
        answer = answer_for(name, sample(name), lambda key: False)
        assert answer is not None
        if name in habits.ANSWERS and answer.words:
            assert mistakes_in(answer.words) == [], (name, answer)
        for override in OVERRIDE.findall(answer.note):
            assert mistakes_in(f'{overrides_of(answer.words)} "{override}"') == [], (name, answer)


def test_every_answer_by_value_composes() -> None:
    for name, answers in habits.BY_VALUE.items():
        for value in answers:
            answer = answer_for(name, value, lambda key: False)
            assert answer is not None
            assert answer.words or answer.note.endswith("leave it out"), (name, value)
            assert mistakes_in(answer.words) == [] if answer.words else True, (name, value)
    for name in habits.OFF_UNLESS_CHOSEN.split():
        assert name in habits.ANSWERS, name
        answer = answer_for(name, "false", lambda key: False)
        assert answer is not None
        assert answer.note.endswith("leave it out"), name


def test_every_node_that_is_a_group_here_is_one() -> None:
    assert set(habits.PARENTS.values()) <= groups().keys()
    assert not habits.PROGRAMS & VERBS.keys()
    for command in habits.PROGRAM_VERBS.values():
        assert mistakes_in(command) == [], command


def test_every_key_that_is_not_always_there_has_a_home() -> None:
    for here, names in habits.RENAMED.items():
        answer = answer_for(names.split()[0], sample(here), lambda key: False)
        assert here not in habits.HOMES or answer is not None
    for here in habits.HOMES:
        assert here in habits.RENAMED
        name = next(n for n in habits.RENAMED[here].split() if n not in habits.ANSWERS)
        answer = answer_for(name, sample(here), lambda key: False)
        assert answer is not None
        assert mistakes_in(answer.words) == [] if answer.words else answer.note, here


def test_every_group_and_option_that_is_named_exists() -> None:
    assert habits.GROUPS.keys() <= groups().keys()
    assert habits.OPTIONS.keys() <= groups().keys()
    for group, options in habits.OPTIONS.items():
        for pattern, option in options.items():
            name = pattern.replace("[[]", "[").replace("[0-9]", "1").replace("*", "")
            found = option_for(group, name)
            assert found is not None, (group, pattern)
            if "=" in found:
                assert mistakes_in(found) == [], found
            else:
                assert found in groups()[group], (group, option)


def test_every_verb_and_flag_of_others_has_a_command_here() -> None:
    assert not habits.VERBS.keys() & VERBS.keys()
    for command in {*habits.VERBS.values(), *habits.FLAGS.values()}:
        if not command.endswith("="):
            assert mistakes_in(command) == [], command
    for words in habits.HYDRA.values():
        assert mistakes_in(words) == [], words
    for flag, words in habits.FLAGS.items():
        if words.endswith("="):
            key = words.rstrip("=")
            value = {
                "model": "mlp",
                "dataset": "mnist",
                "task": "regression",
                "experiment": "cnn_mnist",
            }.get(key)
            answer = flag_answer(flag, value or sample(key), lambda key: True)
            assert answer is not None
            assert mistakes_in(answer.words, home_of(key)) == [], (flag, answer)


@pytest.mark.parametrize(
    ("typed", "here"),
    [
        ("data=mnist", "dataset=mnist"),
        ("data=FashionMNIST", "dataset=fashion_mnist"),
        ("data=x.csv", "dataset=tabular dataset.path=x.csv dataset.target=COLUMN"),
        ("data=coco128.yaml", "dataset=yolo dataset.path=FOLDER"),
        ("datamodule=cifar10", "dataset=cifar10"),
        ("batch=32", "dataset.batch_size "),
        ("bs=32", "dataset.batch_size "),
        ("dataset.batch=32", "dataset.batch_size "),
        ("trainer.max_epochs=5", "trainer.epochs "),
        ("max_steps=5", "trainer.steps "),
        ("accelerator=gpu", "device=cuda"),
        ("trainer.accelerator=cpu", "device=cpu"),
        ("trainer.devices=1", "device=cuda"),
        ("gpus=0", "device=cpu"),
        ("device=0", "cuda"),
        ("no_cuda=true", "device=cpu"),
        ("imgsz=64", '"preprocessing=[resize]" preprocessing.resize.size=64'),
        ("ckpt_path=last.ckpt", "`dltrain resume RUN`"),
        ("lr=0.1", "optimizer.lr "),
        ("optimizer.learning_rate=0.1", "optimizer.lr "),
        ("weight_decay=0.1", "optimizer.weight_decay "),
        ("dropout=0.1", "model.dropout "),
        (
            "patience=3",
            '"regularization=[early_stopping]" regularization.early_stopping.patience=3',
        ),
        ("precision=16-mixed", "device.precision=fp16"),
        ("trainer.precision=bf16-mixed", "device.precision=bf16"),
        ("strategy=ddp", "device=cuda"),
        ("mode=train", "`dltrain train`"),
        ("mode=predict", "`dltrain predict RUN INPUT`"),
        ("mode=max", "trainer.mode "),
        ("val=true", "`dltrain evaluate RUN split=val`"),
        ("train=false", "`dltrain evaluate RUN`"),
        ("train=true", "`dltrain`"),
        ("model.scheduler.factor=0.5", "schedule=plateau schedule.factor=0.5"),
        ("iou=0.7", "dataset=yolo dataset.path=FOLDER model.nms_threshold=0.7"),
        ("checkpoint=last", "`dltrain evaluate RUN checkpoint=last`"),
        ("callbacks=early_stopping", '"regularization=[early_stopping]"'),
        ("callbacks=none", "quiet"),
        ("model=yolov8n.pt", "dataset=yolo dataset.path=FOLDER"),
        ("model=ResNet-18", "resnet18"),
        ("optimizer=Adam", "adam"),
        ("optimizer=AdamW", "adamw"),
        ("scheduler=ReduceLROnPlateau", "schedule=plateau"),
        ("loss=sparse_categorical_crossentropy", "cross_entropy"),
        ("criterion=bce", "loss=binary_cross_entropy"),
        ("transforms=[RandomHorizontalFlip,random_crop]", '"preprocessing=[flip,random_crop]"'),
        ("random_state=1", "seed "),
        ("output_dir=x", "paths.output "),
        ("trainer.gradient_clip_val=1", '"regularization=[clip]" regularization.clip.norm=1'),
        ("trainer.fast_dev_run=true", "debug=smoke"),
        ("hydra.run.dir=x", "paths.output=FOLDER name=NAME"),
        ("hydra/launcher=slurm", "`dltrain -m launcher=local launcher.jobs=4 seed=1,2`"),
        ("hydra/sweeper=ax", "`dltrain -m sweep=tpe sweep.trials=20 optimizer.lr=1e-3,1e-2`"),
        ("target=y", "dataset=tabular dataset.path=FILE dataset.target=y"),
        ("optimizer=torch.optim.SGD", "sgd"),
        ("loss=nn.MSELoss", "mse"),
        ("step_size=10", "schedule=step"),
        ("img_dir=x", "dataset=image_folder dataset.path=x"),
        ("max_seq_length=128", "dataset=text_files dataset.path=FOLDER dataset.max_length=128"),
        ("kernel_size=5", "model.kernel_size "),
        ("train.batch_size=32", "dataset.batch_size "),
        ("train.lr=1", "optimizer.lr "),
        ("device=0,1", "cuda"),
        ("device=[0,1]", "cuda"),
        (
            "callbacks=[EarlyStopping,ModelCheckpoint]",
            '"regularization=[early_stopping]" trainer.save_every=1ep',
        ),
        ("dataset=./photos", "dataset=image_folder dataset.path=./photos"),
        ("sede=1", "seed "),
        ("paths.dta=x", "paths.data "),
        ("pths.data=x", "paths.data "),
    ],
)
def test_a_habit_is_answered_with_what_to_type_here(typed: str, here: str) -> None:
    ((what, why),) = problems_of(compose([typed]))
    assert what == typed
    assert f"did you mean {here}" in why
    assert f"did you mean {here}?" in why or here.endswith(" ") or "(" in why


@pytest.mark.parametrize(
    "typed",
    [
        *("logger=wandb", "trainer.logger=tensorboard", "logger.wandb.offline=true"),
        *("test=true", "test=false", "ckpt_path=null", "pretrained=0"),
        *(
            "num_workers=4",
            "shuffle=true",
            "nc=3",
            "trainer.num_sanity_val_steps=0",
            "trainer.limit_val_batches=5",
        ),
    ],
)
def test_a_habit_that_needs_nothing_here_is_told_so(typed: str) -> None:
    ((_, why),) = problems_of(compose([typed]))
    assert "leave it out" in why or "every run logs to" in why
    assert "log_every" not in why


def test_a_key_without_its_group_is_found_in_the_options_that_have_it() -> None:
    ((_, why),) = problems_of(compose(["beam_size=4"]))
    assert why == "no such key here; task.beam_size is a key of task=seq2seq"
    ((_, why),) = problems_of(compose(["num_heads=4"]))
    assert "model.num_heads is a key of model=transformer, " in why


@pytest.mark.parametrize(
    "typed", ["tags=[a]", "batchh=32x", "loger2=wandb", "watsh=5", "zzz=1", "worker_q=1"]
)
def test_a_key_that_is_only_a_little_like_another_is_not_taken_for_it(typed: str) -> None:
    """A suggestion begins with the same letter, and takes the value that was typed."""
    ((_, why),) = problems_of(compose([typed]))
    for wrong in ("trainer.watch", "trainer.log_every", "paths.data", "task?"):
        assert wrong not in why


@pytest.mark.parametrize(
    ("words", "here"),
    [
        (["--epochs", "5"], "trainer.epochs=5"),
        (["--epochs=5"], "trainer.epochs=5"),
        (["-e", "5"], "trainer.epochs=5"),
        (["--batch-size", "8"], "dataset.batch_size=8"),
        (["--learning_rate", "0.1"], "optimizer.lr=0.1"),
        (["--gpus", "1"], "device=cuda"),
        (["--model", "resnet18"], "model=resnet18"),
        (["--data", "mnist"], "dataset=mnist"),
        (["--dataset", "mnist"], "dataset=mnist"),
        (["cnn"], "model=cnn"),
        (["lenet5_mnist"], "experiment=lenet5_mnist"),
        (["--output_dir", "my runs (1)"], "\"paths.output='my runs (1)'\""),
        (["cfg"], "`dltrain config`"),
        (["--info"], "`dltrain config`"),
        (["--name", "x"], "name=x"),
        (["--wandb"], "every run logs to metrics.jsonl and TensorBoard"),
        (["fit"], "`dltrain train`"),
        (["test"], "`dltrain evaluate RUN`"),
        (["val"], "`dltrain evaluate RUN split=val`"),
        (["yolo", "mode=train"], "`dltrain dataset=yolo dataset.path=FOLDER`"),
        (["evalute"], "`dltrain evaluate`"),
        (["epochs", "10"], "trainer.epochs=10?"),
        (["epochs"], "trainer.epochs=..."),
        (["optimizer.lr", "0.01"], "settings are KEY=VALUE; did you mean optimizer.lr=0.01?"),
        (["model", "resnet18"], "did you mean model=resnet18?"),
        (["epochs", "--json"], "trainer.epochs=..."),
        (["trainer.epochs:10"], "trainer.epochs=10"),
        (["data.csv"], "dataset=tabular dataset.path=data.csv dataset.target=COLUMN"),
        (["--push_to_hub"], "nothing is uploaded: leave it out"),
        (["model=mlp", "check"], "check is a command and comes first: dltrain check ..."),
    ],
    ids=str,
)
def test_flags_and_verbs_of_others_are_answered(words: list[str], here: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(Options(argv=words))
    assert here in str(raised.value)


def test_multirun_is_a_flag_here_too() -> None:
    options = Options(argv=["--multirun", "seed=1,2"])
    assert parse(options) is MULTIRUN
    assert options.multirun


def test_a_verb_that_exists_answers_for_a_mode() -> None:
    assert verb_for("Train") == "dltrain train"
    assert verb_for("nonsense") is None
    assert Answer("", "why").text == "; why"


@pytest.mark.parametrize(
    ("typed", "others", "words"),
    [
        ("launcher.n_jobs=4", [], "launcher.jobs=4"),  # not device.threads
        ("launcher.n_jobs=4", ["launcher=inline"], "launcher=local launcher.jobs=4"),
        ("launcher.timeout_min=9", ["launcher=submitit"], "launcher.time=9"),
        ("sweep.n_trials=5", ["sweep=random"], "sweep.trials=5"),
        ("sweep.n_trials=5", [], "sweep=tpe sweep.trials=5"),
        ("sweep.direction=maximize", ["sweep=tpe"], "sweep.mode=max"),
    ],
)
def test_settings_of_other_sweeps(typed: str, others: list[str], words: str) -> None:
    """Settings of sweeps have an answer among the settings of sweeps, which the sweep has."""
    config = compose(others)
    assert not problems_of(config)
    key, _, value = typed.partition("=")
    known = {f"{group}.{name}" for group in groups() for name in config.config.get(group) or {}}
    answer = answer_for(key, value, known.__contains__)
    assert answer is not None
    assert answer.words == words
    assert not problems_of(compose([*others, *words.split()]))


@pytest.mark.parametrize(
    ("group", "name", "option"),
    [("sweep", "optuna", "tpe"), ("sweep", "bayes", "tpe"), ("launcher", "slurm", "submitit")],
)
def test_samplers_and_launchers_of_other_programs(group: str, name: str, option: str) -> None:
    """Names that other programs have for samplers and launchers stand for those here."""
    assert option_for(group, name) == option
