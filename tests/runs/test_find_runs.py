"""Finding runs by folder, by a part of their names, and by one of their checkpoints."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dltrain.errors import InputError
from dltrain.runs.find import find
from dltrain.runs.folder import CONFIG


def lay(root: Path, *names: str, debug: str = "null") -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / CONFIG).write_text(f"seed: 0\ndebug: {debug}\ntrainer:\n  debug: smoke\n")


NAMES = (
    "2030-01-01/10-00-00-000001_mlp_mnist",
    "2030-01-02/09-00-00-000001_cnn_mnist",
    "2030-01-02/09-00-00-000002_cnn_mnist_smoke",
    "2030-01-02/11-00-00-000001_sweep/1",
    "2030-01-02/11-00-00-000001_sweep/2",
    "2030-01-02/11-00-00-000001_sweep/12",
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mlp", 0),
        ("2030-01-01", 0),
        ("smoke", 2),
        ("09-00-00-000001", 1),
        (NAMES[1], 1),
        ("09-00-00-000001_cnn_mnist", 1),
        ("11-00-00-000001_sweep/1", 3),
        ("sweep/12", 5),
        ("last", 5),
        ("last-any", 5),
    ],
)
def test_a_run_is_found_by_part_of_its_name(name: str, found: int, tmp_path: Path) -> None:
    """A run is found by a unique part of its name, by its number in a sweep, or as the last."""
    lay(tmp_path, *NAMES)
    assert find(name, tmp_path).folder.resolve() == tmp_path / NAMES[found]


def test_find_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a configuration is a run wherever it lies, absolute or relative."""
    lay(tmp_path, "elsewhere/mine")
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / "elsewhere" / "mine"), "elsewhere/mine", "elsewhere/mine/"):
        assert find(path, tmp_path / "outputs").folder.resolve() == tmp_path / "elsewhere" / "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn", "'cnn' could be any of 2 runs; name one\n.*_cnn_mnist\n.*_cnn_mnist_smoke"),
        ("mnist", "any of 3 runs"),
        ("lenet", "no run is called 'lenet' under .*; the newest is .*12"),
    ],
)
def test_ambiguous_and_unknown_names_are_refused(name: str, message: str, tmp_path: Path) -> None:
    """Ambiguous and unknown names are refused, with names to choose from."""
    lay(tmp_path, *NAMES)
    with pytest.raises(InputError, match=message):
        find(name, tmp_path)


@pytest.mark.parametrize("name", ["last", "last-any", "cnn"])
def test_find_without_runs(name: str, tmp_path: Path) -> None:
    """Folders without a configuration are no runs."""
    (tmp_path / "2030-01-01" / "10-00-00-000001_x").mkdir(parents=True)
    with pytest.raises(InputError, match="there is no run under"):
        find(name, tmp_path)


def test_find_a_checkpoint(tmp_path: Path) -> None:
    """A checkpoint's folder, whole or not, means its run, and that checkpoint of it."""
    lay(tmp_path, NAMES[0])
    folder = tmp_path / NAMES[0] / "checkpoints" / "000000030"
    found = find(str(folder), tmp_path)
    assert (found.folder, found.checkpoint) == (tmp_path / NAMES[0], folder)
    assert find(str(tmp_path / NAMES[0]), tmp_path).checkpoint is None


@pytest.mark.parametrize("mode", ["smoke", "overfit", "profile", "'smoke'"])
@pytest.mark.parametrize("named", ["2030-01-03/10-00-00-000001_x", "2030-01-03/10-00_sweep/1"])
def test_last_is_no_debug_run(mode: str, named: str, tmp_path: Path) -> None:
    """A fork and a job of a sweep have no mode in their names; `last-any` is the newest of all."""
    lay(tmp_path, "2030-01-02/10-00-00-000001_mlp_smoke")  # `name=` or a data set is called so
    lay(tmp_path, named, debug=mode)
    assert find("last", tmp_path).folder.name == "10-00-00-000001_mlp_smoke"
    assert find("last-any", tmp_path).folder == tmp_path / named
    assert find(str(tmp_path / named), tmp_path).folder == tmp_path / named


def test_among_debug_runs_alone_there_is_no_last(tmp_path: Path) -> None:
    lay(tmp_path, *NAMES, debug="smoke")
    with pytest.raises(
        InputError, match=r"only debug runs; the newest is .*sweep/12 \(debug=smoke"
    ):
        find("last", tmp_path)
    assert find("last-any", tmp_path).folder == tmp_path / NAMES[-1]


def test_a_configuration_that_cannot_be_read_is_that_of_a_run(tmp_path: Path) -> None:
    lay(tmp_path, *NAMES)
    (tmp_path / NAMES[-1] / CONFIG).write_bytes(b"\xff\x00: [")
    assert find("last", tmp_path).folder == tmp_path / NAMES[-1]


def test_many_debug_runs_are_passed_quickly(tmp_path: Path) -> None:
    lay(tmp_path, "2030-01-01/00-00-00-000000_mlp")
    lay(tmp_path, *(f"2030-01-02/{i:06d}_mlp_smoke" for i in range(2000)), debug="smoke")
    start = time.process_time()
    assert find("last", tmp_path).folder.name == "00-00-00-000000_mlp"
    assert time.process_time() - start < 0.4  # 10,000 in two seconds
