"""Declarations of classes, and the defaults for a class that declares nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from torch import nn

from dltrain.config.checking.declared import Declared, declared
from dltrain.engine import Task
from dltrain.losses import MSE
from dltrain.preprocessing.transform import ImageTransform
from dltrain.regularization.mixup import Mixup
from dltrain.regularization.regularizer import Regularizer
from dltrain.regularization.swa import SWA
from dltrain.schedules.constant import Constant
from dltrain.schedules.schedule import Schedule
from dltrain.tasks.images.adversarial import Adversarial


def test_other_classes_have_the_default_declarations() -> None:
    assert declared(nn.L1Loss) == Declared()
    assert declared(lambda: None) == Declared()


@pytest.mark.parametrize(
    ("cls", "member", "value"),
    [
        (Adversarial, "networks", ("generator", "discriminator", "judge")),
        (Adversarial, "mixes", False),
        (MSE, "soft_targets", False),
        (Schedule, "needs_end", True),
        (Constant, "needs_end", False),
        (SWA, "needs_end", True),
        (Mixup, "mixes_targets", True),
    ],
)
def test_declarations_of_classes(cls: type, member: str, value: Any) -> None:
    assert getattr(declared(cls), member) == value


@pytest.mark.parametrize(
    ("base", "members"),
    [
        (Task, {"networks", "mixes", "run_keys"}),
        (Schedule, {"needs_end"}),
        (Regularizer, {"needs_end", "mixes_targets"}),
        (ImageTransform, {"mixes_targets", "training_only"}),
    ],
)
def test_base_classes_declare_their_members(base: type, members: set[str]) -> None:
    names = {field.name for field in dataclasses.fields(Declared)}
    assert names & vars(base).keys() == members
