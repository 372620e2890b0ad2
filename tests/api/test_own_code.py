"""Errors in the program's own classes name their file and line, as on the command line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dltrain as library


class Narrow(torch.nn.Module):
    """Takes fewer inputs than it is given."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(7, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(images.flatten(1))
        return outputs


class Moody(torch.nn.Module):
    """Fails for black images."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(in_features, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) == 3:
            raise KeyError("three")
        outputs: torch.Tensor = self.layer(images.flatten(1))
        return outputs


def test_an_error_in_training_is_explained() -> None:
    for call in (library.train, library.check):
        with pytest.raises(library.UserCodeError, match="shape") as caught:
            call("dataset=digits", "trainer.steps=2", model=Narrow)
        assert caught.value.file.endswith("test_own_code.py")
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_error_in_a_prediction_is_explained() -> None:
    net = library.train("dataset=digits", "trainer.steps=2", "trainer.epochs=1", model=Moody).load()
    images = np.zeros((3, 1, 8, 8), np.uint8)
    for call in (lambda: net(images), lambda: list(net.predict(images))):
        with pytest.raises(library.UserCodeError, match="three"):
            call()
    assert len(net(images[:2])) == 2
