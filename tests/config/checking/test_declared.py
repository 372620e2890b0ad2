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


def test_a_class_of_anyones_declares_nothing() -> None:
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
def test_what_a_class_declares_counts(cls: type, member: str, value: Any) -> None:
    assert getattr(declared(cls), member) == value


@pytest.mark.parametrize(
    ("base", "members"),
    [
        (Task, {"networks", "mixes"}),
        (Schedule, {"needs_end"}),
        (Regularizer, {"needs_end", "mixes_targets"}),
        (ImageTransform, {"mixes_targets"}),
    ],
)
def test_the_base_classes_declare_what_concerns_them(base: type, members: set[str]) -> None:
    names = {field.name for field in dataclasses.fields(Declared)}
    assert names & vars(base).keys() == members
