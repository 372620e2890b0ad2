"""Spaces of a search: Hydra's grammar on the command line, and lists and texts in YAML."""

from __future__ import annotations

import itertools

import pytest

from dltrain.errors import ConfigError, UsageError
from dltrain.sweeps.samplers.dimensions import Choices, Continuous, Decimals, Dimension, Integers
from dltrain.sweeps.samplers.space import read_space, space_overrides

KEY = "optimizer.lr"


def dimension(value: str) -> Dimension:
    (found,) = read_space([f"{KEY}={value}"]).dimensions
    return found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("interval(1e-4,0.1)", Continuous(KEY, 1e-4, 0.1)),
        ("interval(1,9)", Continuous(KEY, 1.0, 9.0)),
        ("tag(log,interval(1e-4,0.1))", Continuous(KEY, 1e-4, 0.1, log=True)),
        ("float(tag(log, interval(1,9)))", Continuous(KEY, 1.0, 9.0, log=True)),
        ("int(interval(1,9))", Integers(KEY, 1, 9)),
        ("int(tag(log,interval(1,9)))", Integers(KEY, 1, 9, log=True)),
        ("range(5)", Integers(KEY, 0, 4)),
        ("range(1,10,3)", Integers(KEY, 1, 7, 3)),
        ("range(10,1,-3)", Integers(KEY, 4, 10, 3)),
        ("sort(range(10,1,-3))", Integers(KEY, 4, 10, 3)),
        ("tag(log,range(1,100))", Integers(KEY, 1, 99, log=True)),
        ("range(0,1,0.25)", Decimals(KEY, ("0.0", "0.25", "0.5", "0.75"))),
        ("range(1,0,-0.5)", Decimals(KEY, ("0.5", "1.0"))),
        ("float(range(1,3))", Decimals(KEY, ("1.0", "2.0"))),
        ("range(0,1,2.5)", Decimals(KEY, ("0.0",))),
        ("1e-3,1e-2,0.010", Choices(KEY, ("0.001", "0.01"))),
        ("choice(a,b)", Choices(KEY, ("a", "b"))),
        ("choice(a)", Choices(KEY, ("a",))),
        ("null,[1,2],{x:1},'x,y'", Choices(KEY, ("null", "[1,2]", "{x:1}", "'x,y'"))),
        ("sort(3,1,2)", Choices(KEY, ("1", "2", "3"))),
        ("str(1,2)", Choices(KEY, ("1", "2"))),
        ("shuffle(a,b,c,d,e,f,g,h,i)", Choices(KEY, tuple("abcdefghi"))),
    ],
    ids=str,
)
def test_each_sweep_of_the_grammar_is_a_dimension(value: str, expected: Dimension) -> None:
    assert dimension(value) == expected


def test_a_pattern_is_a_choice_of_options_or_of_named_values() -> None:
    space = read_space(["model=glob(lenet*)", "model.activation=glob(*,exclude=[re*])"])
    options, activations = space.dimensions
    assert isinstance(options, Choices)
    assert "lenet5" in options.texts
    assert isinstance(activations, Choices)
    assert "tanh" in activations.texts
    assert "relu" not in activations.texts


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("tag(log,choice(1,2))", r"tag\(log, ...\) is for interval"),
        ("tag(log2,interval(1,2))", r"unknown tag log2; the only one is tag\(log, interval"),
        ("tag(a,log,range(1,3))", r"unknown tag a; .* range"),
        ("interval(2,1)", "must be the lower one, not 2.0 and 1.0"),
        ("interval(1,1)", "must be the lower one"),
        ("interval(0,inf)", "must be finite"),
        ("tag(log,interval(0,1))", r"numbers above 0, not 0.0"),
        ("tag(log,range(0,5))", r"numbers above 0, not 0"),
        ("tag(log,range(1,9,2))", "needs a step of 1"),
        ("tag(log,float(range(1,9)))", "needs integers"),
        ("range(3,3)", "the range is empty"),
        ("range(0.5,0.5,0.1)", "the range is empty"),
        ("range(1,2,0)", "must not be 0"),
        ("range(0,1,1e-7)", "more than 100,000 numbers"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_what_can(value: str, answer: str) -> None:
    with pytest.raises(ConfigError, match=answer):
        read_space([f"{KEY}={value}"])


def test_all_problems_of_a_space_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        read_space(["a=interval(2,1)", "b=range(0,0)", "~c=1,2"])
    assert [what for what, _ in error.value.problems] == [
        "a=interval(2,1)",
        "b=range(0,0)",
        "~c=1,2",
    ]


def test_a_pattern_that_matches_nothing_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"no model is called like that; there are .*lenet5"):
        read_space(["model=glob(zzz*)"])


def test_the_last_of_several_overrides_counts(caplog: pytest.LogCaptureFixture) -> None:
    space = read_space(["seed=1,2", "model=cnn", "seed=3,4"])
    assert space.parts == ("model=cnn", Choices("seed", ("3", "4")))
    assert "seed=1,2 is not read: seed=3,4 comes after it" in caplog.text
    assert read_space(["seed=1,2", "seed=3"]).dimensions == []


def test_overrides_stand_in_the_order_in_which_they_were_typed() -> None:
    space = read_space(["model=cnn", "+a.b=interval(0,1)", "seed=1,2"])
    assert space.overrides({"a.b": 0.25, "seed": "2"}) == ["model=cnn", "+a.b=0.25", "seed=2"]


def test_checks_cover_all_choices_and_both_ends() -> None:
    space = read_space(["a=x,y,z", "b=interval(0,1)", "c=range(0,9,4)"])
    checked = list(space.checked())
    assert len(checked) == 5
    assert {one["a"] for one in checked} == {"x", "y", "z"}
    assert {one["b"] for one in checked} == {0.0, 1.0}
    assert {one["c"] for one in checked} == {0, 8}


def test_the_number_of_combinations() -> None:
    space = read_space(["a=x,y,z", "c=range(0,9,4)", "d=range(0,1,0.5)"])
    assert space.size == 18
    combinations = list(space.combinations())
    assert len({tuple(one.items()) for one in combinations}) == 18
    assert combinations[1] == {"a": "x", "c": 0, "d": 1}
    assert space.overrides(combinations[1]) == ["a=x", "c=0", "d=0.5"]
    assert read_space(["a=x,y", "b=interval(0,1)"]).size is None


@pytest.mark.parametrize(
    ("one", "value", "text"),
    [
        (Continuous(KEY, 1e-4, 0.1, log=True), 0.000316227766, "0.000316228"),
        (Continuous(KEY, 1e-9, 0.1), 1.23456789e-08, "1.23457e-08"),
        (Continuous(KEY, 0.9999, 0.99999), 0.99994321098, "0.999943211"),
        (Continuous(KEY, 0.0, 1 / 3), 1 / 3, "0.333333"),
        (Continuous(KEY, 2 / 3, 1.0), 2 / 3, "0.666667"),
        (Decimals(KEY, ("0.0", "0.1", "0.2", "0.3")), 3, "0.3"),
        (Integers(KEY, 1, 7, 3), 4, "4"),
        (Choices(KEY, ("null", "'a,b'")), "'a,b'", "'a,b'"),
    ],
    ids=str,
)
def test_values_have_short_texts_within_the_space(one: Dimension, value: object, text: str) -> None:
    """A number of Optuna has 17 digits; its text has as many as one tells apart."""
    admitted = one.admitted(value)
    assert one.text(admitted) == text
    assert one.admitted(admitted) == admitted
    assert one.distribution()._contains(one.distribution().to_internal_repr(admitted))


@pytest.mark.parametrize(
    ("one", "value"),
    [
        (Choices(KEY, ("a", "b")), "c"),
        (Choices(KEY, ("a", "b")), None),
        (Integers(KEY, 1, 7, 3), 2),
        (Integers(KEY, 1, 7, 3), 10),
        (Integers(KEY, 1, 7), 1.5),
        (Continuous(KEY, 1.0, 2.0), 2.5),
        (Continuous(KEY, 1.0, 2.0), None),
        (Decimals(KEY, ("0.0", "0.5")), 0.5),
        (Decimals(KEY, ("0.0", "0.5")), 2),
    ],
    ids=str,
)
def test_values_of_another_space_are_refused(one: Dimension, value: object) -> None:
    with pytest.raises(ValueError, match="is not"):
        one.admitted(value)


def test_spaces_of_yaml_are_texts_and_lists() -> None:
    space = {
        "optimizer.lr": "tag(log,interval(1e-4,0.1))",
        "model": ["cnn", "mlp"],
        "model.hidden_sizes": [[8], [16, 16]],
        "name": ["a b", "a,b", None, True, "null"],
        "seed": 3,
    }
    overrides = space_overrides(space)
    assert overrides == [
        "optimizer.lr=tag(log,interval(1e-4,0.1))",
        "model=cnn,mlp",
        "model.hidden_sizes=[8],[16,16]",
        "name='a b','a,b',null,true,'null'",
        "seed=3",
    ]
    dimensions = read_space(overrides).dimensions
    assert [dimension.size for dimension in dimensions] == [None, 2, 2, 5]


def test_every_value_of_a_dimension_is_proposed() -> None:
    """A range excludes its stop, and no value is left out."""
    import optuna

    for one in (dimension("range(1,10,3)"), dimension("range(0,0.5,0.1)")):
        sampler = optuna.samplers.RandomSampler(seed=0)
        study = optuna.create_study(sampler=sampler)
        drawn = [study.ask({"x": one.distribution()}).params["x"] for _ in range(60)]
        texts = {one.text(one.admitted(value)) for value in drawn}
        assert texts == {one.text(value) for value in one.all_values()}
        assert len(list(itertools.islice(one.all_values(), 99))) == one.size
