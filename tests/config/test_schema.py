"""The signature as schema: which values fit an annotation, and the messages for others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import annotated_types
import pytest
from torch import Tensor, nn

from dltrain.config.check import problems_of
from dltrain.config.checking.annotations import admits_plain, describe, wants_object
from dltrain.config.compose import compose
from dltrain.config.schema import arguments, type_problem
from dltrain.config.suggestions.spelling import close_matches
from dltrain.types import BatchSize, Fraction, Ge, Gt, Le, Lt, PositiveFloat, PositiveInt

FITS = [
    (3, int),
    (-3, int),
    (3, float),
    (1.5, float),
    (True, bool),
    ("x", str),
    (None, int | None),
    (3, int | None),
    ("fp32", Literal["fp32", "bf16"]),
    (2, Literal[1, 2]),
    ("auto", bool | Literal["auto"]),
    (False, bool | Literal["auto"]),
    (1, PositiveInt),
    (0.999, Fraction),
    (0, Fraction),
    ("all", BatchSize),
    (7, BatchSize),
    (None, PositiveInt | None),
    ([1, 2], tuple[int, ...]),
    ((1, 2), tuple[int, ...]),
    ([], tuple[int, ...]),
    ([1, 2], tuple[int, int]),
    ([1, "a"], tuple[int, str]),
    ([3, 4], tuple[PositiveInt, ...]),
    ([[1, 2], [3]], list[list[int]]),
    (["a"], list[str]),
    ({"a": 1}, dict[str, int]),
    ({}, dict[str, int]),
    ({"a": [0.5]}, dict[str, tuple[Fraction, ...]]),
    (1.0, Annotated[float, Ge(1), Le(1)]),
    (object(), nn.Module),
    (4, Annotated[int, annotated_types.MultipleOf(2)]),
    ("ab", Annotated[str, annotated_types.Len(1, 2)]),
    ([1, 2], Annotated[list[int], annotated_types.MinLen(2)]),
    (0.5, Annotated[float, annotated_types.Interval(gt=0, le=1)]),
    ("low", annotated_types.LowerCase[str]),
    (None, Annotated[int | None, Gt(0)]),
    (-5, Annotated[int, "metadata that is not of annotated-types"]),
    (-5, Annotated[int, annotated_types.Unit("m")]),
]

WRONG = [
    (1.5, int, "expected a whole number, got 1.5"),
    (1.0, int, "expected a whole number, got 1.0"),
    (True, int, "expected a whole number, got true"),
    ("3", int, "expected a whole number, got '3'"),
    (None, int, "expected a whole number, got null"),
    (True, float, "expected a number, got true"),
    ("abc", float, "expected a number, got 'abc'"),
    (float("nan"), float, "expected a number, got nan"),
    (float("inf"), PositiveFloat, "expected a number > 0, got inf"),
    (1, bool, "expected true or false, got 1"),
    ("true", bool, "expected true or false, got 'true'"),
    (3, str, "expected text, got 3"),
    (None, str, "expected text, got null"),
    (0, PositiveInt, "expected a whole number > 0, got 0"),
    (1.5, PositiveInt, "expected a whole number > 0, got 1.5"),
    (1, Fraction, "expected a number >= 0 and < 1, got 1"),
    (-0.1, Fraction, "expected a number >= 0 and < 1, got -0.1"),
    (0, PositiveInt | None, "expected a whole number > 0 or null, got 0"),
    (0, BatchSize, "expected a whole number > 0 or all, got 0"),
    (
        "flp",
        list[Literal["flip", "crops"]],
        "expected a list, each one of flip, crops, got 'flp'; did you mean [flip]?",
    ),
    ("al", BatchSize, "expected a whole number > 0 or all, got 'al'; did you mean all?"),
    ("fp8", Literal["fp32", "bf16"], "expected one of fp32, bf16, got 'fp8'; did you mean fp32?"),
    (True, Literal[1, 2], "expected one of 1, 2, got true"),
    ("maybe", bool | Literal["auto"], "expected true or false or auto, got 'maybe'"),
    (3, tuple[int, ...], "expected a list, each a whole number, got 3"),
    ([1, 2.5], tuple[int, ...], "expected a list, each a whole number, got [1, 2.5]"),
    ([4, 0], tuple[PositiveInt, ...], "expected a list, each a whole number > 0, got [4, 0]"),
    ("12", tuple[int, ...], "expected a list, each a whole number, got '12'"),
    ([1, 2, 3], tuple[int, int], "expected a list of 2, each a whole number, got [1, 2, 3]"),
    (["a", 1], tuple[int, str], "expected a list of 2, a whole number then text, got ['a', 1]"),
    (
        [[1], ["a"]],
        list[list[int]],
        "expected a list, each a list, each a whole number, got [[1], ['a']]",
    ),
    ({"a": "b"}, dict[str, int], "expected a mapping to a whole number, got {'a': 'b'}"),
    ([1], dict[str, int], "expected a mapping to a whole number, got [1]"),
    (2, Annotated[int, Gt(2)], "expected a whole number > 2, got 2"),
    (2, Annotated[int, Lt(2)], "expected a whole number < 2, got 2"),
    (3, Annotated[int, Le(2)], "expected a whole number <= 2, got 3"),
    (
        3,
        Annotated[int, Gt(0), annotated_types.MultipleOf(2)],
        "expected a whole number > 0 and a multiple of 2, got 3",
    ),
    ("", Annotated[str, annotated_types.MinLen(1)], "expected text of length >= 1, got ''"),
    (
        [1, 2, 3],
        Annotated[list[int], annotated_types.MaxLen(2)],
        "expected a list, each a whole number of length <= 2, got [1, 2, 3]",
    ),
    (
        0,
        Annotated[float, annotated_types.Interval(gt=0, le=1)],
        "expected a number > 0 and <= 1, got 0",
    ),
    (
        "UP",
        annotated_types.LowerCase[str],
        "expected text with Predicate(str.islower), got 'UP'",
    ),
]


@pytest.mark.parametrize(
    ("value", "annotation"), FITS, ids=lambda v: type(v).__name__ if type(v) is object else str(v)
)
def test_a_value_that_fits_is_not_wrong(value: Any, annotation: Any) -> None:
    assert type_problem(value, annotation) is None


@pytest.mark.parametrize(("value", "annotation", "message"), WRONG, ids=str)
def test_a_value_that_does_not_fit_is_told_what_would(
    value: Any, annotation: Any, message: str
) -> None:
    assert type_problem(value, annotation) == message


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (Annotated[float, Gt(0), Le(2)], "a number > 0 and <= 2"),
        (Annotated[float, Gt(1e-7)], "a number > 1e-07"),
        (Literal["only"], "only"),
        (int | None, "a whole number or null"),
        (tuple[int, int], "a list of 2, each a whole number"),
        (list[str], "a list, each text"),
        (list, "list"),
        (nn.Module, "Module"),
    ],
    ids=str,
)
def test_an_annotation_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


class Reader(Protocol):
    def read(self) -> int: ...


@pytest.mark.parametrize(
    ("annotation", "wants"),
    [
        (nn.Module, True),
        (Reader, True),
        (Reader | None, True),
        (Callable[[int], int], True),
        (Annotated[nn.Module, "kept"], True),
        (list[Tensor], True),
        (int, False),
        (float | None, False),
        (BatchSize, False),
        (tuple[PositiveInt, ...], False),
        (tuple, False),
        (dict[str, Any], False),
        (Path, False),
        (Any, False),
    ],
    ids=str,
)
def test_which_annotations_only_a_built_object_satisfies(annotation: Any, wants: bool) -> None:
    assert wants_object(annotation) is wants


@pytest.mark.parametrize(
    ("value", "annotation", "admitted"),
    [
        (0.1, float | Tensor, True),
        ("x", float | Tensor, False),
        (None, Reader | None, True),
        (None, Reader, False),
        ([0.9, 0.99], tuple[float | Tensor, float | Tensor], True),
        ([0.9], tuple[float | Tensor, float | Tensor], False),
        ([0.9, "x"], tuple[float | Tensor, float | Tensor], False),
        (3, int | None, True),
        ({"lr": 1}, float | Tensor, False),
    ],
    ids=str,
)
def test_which_values_need_no_built_object(value: Any, annotation: Any, admitted: bool) -> None:
    assert admits_plain(value, annotation) is admitted


def test_the_numbers_of_an_optimizer_of_torch_are_numbers() -> None:
    """Its learning rate is annotated as a number or a tensor."""
    node = "_target_: torch.optim.AdamW, _partial_: true"
    taken = compose([f"optimizer={{{node}, lr: 0.002, betas: [0.8, 0.99]}}"])
    assert problems_of(taken) == []
    ((what, _),) = problems_of(compose([f"optimizer={{{node}, lr: fast}}"]))
    assert what == "optimizer.lr=fast"


@dataclass
class Sized:
    size: PositiveInt
    names: list[str] = field(default_factory=lambda: ["a"])
    label: str | None = None


class Layered:
    def __init__(
        self, width: int, *rest: int, depth: Annotated[int, Ge(1)] = 2, untyped=None
    ) -> None: ...


def plain(first: float, second: Literal["x"] = "x") -> None: ...


def test_the_arguments_of_a_dataclass_have_the_defaults_of_its_fields() -> None:
    taken = arguments(Sized)
    assert list(taken) == ["size", "names", "label"]
    assert taken["size"].required
    assert taken["size"].annotation == PositiveInt
    assert taken["names"].default == ["a"]
    assert not taken["names"].required
    assert taken["label"].default is None
    assert not taken["label"].required


def test_the_arguments_of_a_class_are_those_of_its_init_without_self_and_star_args() -> None:
    taken = arguments(Layered)
    assert list(taken) == ["width", "depth", "untyped"]
    assert taken["depth"].annotation == Annotated[int, Ge(1)]
    assert taken["depth"].default == 2
    assert taken["untyped"].annotation is Any


def test_the_arguments_of_a_function_are_resolved_from_their_text() -> None:
    taken = arguments(plain)
    assert taken["first"].annotation is float
    assert taken["first"].required
    assert taken["second"].annotation == Literal["x"]


@pytest.mark.parametrize(
    ("word", "words", "best"),
    [
        ("ccn", ["cnn", "mlp"], "cnn"),
        ("Adam", ["sgd", "adam", "adamw"], "adam"),
        ("MNST", ["digits", "fashion_mnist", "mnist"], "mnist"),
        ("ReLU", ["gelu", "relu"], "relu"),
    ],
)
def test_the_best_match_comes_first_and_case_does_not_count(
    word: str, words: list[str], best: str
) -> None:
    assert close_matches(word, words)[0] == best


def test_nothing_is_close_to_nonsense() -> None:
    assert close_matches("zzz", ["cnn", "mlp", "lenet5"]) == []


def test_arguments_are_those_of_the_signature_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked up once, and again where a class has another constructor."""

    class Made:
        def __init__(self, size: int) -> None: ...

    assert list(arguments(Made)) == ["size"]
    with monkeypatch.context() as patched:
        patched.setattr(Made, "__init__", lambda self, **given: None)
        assert not arguments(Made)
    assert list(arguments(Made)) == ["size"]
