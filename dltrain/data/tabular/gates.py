"""Logic gates: four rows of two bits, which a line separates for AND and OR, but not for XOR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dltrain.data.images.in_memory import InMemory
from dltrain.types import BatchSize, PositiveInt, Spec, Transform

INPUTS = ((0, 0), (0, 1), (1, 0), (1, 1))
OUTPUTS = {
    "and": (0, 0, 0, 1),
    "or": (0, 1, 1, 1),
    "nand": (1, 1, 1, 0),
    "nor": (1, 0, 0, 0),
    "xor": (0, 1, 1, 0),
    "xnor": (1, 0, 0, 1),
}
Gate = Literal["and", "or", "nand", "nor", "xor", "xnor"]


class Truth:
    """The truth table of `gate` as images (1, 1, 2): black pixels are 0, white ones 1.

    The classes are 0 and 1. Training, validation and test set are the same four rows.
    """

    spec = Spec(
        input_shape=(1, 1, 2),
        class_names=("0", "1"),
        train_samples=4,
        test_samples=4,
        mean=(127.5,),
        std=(127.5,),
    )

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return images (4, 1, 1, 2) and classes (4,) of every set."""
        inputs = torch.tensor(INPUTS, dtype=torch.uint8).mul(255).view(4, 1, 1, 2)
        rows = (inputs, torch.tensor(OUTPUTS[self.gate]))
        return dict.fromkeys(("train", "val", "test"), rows)


class Gates(InMemory):
    """One gate to learn, from bits 0 and 1 (`scaling` unit) or -1 and 1 (standardize).

    A perceptron learns every gate but XOR and XNOR, of which it predicts at most three rows: no
    line separates their classes (Minsky and Papert 1969).
    """

    def __init__(
        self,
        gate: Gate = "and",
        batch_size: BatchSize = 1,
        epochs: PositiveInt = 20,
        scaling: Literal["standardize", "unit"] = "unit",
        transforms: Sequence[Transform] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(
            Truth(gate),
            batch_size,
            epochs=epochs,
            scaling=scaling,
            transforms=transforms,
            seed=seed,
        )
