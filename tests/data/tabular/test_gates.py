"""Logic gates: the truth tables, and what one line can and cannot tell apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dltrain.data.tabular.gates import OUTPUTS, Gates

TRUTH: dict[str, Callable[[int, int], bool]] = {
    "and": lambda a, b: bool(a and b),
    "or": lambda a, b: bool(a or b),
    "nand": lambda a, b: not (a and b),
    "nor": lambda a, b: not (a or b),
    "xor": lambda a, b: a != b,
    "xnor": lambda a, b: a == b,
}


@pytest.mark.parametrize("scaling", ["unit", "standardize"])
@pytest.mark.parametrize("gate", OUTPUTS)
def test_every_split_is_the_truth_table(gate: str, scaling: str) -> None:
    data = Gates(gate, scaling=scaling)  # type: ignore[arg-type]
    low = 0 if scaling == "unit" else -1
    for split in (data.train, data.val, data.test):
        batches = list(split.epoch(0))
        rows = {
            tuple(x.flatten().tolist()): int(y)
            for xs, ys in batches
            for x, y in zip(xs, ys, strict=True)
        }
        assert rows == {
            (a or low, b or low): int(TRUTH[gate](a, b)) for a in (0, 1) for b in (0, 1)
        }


def test_a_perceptron_learns_the_gates_that_a_line_separates(dltrain) -> None:
    outcome = dltrain(
        "-m",
        "launcher=inline",
        "experiment=perceptron_gates",
        "callbacks=quiet",
        "dataset.gate=and,or,nand,nor,xor",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    accuracies = [job["metrics"]["test/accuracy"] for job in outcome.json["jobs"]]
    assert accuracies[:4] == [1.0] * 4
    assert accuracies[4] <= 0.75
    met = [job["expect"]["test/accuracy"]["met"] for job in outcome.json["jobs"]]
    assert met == [True] * 4 + [False]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_order_of_the_rows_does_not_matter(seed: int, dltrain) -> None:
    outcome = dltrain("experiment=perceptron_gates", "callbacks=quiet", f"seed={seed}", "--json")
    assert outcome.json["metrics"]["test/accuracy"] == 1.0
