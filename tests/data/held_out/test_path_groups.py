"""The group of a file by its path: the first folder, a prefix, a word, or an expression."""

from __future__ import annotations

import pytest

from dltrain.data.held_out.path_groups import group_function, path_rule
from dltrain.errors import ConfigError, InputError

ROOTS = frozenset({"pets/train/cat", "pets/train/dog", "pets/cat"})


@pytest.mark.parametrize(
    ("rule", "path", "group"),
    [
        ("folder", "patient7/1.png", "patient7"),
        ("folder", "patient7/day 2/1.png", "patient7"),
        ("folder", "1.png", None),
        ("prefix", "p7_001.png", "p7"),
        ("prefix", "p7-001_2.png", "p7"),
        ("prefix", "day1/p7_001.png", "p7"),
        ("prefix", "001.png", None),
        ("prefix", "_001.png", None),
        ("patient", "patient12_003.png", "patient12"),
        ("patient", "patient12/003.png", "patient12"),
        ("patient", "patient_12/003.png", "patient_12"),
        ("patient", "patient-12-003.png", "patient-12"),
        ("patient", "Patient12_003.png", "patient12"),
        ("patient", "scan_of_patient12b.png", "patient12b"),
        ("patient", "day1/patient12.png", "patient12"),
        ("patient", "patient.png", None),
        ("patient", "inpatient12.png", None),
        ("patient", "subject12.png", None),
        ("folder", "patient7/day1_3.png", "patient7"),  # the table in docs/folders.md
        ("prefix", "patient7/day1_3.png", "day1"),
        ("patient", "patient7/day1_3.png", "patient7"),
        ("day([0-9]+)", "patient7/day1_3.png", "1"),
        ("day([0-9]+)", "patient7_3.png", None),
        ("(case[0-9]+)", "day1/xcase12.png", "case12"),
        (r"^\w+_(\d+)_", "scan_12_3.png", "12"),
        ("(case[0-9]+)", "patient12.png", None),
        ("(?:a|b)([0-9]+)", "b12.png", "12"),
    ],
)
def test_a_rule_finds_the_group(rule: str, path: str, group: str | None) -> None:
    assert group_function(rule)(path) == group


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("(case", r"is not a regular expression \(missing \)"),
        ("case[0-9]+", "has 0 groups in parentheses, not one"),
        ("(a)(b)", "has 2 groups in parentheses, not one"),
        ("12", "has 0 groups in parentheses, not one"),
        ("", "has 0 groups in parentheses, not one"),
    ],
)
def test_other_rules_are_refused_with_what_to_type(rule: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        path_rule(rule)
    assert "choose folder (the first folder below that of the class), prefix" in str(refused.value)


def test_only_the_path_below_the_class_counts_and_classes_share_groups() -> None:
    rule = path_rule("folder")
    assert rule is not None
    paths = ["pets/train/cat/a/1.png", "pets/train/dog/a/x/2.png", "pets/cat/b/1.png"]
    groups = rule.groups(paths, ROOTS)
    assert groups.codes.tolist() == [0, 0, 1]
    assert groups.names == ["a", "b"]
    assert groups.setting == "dataset.group=folder"
    assert path_rule(None) is None


def test_a_file_without_a_group_is_refused_by_name() -> None:
    rule = path_rule("patient")
    assert rule is not None
    with pytest.raises(InputError, match=r"pets/cat/x1\.png: dataset.group=patient finds no group"):
        rule.groups(["pets/cat/patient1_1.png", "pets/cat/x1.png"], ROOTS)
