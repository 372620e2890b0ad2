"""A backend of torch.compile that counts graphs and runs each as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from dltrain.acceleration import compiling


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The graphs that are compiled, in the test."""
    found: list[Any] = []

    def count(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        found.append(graph)
        forward: Callable[..., Any] = graph.forward
        return forward

    monkeypatch.setattr(compiling, "BACKEND", count)
    yield found
    torch._dynamo.reset()
