"""The supernet: its paths and their networks, the search over them, and exact resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from outcome import Outcome
from torch import nn

from dltrain.engine import Batches
from dltrain.models.search.supernet import Supernet
from dltrain.runs.folder import METRICS
from dltrain.tasks.search.candidates import (
    CandidatePaths,
    Population,
    front,
    front_text,
    smallest_of_best,
)
from dltrain.types import PathNetwork

Command = Callable[..., Outcome]
TINY = (
    *("model=supernet", "model.channels=[4,8]", "model.kernel_sizes=[3]", "dataset=digits"),
    *("dataset.batch_size=64", "task.supernet_epochs=1", "task.population=3", "trainer.epochs=1"),
    *("task.generations=2", "task.calibration_batches=2", "callbacks=quiet", "device.threads=1"),
)

INTERRUPTION = (
    "plugins=[own_interruption]",
    "callbacks.own={_target_: own_interruption.InterruptAt}",
)


@pytest.fixture(autouse=True)
def quick(quick_disk: None) -> None:
    """Wait for no disk."""


def tiny(**settings: object) -> Supernet:
    torch.manual_seed(0)
    return Supernet(2, (8, 8), 5, channels=(8, 12), **settings)  # type: ignore[arg-type]


def paths_of(model: Supernet, count: int = 6) -> list[tuple[int, ...]]:
    population = Population(model, "random", count, 1, None)
    return [*population.generation(0, 1, []), tuple(model.widest())]


def test_a_path_gives_the_outputs_of_its_own_network() -> None:
    """Both in training, with the statistics of the batch, and with those of many batches."""
    model = tiny()
    images = torch.randn(16, 2, 8, 8)
    assert isinstance(model, PathNetwork)
    for path in paths_of(model):
        alone = model.alone(path)
        torch.testing.assert_close(model(images, path), alone(images))
        model.compute_statistics([images], path)
        alone.train()
        for module in alone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        alone(images)
        torch.testing.assert_close(model.eval()(images, path), alone.eval()(images))
        assert model.parameters_of(path) == sum(p.numel() for p in alone.parameters())
        model.train()


def test_a_path_has_gradients_in_its_own_weights_only() -> None:
    model = tiny(widths=(1.0,), skip=False)
    path = model.widest()
    F.cross_entropy(model(torch.randn(4, 2, 8, 8), path), torch.tensor([0, 1, 2, 3])).backward()
    for name, p in model.named_parameters():
        is_first = ".0.conv" in name or ".0.norm" in name or name.startswith("head")
        assert (p.grad is not None) == is_first, name


def test_a_kept_path_is_the_whole_network() -> None:
    model = tiny()
    path = paths_of(model)[0]
    images = torch.randn(4, 2, 8, 8)
    expected = model(images, path)
    count = model.parameters_of(path)
    model.keep(path)
    assert model.options() == []
    torch.testing.assert_close(model(images), expected)
    assert sum(p.numel() for p in model.parameters()) == count


def test_counting_parameters_draws_no_random_number() -> None:
    model = tiny()
    before = torch.get_rng_state()
    model.parameters_of(model.widest())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"widths": (0.5,)}, "needs the entry 1.0"),
        ({"kinds": ()}, "need an entry each"),
        ({"channels": (4, 4, 4, 4)}, "8x8 pixels are too few"),
    ],
)
def test_a_supernet_without_choices_or_pixels_is_refused(
    settings: dict[str, object], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Supernet(1, (8, 8), 5, **settings)  # type: ignore[arg-type]


def test_generations_follow_from_the_seed_and_the_scores() -> None:
    model = tiny()
    scores = [0.1, 0.9, 0.3, 0.2]
    population = Population(model, "evolution", 4, 2, None)
    first = population.generation(0, 7, [])
    second = population.generation(1, 7, scores)
    again = Population(model, "evolution", 4, 2, None)
    assert again.generation(1, 7, scores) == second  # a resume knows the scores alone
    assert again.path(2, 7, scores) == first[2]
    assert not set(first) & set(second)
    assert again.generation(1, 8, scores) != second
    assert again.generation(1, 7, [0.9, 0.1, 0.3, 0.2]) != second


def test_children_are_like_the_best_paths() -> None:
    """A mutation of 0.1 of the places, and one more, leaves most of a parent as it is."""
    model = tiny()
    population = Population(model, "evolution", 20, 2, None)
    first = population.generation(0, 3, [])
    scores = [1.0 if i in (4, 5) else 0.0 for i in range(20)]
    parents = population._parents(first, scores)
    assert {first[4], first[5]} <= {*parents}
    places = len(model.options())
    for child in population.generation(1, 3, scores)[::2]:
        shared = (sum(a == b for a, b in zip(child, one, strict=True)) for one in parents)
        assert max(shared) > places / 2


def test_paths_are_small_enough_or_the_limit_is_refused() -> None:
    model = tiny()
    counts = sorted(model.parameters_of(path) for path in paths_of(model, 20))
    limit = counts[10]
    population = Population(model, "evolution", 8, 2, limit)
    paths = population.generation(1, 0, [0.5] * 8)
    assert all(model.parameters_of(path) <= limit for path in paths)
    with pytest.raises(ValueError, match=r"task\.max_parameters=10 "):
        Population(model, "random", 8, 2, 10)


def test_candidates_continue_within_a_generation() -> None:
    population = Population(tiny(), "evolution", 4, 2, None)
    scores = torch.tensor([0.1, 0.9, 0.3, 0.2, -1, -1, -1, -1])
    batches: Batches = CandidatePaths(population, 0, scores)
    whole = list(batches.epoch(1))
    assert [number for number, _ in whole] == [4, 5, 6, 7]
    assert list(batches.epoch(1, 3)) == whole[3:]


def test_the_front_and_the_choice_on_it() -> None:
    points = {0: (100, 0.9), 1: (50, 0.89), 2: (60, 0.8), 3: (200, 0.9), 4: (50, 0.5)}
    assert front(points) == [1, 0]
    assert smallest_of_best(points, 0.0) == 0
    assert smallest_of_best(points, 0.02) == 1
    text = front_text(points, {1: "a", 0: "b"}).markdown
    assert text.splitlines()[2:] == ["| 1 | 50 | 0.8900 | a |", "| 0 | 100 | 0.9000 | b |"]


def test_a_run_searches_and_trains_the_chosen_path(dltrain: Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = dltrain(*TINY, f"hydra.run.dir={run}", "--json")
    assert outcome.code == 0, outcome.err
    metrics = outcome.json["metrics"]
    assert metrics["test/parameters"] == outcome.json["parameters"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["stage"] for line in lines if "val/accuracy" in line] == ["supernet", "train"]
    evaluated = dltrain("evaluate", str(run), "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["metrics"]["test/accuracy"] == metrics["test/accuracy"]
    assert evaluated.json["metrics"]["test/parameters"] == metrics["test/parameters"]


@pytest.mark.parametrize("steps", [10, 22, 25, 40])  # in "supernet", "search" twice, and "train"
def test_a_stopped_run_continues_to_the_same_result(
    dltrain: Command, tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    part = tmp_path / "part"
    words = (*TINY, *INTERRUPTION, "trainer.log_every=1")
    assert dltrain(*words, f"hydra.run.dir={whole}").code == 0
    monkeypatch.setenv("INTERRUPT_AT", str(steps))
    assert dltrain(*words, f"hydra.run.dir={part}").code == 143
    monkeypatch.delenv("INTERRUPT_AT")
    rest = dltrain("resume", str(part), INTERRUPTION[0])
    assert rest.code == 0, rest.err
    assert (part / METRICS).read_bytes() == (whole / METRICS).read_bytes()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["model=cnn", "task=supernet"], "model=supernet has"),
        ([*TINY, "device.processes=2"], "decisions that several processes cannot share"),
        ([*TINY, "task.max_parameters=5"], "set a higher limit"),
    ],
)
def test_what_cannot_be_searched_is_refused(dltrain: Command, words: list[str], why: str) -> None:
    outcome = dltrain(*words, "callbacks=quiet")
    assert outcome.code == 2
    assert why in outcome.err
