"""Runs of agents by command: resume within an episode, evaluation, pictures, sweeps."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain.callbacks import checkpoint as saving
from dltrain.runs.checkpoint import Store, load

pytest.importorskip("gymnasium")

SHORT = (
    "trainer.epochs=2",
    "trainer.save_every=3",
    "trainer.log_every=2",
    "callbacks=quiet",
    "dataset.episodes=2",
)
LAKE = (
    "dataset=frozenlake",
    "dataset.batch_size=7",
    "dataset.per_epoch=50",
    "model.initial_value=0.5",
    *SHORT,
)
POLE = (
    *(
        "dataset=cartpole",
        "dataset.batch_size=8",
        "dataset.per_epoch=60",
        "task.batch_size=8",
        "task.capacity=64",
    ),
    *("model.hidden_sizes=[8]", "task.target_every=2", *SHORT),
)
RUNS = {
    "sarsa": (*LAKE, "task.method=sarsa"),
    "q_learning": LAKE,
    "double": (*LAKE, "task.method=double_q_learning"),
    "n steps": (*LAKE, "task.method=sarsa", "task.n=4"),
    "traces": (*LAKE, "task.method=sarsa", "task.trace=0.8"),
    "softmax": (*LAKE, "task.policy=softmax", "task.temperature_final=0.1"),
    "episodes": (*LAKE, "dataset.unit=episodes", "dataset.batch_size=2", "dataset.per_epoch=11"),
    "side by side": (*LAKE, "dataset.envs=3", "task.method=sarsa"),
    "dqn": POLE,
    "dqn, several": (*POLE, "dataset.envs=3", "task.prioritized=true"),
}


def folder_of(outcome: Any) -> Path:
    assert outcome.code == 0, outcome.err + outcome.out
    return Path(outcome.json["run"])


def end_of(folder: Path) -> dict[str, Any]:
    state = load(Store(folder / "checkpoints").steps()[-1])
    return {"task": state["task"], "batches": state["batches"], "rng": state["rng"]["torch"]}


@pytest.mark.parametrize("name", RUNS)
def test_a_resume_within_an_episode_ends_bit_for_bit_the_same(
    name: str, dltrain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From every third checkpoint, with actions already taken in the episode under way."""
    monkeypatch.setattr(saving, "KEEP", 1000)
    whole = folder_of(dltrain(*RUNS[name], "--json"))
    names = [path.name for path in Store(whole / "checkpoints").steps()]
    within = 0
    for number, last in enumerate(names[:-1:3]):
        part = whole.parent / f"part{number}"
        shutil.copytree(whole, part)
        for path in Store(part / "checkpoints").steps():
            if path.name > last:
                shutil.rmtree(path)
        for path in [*(part / "checkpoints").glob("stage-*")]:
            shutil.rmtree(path)
        for pointer in ("last", "best"):
            (part / "checkpoints" / pointer).unlink(missing_ok=True)
        (part / "results.json").unlink()
        within += sum(
            len(live["actions"]) for live in load(part / "checkpoints" / last)["batches"]["live"]
        )
        assert folder_of(dltrain("resume", str(part), "--json")) == part
        assert (part / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
        one, other = end_of(part), end_of(whole)
        assert one["batches"].pop("copies") == other["batches"].pop("copies")
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert len(names) > 3
    assert within or name in ("side by side", "episodes"), "no checkpoint lay within an episode"


@pytest.mark.parametrize("name", ["q_learning", "dqn"])
def test_the_same_seed_learns_the_same_and_another_another(name: str, dltrain: Any) -> None:
    one, same, other = (
        (folder_of(dltrain(*RUNS[name], seed, "--json")) / "metrics.jsonl").read_bytes()
        for seed in ("seed=0", "seed=0", "seed=1")
    )
    assert one == same != other


def test_evaluate_reports_mean_standard_deviation_and_interval_over_episodes(dltrain: Any) -> None:
    run = folder_of(dltrain(*POLE, "--json"))
    outcome = dltrain("evaluate", str(run), "dataset.episodes=30", "--json")
    figures = outcome.json["metrics"]
    half = 1.959964 * figures["test/return_std"] / 30**0.5
    assert figures["test/return_std"] > 0
    assert figures["test/return_95_low"] == pytest.approx(figures["test/return"] - half)
    assert figures["test/return_95_high"] == pytest.approx(figures["test/return"] + half)
    assert figures["test/return"] == figures["test/length"]  # CartPole pays 1 a step


def test_a_grid_worlds_policy_is_shown_at_the_end_and_by_evaluate(dltrain: Any) -> None:
    run = dltrain(
        "dataset=cliffwalking", "dataset.per_epoch=3000", "trainer.epochs=2", "task.alpha=1.0"
    )
    assert run.code == 0, run.err
    assert "→ → → → → → → → → → → ↓" in run.out
    assert "-13" in run.out
    folder = next(Path("outputs").glob("*/*"))
    assert "→ → → → → → → → → → → ↓" in dltrain("evaluate", str(folder)).out
    events = b"".join(
        path.read_bytes() for path in (folder / "tensorboard").glob("**/events*")
    )  # hyper-parameters apart
    assert b"test/policy" in events
    assert b"val/policy" in events


@pytest.mark.parametrize("name", ["q_learning", "dqn"])
def test_an_episode_is_written_as_gif(name: str, dltrain: Any) -> None:
    from PIL import Image

    pytest.importorskip("pygame")
    run = folder_of(dltrain(*RUNS[name], "--json"))
    outcome = dltrain("rollout", str(run), "--out", "episode.gif", "--json")
    assert outcome.code == 0, outcome.err
    with Image.open("episode.gif") as picture:
        assert picture.format == "GIF"
        assert 1 < picture.n_frames <= outcome.json["frames"]  # pictures that do not differ are one


def test_a_rollout_of_a_run_without_agent_is_refused(dltrain: Any) -> None:
    run = folder_of(
        dltrain("dataset=synthetic", "model=mlp", "debug=smoke", "callbacks=quiet", "--json")
    )
    outcome = dltrain("rollout", str(run), "--out", "episode.gif")
    assert outcome.code == 2
    assert "a run of Classification has no episodes" in outcome.err


@pytest.mark.parametrize("dataset", ["frozenlake", "cartpole"])
def test_check_measures_a_batch_of_steps(dataset: str, dltrain: Any) -> None:
    outcome = dltrain("check", f"dataset={dataset}", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["parameters"] > 0
    assert outcome.json["epoch_seconds"] > 0


def test_a_sweep_over_seeds_leaves_curves_and_means(dltrain: Any) -> None:
    grid = (
        "experiment=sarsa_cliffwalking,qlearning_cliffwalking",
        "seed=0,1",
        "dataset.per_epoch=12",
    )
    outcome = dltrain("-m", "launcher=inline", *grid, "callbacks=quiet", "expect={}", "--json")
    assert outcome.code == 0, outcome.err
    sweep = Path(outcome.json["sweep"])
    assert (sweep / "curves.png").stat().st_size > 1000
    assert "mean train/return" in outcome.out
    assert len(list(csv.DictReader((sweep / "results.csv").read_text().splitlines()))) == 4


MINE = """
import gymnasium

class Corridor(gymnasium.Env):
    \"\"\"Walk right to the end: a step costs 1.\"\"\"

    def __init__(self, size: int = 4) -> None:
        self.size, self.place = size, 0
        self.observation_space = gymnasium.spaces.Discrete(size)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return 0, {}

    def step(self, action):
        self.place = max(0, self.place + 2 * int(action) - 1)
        return self.place, -1.0, self.place == self.size - 1, False, {}
"""


def test_an_environment_of_the_users_own_is_learned(
    dltrain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The corridor's end is size - 1 steps away; a saved run builds it only if named again."""
    Path("mycorridor.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
    make = "dataset.make={_target_: mycorridor.Corridor, _partial_: true, size: 6}"
    words = (
        "dataset=gymnasium",
        make,
        "task=temporal_difference",
        "model=q_table",
        "dataset.max_episode_steps=50",
    )
    words += ("dataset.per_epoch=400", "trainer.epochs=1", "callbacks=quiet", "--json")
    refused = dltrain(*words)
    assert refused.code == 2
    assert "plugins=[mycorridor]" in refused.err
    outcome = dltrain(*words, "plugins=[mycorridor]")
    assert outcome.code == 0, outcome.err
    assert outcome.json["metrics"]["test/return"] == -5
    assert dltrain("evaluate", "last").code == 2
    assert dltrain("evaluate", "last", "plugins=[mycorridor]").code == 0
    sys.modules.pop("mycorridor")
