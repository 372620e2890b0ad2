"""Ensembles: members in stages of their own, rules of combination, resume, refusals."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import History

from dltrain import rng
from dltrain.callbacks.checkpoint import Checkpoint
from dltrain.config.compose import compose
from dltrain.engine import Callback, Engine, Resume
from dltrain.experiment.experiment import Experiment
from dltrain.runs import checkpoint
from dltrain.runs.checkpoint import Store
from dltrain.tasks.ensembles.combiners import (
    Stacking,
    majority_vote,
    mean_of_probabilities,
)
from dltrain.tasks.ensembles.member_scores import MemberScores
from dltrain.tasks.ensembles.networks import Soup, mean_state
from dltrain.tasks.images.explanation import hires_cam

SMALL = (
    *("dataset=digits", "dataset.batch_size=256", "model=mlp", "model.hidden_sizes=[8]"),
    *("trainer.epochs=2", "callbacks=quiet", "device.threads=1"),
)
TWO = (*SMALL, "task=ensemble", "task.members=2")


assert_same = functools.partial(torch.testing.assert_close, rtol=0, atol=0)


def built(*overrides: str) -> Any:
    """Return the task of an experiment on small data."""
    composed = compose(overrides)
    assert not composed.problems, composed.problems
    return Experiment.to_train(composed.config).task


def records(run: str) -> list[dict[str, Any]]:
    """Return the lines of a run's log."""
    lines = (Path(run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_an_ensemble_of_one_is_its_member(dltrain: Any) -> None:
    """Every number that a classification logs is the same, also dropout and averaged weights."""
    more = ("regularization=[dropout,ema]", "--json")
    alone = dltrain(*SMALL, *more).json
    for combine in ("mean", "vote"):
        one = dltrain(
            *SMALL, "task=ensemble", "task.members=1", f"task.combine={combine}", *more
        ).json
        assert {name: one["metrics"][name] for name in alone["metrics"]} == alone["metrics"]
        assert one["metrics"]["test/gain"] == one["metrics"]["test/disagreement"] == 0
        shared = [{**record, "stage": "member_1"} for record in records(alone["run"])]
        logged = [
            {name: value for name, value in record.items() if name in expected}
            for record, expected in zip(records(one["run"]), shared, strict=True)
        ]
        assert logged == shared


def test_members_differ_in_weights_and_order_and_the_first_is_the_single_network() -> None:
    task = built(*TWO)
    first, second = task.ensemble.members
    single = built(*SMALL).model
    assert_same(dict(first.state_dict()), dict(single.state_dict()))
    weights = [next(network.parameters()) for network in (first, second)]
    assert not torch.equal(*weights)
    batches = [next(iter(task._batches(number).epoch(0))) for number in (0, 1)]
    assert not torch.equal(batches[0][1], batches[1][1])
    assert torch.equal(batches[0][1], next(iter(task.data.train.epoch(0)))[1])


def test_logged_members_are_those_of_the_table(dltrain: Any) -> None:
    outcome = dltrain(*TWO, "--json").json
    again = dltrain("evaluate", outcome["run"], "--json").json
    table = again["members"]
    metrics = again["metrics"]
    assert list(table) == ["member 1", "member 2", "mean of probabilities", "ensemble"]
    for number in (1, 2):
        assert table[f"member {number}"]["accuracy"] == metrics[f"test/member_{number}"]
    assert table["ensemble"]["accuracy"] == pytest.approx(metrics["test/accuracy"])
    assert metrics["test/gain"] == table["ensemble"]["accuracy"] - metrics["test/best_member"]
    assert {name: metrics[name] for name in metrics} == {
        name: outcome["metrics"][name] for name in metrics
    }


def test_the_scores_of_members() -> None:
    """Two of three samples are classified differently by the pair; the mean is right twice."""
    logits = torch.tensor(
        [[[2.0, 0.0], [0.0, 2.0], [3.0, 0.0]], [[0.0, 1.0], [0.0, 2.0], [0.0, 1.0]]]
    )
    scores = MemberScores(["a", "b"])
    combined = mean_of_probabilities(logits)
    for rows in ([0], [1, 2]):
        scores.update(logits[:, rows], combined[rows], torch.tensor([0, 1, 1])[rows])
    found = scores.compute()
    assert found["disagreement"] == pytest.approx(2 / 3)
    assert (found["member_1"], found["member_2"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert found["accuracy_of_mean"] == pytest.approx(2 / 3)
    assert found["gain"] == pytest.approx(0)


def test_a_vote_follows_the_majority_and_the_mean_decides_a_tie() -> None:
    sure = torch.tensor([[9.0, 0.0, 0.0]])
    unsure = torch.tensor([[0.0, 0.1, 0.0]])
    other = torch.tensor([[0.0, 0.0, 0.2]])
    assert majority_vote(torch.stack([sure, unsure, unsure])).argmax() == 1
    assert mean_of_probabilities(torch.stack([sure, unsure, unsure])).argmax() == 0
    tie = majority_vote(torch.stack([unsure, sure, other]))
    assert tie.argmax() == 0
    assert tie.softmax(dim=1).sum() == pytest.approx(1)
    assert torch.allclose(tie.exp().sum(), torch.ones(())), "they are log-probabilities"


def test_stacking_learns_which_member_to_trust() -> None:
    """Without a fit it averages logarithms; a high penalty keeps it there."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (400,), generator=generator)
    good = 3 * torch.nn.functional.one_hot(targets, 3).float()
    bad = 3 * torch.randn(400, 3, generator=generator)
    logits = torch.stack([good, bad])
    stacking = Stacking(2, 3, 1e-3)
    average = logits.log_softmax(dim=2).mean(dim=0)
    assert torch.allclose(stacking(logits), average)
    before = torch.nn.functional.cross_entropy(stacking(logits), targets)
    assert stacking.fit(logits, targets) < 0.3 * before
    assert (stacking(logits).argmax(dim=1) == targets).all()
    held = Stacking(2, 3, 1e6)
    held.fit(logits, targets)
    assert torch.allclose(held(logits), average, atol=1e-3)


def test_a_soup_keeps_only_what_helps() -> None:
    networks = [torch.nn.Linear(1, 1, bias=False) for _ in range(3)]
    for network, weight in zip(networks, (1.0, 3.0, 50.0), strict=True):
        torch.nn.init.constant_(network.weight, weight)
    soup = Soup(networks)

    def score() -> float:
        return -abs(float(soup.mixture.weight) - 2)

    with torch.no_grad():
        assert soup.stir(score, lambda network: None) == 0
    assert soup.chosen.tolist() == [True, True, False]
    assert soup.mixture.weight.tolist() == [[2.0]]
    mean = mean_state([network.state_dict() for network in networks[:2]])
    assert torch.equal(mean["weight"], torch.full((1, 1), 2.0))


def run(task: Any, folder: Path, resume: Resume | None = None) -> tuple[Engine, History]:
    """Fit with history and, of a whole run, a checkpoint at every step; seeds the generators."""
    rng.seed_all(3)
    store, history = Store(folder), History()
    store.prune = lambda keep: None  # type: ignore[method-assign]  # keep all of them
    saver = Checkpoint(store)

    class EveryStep(Callback):
        def step_end(self, engine: Engine) -> None:
            saver.save(engine)

    engine = Engine([history, saver, *([] if resume else [EveryStep()])])
    engine.fit(task, resume)
    return engine, history


def figures(scores: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of an evaluation."""
    return {name: value for name, value in scores.items() if isinstance(value, float)}


SYSTEMS: dict[str, Callable[[], Any]] = {
    "averaged seeds": lambda: built(*TWO, "regularization=[dropout,ema]"),
    "folds, vote": lambda: built(*TWO, "task.method=folds", "task.combine=vote"),
    "snapshots, stacking": lambda: built(*TWO, "task.method=snapshot", "task.combine=stacking"),
    "soup of averages": lambda: built(
        *TWO, "task.method=shared", "task.combine=soup", "regularization=[ema]"
    ),
    "calibrated": lambda: built(*SMALL, "task.calibrate=temperature", "regularization=[ema]"),
}


@pytest.mark.usefixtures("quick_disk", "save_every_epoch")
@pytest.mark.parametrize("system", SYSTEMS)
def test_an_ensemble_resumes_bit_for_bit_in_every_stage(system: str, tmp_path: Path) -> None:
    make = SYSTEMS[system]
    whole, history = run(make(), tmp_path / "whole")
    store = Store(tmp_path / "whole")
    ends, resumed = store.stage_ends(), set()
    assert len(history.scores) >= 3
    for number, folder in enumerate(store.steps()[::2]):
        state = checkpoint.load(folder)
        before = {i: end for i, end in ends.items() if i < state["index"]}
        engine, again = run(make(), tmp_path / str(number), Resume(state, before))
        late = {step: m for step, m in history.metrics.items() if step > state["step"]}
        assert_same(again.metrics, late)
        assert_same(engine.state_dict()["task"], whole.state_dict()["task"])
        shown = [figures(scores) for step, scores in history.scores if step > state["step"]]
        shown_again = [figures(scores) for step, scores in again.scores if step > state["step"]]
        assert shown_again == shown
        resumed.add(state["index"])
    assert resumed == set(range(whole.index + 1))


def test_averaged_weights_stay_when_the_next_member_is_trained(tmp_path: Path) -> None:
    """A member scores in the ensemble as it scored at the end of its own stage."""
    task = built(*TWO, "regularization=[ema]")
    _, history = run(task, tmp_path)
    ends = [scores for _, scores in history.scores]
    alone, together = ends[1], ends[-1]
    assert together["val/member_1"] == pytest.approx(alone["val/accuracy"])


def test_each_sample_is_left_out_by_one_member() -> None:
    task = built(*TWO, "task.members=3", "task.method=folds")
    order = task.data.train.order
    seen = []
    for number in range(3):
        split = task._batches(number)
        batches = list(split.epoch(1))
        assert [len(targets) for _, targets in batches] == split.sizes
        assert sum(split.sizes) == split.samples
        for start in range(len(split) + 1):
            later = list(split.epoch(1, start))
            assert_same([list(batch) for batch in later], [list(b) for b in batches[start:]])
        epoch = split.first_epoch + 1
        kept = order(epoch)[task.folds.folds_of(epoch) != number]
        whole = torch.cat([inputs for inputs, _ in task.data.train.epoch(epoch)])
        expected = whole[task.folds.folds_of(epoch) != number]
        assert torch.equal(torch.cat([inputs for inputs, _ in batches]), expected)
        seen += kept.tolist()
    counts = torch.bincount(torch.tensor(seen))
    assert counts[counts > 0].unique().tolist() == [2]


def test_snapshots_continue_and_shared_members_begin_alike() -> None:
    task = built(*TWO, "task.method=snapshot")
    first, second = task.ensemble.members
    stages = task.stages()
    next(stages)
    with torch.no_grad():
        next(first.parameters()).fill_(7)
    next(stages)
    assert_same(dict(second.state_dict()), dict(first.state_dict()))
    shared = built(*TWO, "task.method=shared")
    next(shared.stages())
    one, other = (dict(network.state_dict()) for network in shared.ensemble.members)
    assert_same(one, other)


def test_all_members_begin_with_the_weights_of_a_run(dltrain: Any) -> None:
    run_folder = dltrain(*SMALL, "--json").json["run"]
    task = built(*TWO, f"init.from={run_folder}")
    one, other = (dict(network.state_dict()) for network in task.ensemble.members)
    assert_same(one, other)
    assert not torch.equal(next(iter(one.values())), next(built(*SMALL).model.parameters()))


def test_members_may_be_finished_runs(dltrain: Any) -> None:
    """The same figures as `dltrain evaluate RUN RUN`, at once and from the checkpoint."""
    runs = [
        dltrain(*SMALL, f"seed={seed}", f"dataset.scaling={scaling}", "--json").json["run"]
        for seed, scaling in ((0, "standardize"), (1, "unit"))
    ]
    names = f"task.runs=[{','.join(runs)}]"
    outcome = dltrain(*SMALL, "task=ensemble", names, "--json")
    assert outcome.code == 0, outcome.err
    expected = dltrain("evaluate", *runs, "--json").json["metrics"]
    for name, value in expected.items():
        assert outcome.json["metrics"][name] == pytest.approx(value, abs=1e-5), name
    again = dltrain("evaluate", outcome.json["run"], "--json").json
    assert list(again["members"])[:2] == [Path(run).name for run in runs]
    assert again["metrics"]["test/accuracy"] == outcome.json["metrics"]["test/accuracy"]
    stacked = dltrain(*SMALL, "task=ensemble", names, "task.combine=stacking", "--json")
    assert stacked.json["metrics"]["train/loss"] < expected["test/nll"]
    assert dltrain("check", *SMALL, "task=ensemble", names).code == 0
    vote = dltrain(*SMALL, "task=ensemble", names, "task.method=folds")
    assert vote.code == 2
    assert "finished runs are not trained" in vote.err
    both = dltrain(*SMALL, "task=ensemble", names, "task.members=2")
    assert both.code == 2
    assert "the members are those runs" in both.err


def test_runs_with_other_classes_are_no_members(dltrain: Any) -> None:
    other = dltrain("dataset=wine", "model=perceptron", "trainer.steps=1", "--json").json["run"]
    before = len(list(Path("outputs").glob("*/*")))
    outcome = dltrain(*SMALL, "task=ensemble", f"task.runs=[{other}]")
    assert outcome.code == 3
    assert "has other classes than this run" in outcome.err
    assert len(list(Path("outputs").glob("*/*"))) == before


def test_the_samples_of_a_fold_are_predicted_by_the_member_without_them(dltrain: Any) -> None:
    outcome = dltrain(*TWO, "task.method=folds", "--json")
    assert outcome.code == 0, outcome.err
    accuracy = outcome.json["metrics"]["train/out_of_fold_accuracy"]
    task = built(*TWO, "task.method=folds")
    state = checkpoint.load(Store(Path(outcome.json["run"]) / "checkpoints").pointed("last"))
    task.load_state_dict(state["task"])
    task.eval()
    rows, hits = task.folds.order(0), 0
    inputs, targets = (torch.cat(part) for part in zip(*task.data.train.epoch(0), strict=True))
    for number, network in enumerate(task.ensemble.members):
        own = task.folds.fold_of_row[rows] == number
        hits += int((network(inputs[own]).argmax(dim=1) == targets[own]).sum())
    assert accuracy == pytest.approx(hits / len(targets))


MODELS = "task.models={small: {_target_: dltrain.models.perceptron.Perceptron}}"


def test_members_may_be_different_networks(dltrain: Any) -> None:
    outcome = dltrain(*SMALL, "task=ensemble", MODELS, "initialization=he", "--json")
    assert outcome.code == 0, outcome.err
    again = dltrain("evaluate", outcome.json["run"], "--json").json
    assert list(again["members"])[:2] == ["model", "small"]
    predicted = dltrain("predict", outcome.json["run"], "split=test", "--json")
    assert predicted.code == 0, predicted.err


def test_views_of_images_are_averaged(dltrain: Any) -> None:
    one = dltrain(*SMALL, "task=ensemble", "task.members=2", "--json").json["run"]
    outcome = dltrain("evaluate", one, "tta=shift", "--json")
    assert outcome.code == 0, outcome.err
    metrics = outcome.json["metrics"]
    assert metrics["test/accuracy"] == pytest.approx(metrics["test/accuracy_of_mean"])


def test_an_explanation_is_about_the_class_of_the_ensemble() -> None:
    """A network without a convolution has no evidence to show."""
    task = built(*TWO, "model=cnn")
    images = torch.randn(3, 1, 8, 8)
    task.eval()
    picture = task.explain(images)
    assert picture.pixels.shape == (3, 3, 8, 16)
    each = [hires_cam(m, images, task.logits(images).argmax(1)) for m in task.ensemble.members]
    assert_same(task.evidence(images), (each[0] + each[1]) / 2)
    with pytest.raises(ValueError, match="no convolution"):
        built(*TWO).explain(images)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["task.members=2", MODELS], "leave it out with task.models"),
        ([MODELS, "task.combine=soup"], "needs members with the same layers"),
        ([MODELS, "task.method=snapshot"], "needs members with the same layers"),
        (["task.method=folds", "task.members=1"], "the only member would have no samples"),
        (["task.method=folds", "dataset.balance=sampler"], "samples several times"),
        (["task.combine=stacking", "dataset.val_fraction=0"], "learns from validation samples"),
        (["task.members=0"], "expected"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(
    settings: list[str], why: str, dltrain: Any
) -> None:
    outcome = dltrain(*SMALL, "task=ensemble", *settings)
    assert outcome.code == 2
    assert why in outcome.err
    assert not Path("outputs").exists()
