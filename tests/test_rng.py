"""The generators of a run are its own: named ones branch off, foreign code draws apart, no file
draws from a global one.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import Counting

from dltrain import rng
from dltrain.engine import Callback, Engine
from dltrain.runs import checkpoint

PACKAGE = Path(rng.__file__).parent
ELSEWHERE = {
    "models",
    "initialization",
}  # layers draw from torch's global generators: they can use no other
FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts[0] not in ELSEWHERE
]
OBJECTS = {
    "random.Random",
    "np.random.Generator",
    "np.random.default_rng",
    "np.random.PCG64",
    "np.random.SeedSequence",
}
DRAWS = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "multinomial",
    "bernoulli",
    "normal",
    "poisson",
    "rand_like",
    "randn_like",
}
IN_PLACE = {
    "bernoulli_",
    "cauchy_",
    "exponential_",
    "geometric_",
    "log_normal_",
    "normal_",
    "random_",
    "uniform_",
}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    rng.seed_all(5)
    yield
    rng.seed_all(0)


def draws() -> list[float]:
    """One number of each generator that a run has."""
    return [
        random.random(),
        np.random.random(),  # noqa: NPY002 - what a user's code may draw from
        float(torch.rand(())),
        rng.python_stream("one").random(),
        float(torch.rand((), generator=rng.torch_stream("two"))),
    ]


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def global_draws(source: str) -> list[int]:
    """The lines that draw from a generator of Python, NumPy or torch that all share."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, last = dotted(node.func), dotted(node.func).rpartition(".")[2]
        given = any(keyword.arg == "generator" for keyword in node.keywords)
        of_python = (
            name.startswith(("random.", "np.random.", "numpy.random.")) and name not in OBJECTS
        )
        of_torch = name == f"torch.{last}" and last in DRAWS
        if of_python or ((of_torch or last in IN_PLACE) and not given):
            found.append(node.lineno)
    return found


def test_no_file_draws_from_a_global_generator() -> None:
    found = {path.name: global_draws(path.read_text(encoding="utf-8")) for path in FILES}
    assert {name: lines for name, lines in found.items() if lines and name != "rng.py"} == {}


def test_global_draws_are_found() -> None:
    source = (
        "random.random()\nnp.random.rand(3)\ntorch.rand(3)\nx.normal_()\n"
        "random.Random(3)\ntorch.rand(3, generator=g)"
    )
    assert global_draws(source) == [1, 2, 3, 4]


def test_a_stream_continues_as_the_global_generator_would_have() -> None:
    """So figures of earlier versions stay, and the checkpoints of these continue as they did."""
    expected = random.random(), float(torch.rand(()))
    rng.seed_all(5)
    assert (
        rng.python_stream("a").random(),
        float(torch.rand((), generator=rng.torch_stream("b"))),
    ) == expected
    assert (random.random(), float(torch.rand(()))) != expected


def test_streams_are_apart() -> None:
    one, other = rng.torch_stream("a"), rng.torch_stream("b")
    assert (
        len({float(torch.rand((), generator=g)) for g in (one, other, torch.default_generator)})
        == 3
    )
    assert rng.torch_stream("a") is one


def test_a_saved_state_continues_the_same(tmp_path: Path) -> None:
    """From a file, in a process that has drawn otherwise and has streams that the state does not
    know.
    """
    draws()
    checkpoint.commit(tmp_path / "1", {"rng": rng.state_dict(), "task": {}}, {})
    expected = draws()
    rng.seed_all(6)
    rng.torch_stream("other")
    rng.load_state_dict(checkpoint.load(tmp_path / "1")["rng"])
    assert draws() == expected


def test_a_state_of_an_earlier_version_is_loaded() -> None:
    """It knows no streams: they branch off where its global generators were."""
    state = {
        name: value for name, value in rng.state_dict().items() if not name.endswith("_streams")
    }
    expected = draws()
    draws()
    rng.load_state_dict(state)
    assert draws() == expected


def test_what_is_preserved_draws_on_as_if_nothing_had_happened() -> None:
    draws()
    before = rng.state_dict()
    expected = draws()
    rng.load_state_dict(before)
    with rng.preserved():
        draws()
        rng.torch_stream("made inside")
        rng.seed_all(9)
    assert draws() == expected


@pytest.mark.parametrize("fails", [False, True])
def test_callbacks_draw_apart_unless_they_say_that_they_do_not_draw(fails: bool) -> None:
    class Draws(Callback):
        def step_end(self, engine: Engine) -> None:
            draws()

        epoch_end = stage_end = evaluation_end = step_end

    expected = after_fit()
    Draws.draws = not fails
    assert (after_fit(Draws()) == expected) is not fails


def after_fit(*callbacks: Callback) -> list[float]:
    """Return what is drawn after a training."""
    rng.seed_all(5)
    Engine(callbacks).fit(Counting((2, 3, 0)))
    return draws()


def test_what_imports_drew_before_training_does_not_matter() -> None:
    """A resume has imported the data's library, for example, before it begins again."""
    expected = after_fit()
    rng.seed_all(5)
    random.random(), np.random.random()  # noqa: NPY002 - as an import might
    Engine(()).fit(Counting((2, 3, 0)))
    assert draws() == expected
