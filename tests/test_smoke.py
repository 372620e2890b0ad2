"""Every choice runs: two steps offline, finite metrics, moved parameters, a checkpoint
that loads.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from dltrain.config.compose import compose
from dltrain.config.composing.composition import compose_files
from dltrain.config.composing.defaults import option_names
from dltrain.config.groups import groups
from dltrain.experiment.experiment import Experiment
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store

DATA = {  # what a model reads that reads no images
    **dict.fromkeys(
        ("rnn_lm", "lstm_lm", "gru_lm", "transformer_lm"),
        ("dataset=shakespeare", "dataset.length=16"),
    ),
    **dict.fromkeys(("seq2seq", "seq2seq_attention", "transformer_seq2seq"), ("dataset=reversal",)),
    **dict.fromkeys(("word2vec", "cbow", "fasttext_vectors"), ("dataset=imdb_words",)),
    "fasttext": ("dataset=imdb", "model.buckets=1000"),
    "q_table": ("dataset=frozenlake",),
    "faster_rcnn": ("dataset=digit_scenes",),
    "q_network": ("dataset=cartpole",),
    "unrolled_autoencoder": (
        "dataset=synthetic",
        "dataset.scaling=unit",
        "model.hidden_sizes=[32,16]",
    ),
}

TINY = (
    "dataset=synthetic",
    "dataset.source.height=32",
    "dataset.source.width=32",
    "dataset.batch_size=4",
)
DATA |= {"torchvision": (*TINY, "model.name=squeezenet1_1")}
DATA |= dict.fromkeys(("fasttext_imdb", "fasttext_vectors_imdb"), ("model.buckets=1000",))
DATA |= dict.fromkeys(
    (name for name in groups()["experiment"] if name.endswith("_cifar10")),
    ("dataset.batch_size=2",),
)


DATA |= {  # what these start from
    "transfer_ants_bees": ("init.from=null",),
    "bilstm_word2vec_imdb": ("model.embedding.from=null",),
    "lora_shakespeare": ("init.from=null",),
}


def chosen(experiment: str) -> set[tuple[str, str]]:
    """The (group, option) pairs of an experiment: they run where it runs."""
    choices = compose_files({"experiment": experiment})[1]
    return {(group, option) for group, choice in choices.items() for option in option_names(choice)}


EXPERIMENTS = groups()["experiment"]
SEEN = set().union(*map(chosen, EXPERIMENTS))
# Deep networks that are in no experiment differ from those that are in depth alone, and
# test_vision.py has them.
SEEN |= {
    ("model", name)
    for name in groups()["model"]
    if name.startswith(("vgg1", "resnet34", "resnet101", "densenet169"))
}
GROUPS = ("model", "dataset", "optimizer", "schedule", "loss", "regularization")
ALONE = [(group, name) for group in GROUPS for name in groups()[group] if (group, name) not in SEEN]
CHOICES = [[f"experiment={name}", *DATA.get(name, ())] for name in EXPERIMENTS]
for group, name in ALONE:
    fitting = (
        DATA.get(name, ("dataset=synthetic", "dataset.scaling=unit")) if group == "model" else ()
    )
    CHOICES.append(
        [f"{group}=[{name}]" if group == "regularization" else f"{group}={name}", *fitting]
    )

# batches of a few, and what is written after each evaluation is no longer than it has to be
BRIEF = {
    "language_modeling": ["dataset.batch_size=2", "task.sample_tokens=4"],
    "seq2seq": ["dataset.batch_size=4", "task.length_ratio=0.1"],
    "detection": ["dataset.batch_size=1"],
}
SCORES = {  # what a task scores at least
    "distillation": ["test/accuracy", "test/f1", "test/auroc"],
    "classification": ["test/accuracy", "test/f1", "test/auroc", "test/ece"],
    "ensemble": ["test/accuracy", "test/gain", "test/disagreement", "test/member_5"],
    "regression": ["test/mse", "test/r2"],
    "forecasting": ["test/mse", "test/r2", "test/relative_error"],
    "autoencoding": ["test/error"],
    "pruning": ["test/accuracy", "test/sparsity", "test/dense_accuracy"],
    "deep_belief": [
        "val/reconstruction_error",  # of the first stages
        "val/free_energy_gap",
        "test/accuracy",
    ],
    "supernet": ["test/accuracy", "test/parameters", "val/loss"],
    "quantization": ["test/accuracy", "test/float_accuracy", "test/size_ratio"],
    "adversarial": ["test/diversity"],
    "language_modeling": ["test/perplexity", "test/bits"],
    "seq2seq": ["test/bleu", "test/exact_match"],
    "embedding": ["test/loss"],
    "detection": ["test/loss", "test/map", "test/map50"],
    "temporal_difference": ["test/return", "train/td_error"],
    "dqn": ["test/return", "train/td_error"],
    "deep_autoencoding": ["val/reconstruction_error", "val/free_energy_gap", "test/error"],
}
NOTE = "debug=smoke: 2 steps a stage on fake data; the figures mean nothing"


def trained_stages(run: Path) -> dict[str, int]:
    """Return the number of steps of each stage in a run's log."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return dict(Counter(line["stage"] for line in lines if line["split"] == "train"))


@pytest.mark.parametrize("overrides", CHOICES, ids=lambda overrides: " ".join(overrides))
def test_every_choice_smokes(overrides: list[str], dltrain) -> None:
    """The run ends well on two steps a stage of fake data, and says that the data were fake.

    Its last checkpoint loads and differs from a fresh network.
    """
    task = compose(overrides).choices["task"]
    overrides = [*overrides, *BRIEF.get(task, ())]
    outcome = dltrain(*overrides, "debug=smoke", "callbacks=quiet", "--json")
    assert outcome.code == 0, outcome.err
    results = outcome.json
    composed = compose([*overrides, "debug=smoke"])
    stages = [stage.name for stage in Experiment.to_train(composed.config).task.stages()]
    assert trained_stages(Path(results["run"])) == dict.fromkeys(stages, 2)
    assert results["steps"] == 2 * len(stages)
    assert results["status"] == "completed"
    assert results["note"] == NOTE
    assert all(math.isfinite(v) for v in results["metrics"].values())
    assert {"train/loss", *SCORES[task]} <= set(results["metrics"])
    folder = Store(Path(results["run"]) / "checkpoints").pointed("last")
    state = checkpoint.load(folder)
    fresh = Experiment.to_train(composed.config).task
    initial = {name: p.detach().clone() for name, p in fresh.named_parameters()}
    fresh.load_state_dict(state["task"])  # which may change layers, such as to quantized ones
    assert state["task"].keys() == fresh.state_dict().keys()
    scored = {name.removeprefix("test/") for name in results["metrics"] if name.startswith("test/")}
    assert scored <= set(fresh.directions()), "every metric declares which way it is better"
    moved = [
        name
        for name, p in initial.items()
        if name in state["task"] and not torch.equal(state["task"][name], p)
    ]
    assert moved, "no parameter moved"
