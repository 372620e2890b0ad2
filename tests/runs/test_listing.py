"""The index of runs, their summaries, conditions, groups and order."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from run_folders import config_of, make_run, manifest_of, results_of

from dltrain.errors import UsageError
from dltrain.runs.folder import RunFolder
from dltrain.runs.listing import index
from dltrain.runs.listing.conditions import parse_condition
from dltrain.runs.listing.index import INDEX, all_summaries
from dltrain.runs.listing.rows import Row, grouped_rows, single_rows, sorted_rows
from dltrain.runs.listing.summary import RunSummary
from dltrain.runs.listing.values import require_known, short_name, value_of

MANY = 10_000
FIXTURES = Path(__file__).parents[1] / "fixtures" / "runs_0_1"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The JSON files of runs that were read, in order."""
    paths: list[Path] = []
    real = RunFolder.read_json

    def counted(self: RunFolder, name: str) -> dict:
        paths.append(self.folder / name)
        return real(self, name)

    monkeypatch.setattr(RunFolder, "read_json", counted)
    return paths


def three_runs(root: Path) -> None:
    make_run(root, "2030-01-02/10-00-00-000001_mlp_digits", config_of(0), results_of(0.8))
    make_run(root, "2030-01-02/10-00-00-000002_mlp_digits", config_of(1), results_of(0.6))
    make_run(root, "2030-01-02/10-00-00-000003_mlp_digits", config_of(0, 0.1), results_of(0.9))


def test_ten_thousand_runs_are_read_once(
    tmp_path: Path, reads: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second call reads the index and no run; a changed run is read again; a message tells of
    the first call.
    """
    first = make_run(tmp_path, "2030-01-01/10-00-00-000000_mlp_digits", None, results_of())
    for number in range(1, MANY):
        folder = tmp_path / f"2030-{1 + number // 1000:02d}-01" / f"10-00-00-{number:06d}_mlp"
        folder.mkdir(parents=True)
        for name in ("manifest.json", "results.json", "config.yaml"):
            os.link(first / name, folder / name)
    assert len(all_summaries(tmp_path)) == MANY
    assert len(reads) == 2 * MANY
    assert f"reading {MANY:,} runs" in capsys.readouterr().err
    reads.clear()
    runs = all_summaries(tmp_path)
    assert reads == []
    assert capsys.readouterr().err == ""
    assert len(runs) == MANY
    assert runs[0].path == f"2030-10-01/10-00-00-{MANY - 1:06d}_mlp"
    assert {run.status for run in runs} == {"completed"}
    changed = tmp_path / runs[5].path
    (changed / "results.json").unlink()
    (changed / "results.json").write_text(json.dumps(results_of(0.1, "stopped")))
    again = all_summaries(tmp_path)
    assert reads == [changed / "manifest.json", changed / "results.json"]
    assert (again[5].status, again[5].metrics["test/accuracy"]) == ("stopped", 0.1)


def test_the_index_is_only_a_cache(tmp_path: Path, reads: list[Path]) -> None:
    """Deleting or damaging the index changes nothing; a folder in its place does not either."""
    three_runs(tmp_path)
    expected = all_summaries(tmp_path)
    path = tmp_path / INDEX
    whole = path.read_bytes()
    damaged = [
        b"",
        b"nonsense",
        whole[: len(whole) // 2],
        whole.replace(b"0.8", b"0.7"),
        whole.replace(b"dltrain", b"dltrein", 1),
        whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
        bytes(range(256)),
    ]
    for content in damaged:
        path.write_bytes(content)
        reads.clear()
        assert all_summaries(tmp_path) == expected
        assert len(reads) == 6, content[:40]
        assert path.read_bytes() == whole
    path.unlink()
    assert all_summaries(tmp_path) == expected
    path.unlink()
    path.mkdir()
    assert all_summaries(tmp_path) == expected
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".tmp")] == []


def test_an_unwritable_index_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_runs(tmp_path)

    def refuse(path: Path, content: bytes) -> int:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        assert len(all_summaries(tmp_path)) == 3
    assert not (tmp_path / INDEX).exists()


def test_two_readers_at_once(tmp_path: Path) -> None:
    """Every reader gets all runs, whoever writes the index."""
    three_runs(tmp_path)
    expected = all_summaries(tmp_path)
    wrong = []

    def read() -> None:
        for _ in range(20):
            if all_summaries(tmp_path) != expected:
                wrong.append("another result")
            (tmp_path / INDEX).unlink(missing_ok=True)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_run_that_is_deleted_leaves_the_index(tmp_path: Path) -> None:
    three_runs(tmp_path)
    assert len(all_summaries(tmp_path)) == 3
    shutil.rmtree(tmp_path / "2030-01-02" / "10-00-00-000002_mlp_digits")
    assert len(all_summaries(tmp_path)) == 2
    assert len(index.load(tmp_path / INDEX)) == 2


def test_a_running_run_is_read_each_time(tmp_path: Path) -> None:
    """Its status is running while its lock is held, and its figures are those logged so far."""
    folder = make_run(tmp_path, "2030-01-02/10-00-00-000001_mlp_digits")
    metrics = folder / "metrics.jsonl"
    metrics.write_text(
        '{"step": 10, "epoch": 1, "stage": "train", "split": "val", "val/accuracy": 0.7}\n'
    )
    with RunFolder(folder).locked():
        (run,) = all_summaries(tmp_path)
        assert (run.status, run.epochs, run.best["value"]) == ("running", 1, 0.7)
        with metrics.open("a") as file:
            file.write('{"step": 20, "epoch": 2, "val/accuracy": 0.6}\n{"step": 30, "epo')
        (run,) = all_summaries(tmp_path)
        assert (run.status, run.epochs, run.metrics["val/accuracy"]) == ("running", 2, 0.6)
        assert (run.best["value"], run.best["epoch"]) == (0.7, 1)
    (run,) = all_summaries(tmp_path)
    assert (run.status, run.steps) == ("interrupted", 20)


def test_a_run_that_continues_is_running_at_once(tmp_path: Path, reads: list[Path]) -> None:
    """Also before one of its files has changed: the index does not hide it."""
    folder = make_run(tmp_path, "2030-01-02/10-00-00-000001_mlp_digits", None, results_of(0.8))
    assert all_summaries(tmp_path)[0].status == "completed"
    with RunFolder(folder).locked():
        assert all_summaries(tmp_path)[0].status == "running"
    reads.clear()
    assert all_summaries(tmp_path)[0].status == "completed"


def test_an_owner_that_was_killed_is_not_running(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "2030-01-02/10-00-00-000001_mlp_digits")
    (folder / ".lock").touch()
    (folder / ".lock-owner").write_text("pid 1 on elsewhere\n")
    assert all_summaries(tmp_path)[0].status == "interrupted"


DAMAGE = {
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "an empty manifest": lambda folder: (folder / "manifest.json").write_text(""),
    "broken JSON": lambda folder: (folder / "manifest.json").write_text('{"config": '),
    "a manifest that is a list": lambda folder: (folder / "manifest.json").write_text("[1]"),
    "a manifest of bytes": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\x00"),
    "a nest without end": lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
    "broken results": lambda folder: (folder / "results.json").write_text("{"),
    "results without a status": lambda folder: (folder / "results.json").write_text("{}"),
    "a folder called results.json": lambda folder: (
        (folder / "results.json").unlink(),
        (folder / "results.json").mkdir(),
    ),
    "a folder called manifest.json": lambda folder: (
        (folder / "manifest.json").unlink(),
        (folder / "manifest.json").mkdir(),
    ),
    "a link to itself": lambda folder: (
        (folder / "manifest.json").unlink(),
        (folder / "manifest.json").symlink_to("manifest.json"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_a_row_of_its_own(damage: str, tmp_path: Path) -> None:
    three_runs(tmp_path)
    DAMAGE[damage](tmp_path / "2030-01-02" / "10-00-00-000002_mlp_digits")
    for _ in range(2):  # from the files, and from the index
        runs = all_summaries(tmp_path)
        assert [run.status for run in runs] == ["completed", "damaged", "completed"]
        assert "000002" in runs[1].problem
        assert len(sorted_rows(single_rows(runs), "test/accuracy", True)) == 3
        assert sum(len(row.runs) for row in grouped_rows(runs)) == 3


def test_a_folder_that_may_not_be_read_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, who may read everything: the refusal is simulated."""
    three_runs(tmp_path)
    real = os.stat

    def refusing(path: object, **options: object) -> os.stat_result:
        if "000002_mlp_digits/" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(os, "stat", refusing)
    monkeypatch.setattr(
        RunFolder,
        "read_json",
        lambda self, name: (_ for _ in ()).throw(PermissionError(13, "Permission denied")),
    )
    runs = all_summaries(tmp_path)
    assert len(runs) == 3
    assert all(run.status == "damaged" for run in runs)
    assert "Permission denied" in runs[1].problem


@pytest.mark.parametrize("key", ["config", "settings", "choices", "watch", "effective", "created"])
@pytest.mark.parametrize("value", [None, 5, "x", [1], {"a": {"b": [None]}}, True, 1e400])
def test_any_value_in_a_manifest_is_survived(key: str, value: object, tmp_path: Path) -> None:
    """Values of a file in place of what belongs there are left out, not raised."""
    folder = make_run(tmp_path, "2030-01-02/10-00-00-000001_mlp", None, results_of())
    (folder / "manifest.json").write_text(json.dumps({**manifest_of(config_of()), key: value}))
    (folder / "results.json").write_text(
        json.dumps({**results_of(), "best": value, "steps": value})
    )
    for _ in range(2):
        (run,) = all_summaries(tmp_path)
        for name in ("model", "optimizer.lr", "best", "test/accuracy", "date", "seed"):
            Row([run]).text(name)


def test_other_folders_are_no_runs(tmp_path: Path) -> None:
    """Neither are the trash, unfinished folders, and files."""
    three_runs(tmp_path)
    make_run(tmp_path, ".trash/t/2030-01-02/10-00-00-000009_mlp", None, results_of())
    make_run(tmp_path, "2030-01-02/.tmp-10-00-00-000008_mlp-host-1", None, results_of())
    (tmp_path / "2030-01-02" / "notes.txt").write_text("x")
    (tmp_path / "2030-01-02" / "pictures").mkdir()
    (tmp_path / "file").write_text("x")
    assert len(all_summaries(tmp_path)) == 3
    assert all_summaries(tmp_path / "absent") == []


def test_jobs_of_a_sweep_are_listed(tmp_path: Path) -> None:
    for job in (0, 2, 12):
        make_run(tmp_path, f"2030-01-02/10-00-00-000001_sweep/{job}", None, results_of())
    (tmp_path / "2030-01-02" / "10-00-00-000001_sweep" / "sweep.jsonl").write_text("")
    assert [run.path.rpartition("/")[2] for run in all_summaries(tmp_path)] == ["12", "2", "0"]


def test_runs_of_version_0_1_are_listed(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES, tmp_path / "2030-01-01")
    runs = {run.path.partition("/")[2]: run for run in all_summaries(tmp_path)}
    assert runs.keys() == {path.parent.name for path in FIXTURES.glob("*/config.yaml")}
    assert {run.status for run in runs.values()} == {"completed"}
    tabular = runs["tabular"]
    assert value_of(tabular, "dataset") == "tabular"
    assert value_of(tabular, "model") == "tabular_mlp"
    assert value_of(tabular, "parameters") == 50
    assert "test/accuracy" in tabular.metrics


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["model=mlp"], "321"),
        (["model=cnn"], ""),
        (["model=mlp,cnn"], "321"),
        (["model!=mlp"], ""),
        (["model=m*"], "321"),
        (["optimizer=adam"], "321"),
        (["optimizer.lr>0.01"], "3"),
        (["optimizer.lr > 0.01"], "3"),
        (["optimizer.lr=1e-1"], "3"),
        (["optimizer.lr==0.1"], "3"),
        (["optimizer.lr!=0.1"], "21"),
        (["optimizer.lr<=0.001", "seed=1"], "2"),
        (["test/accuracy>=0.8"], "31"),
        (["best<0.8"], "2"),
        (["status=completed,stopped"], "321"),
        (["status!=completed"], ""),
        (["status=fail*"], ""),
        (["name=null"], "321"),
        (["name!=null"], ""),
        (["model.hidden_sizes=[256,128]"], "321"),
        (["dataset.path=null"], "321"),
        (["parameters>99"], "321"),
        (["parameters>=100", "parameters<=100"], "321"),
        (["date>=2030-01-02"], "321"),
        (["date<2030-01-02"], ""),
        (["run=10-00-00-000002"], "2"),
        (["epochs=2"], "321"),
        (["epochs=true"], ""),
    ],
    ids=str,
)
def test_conditions_select(conditions: list[str], found: str, tmp_path: Path) -> None:
    for number, (seed, lr, accuracy) in enumerate(
        [(0, 0.001, 0.8), (1, 0.001, 0.6), (0, 0.1, 0.9)]
    ):
        path = f"2030-01-02/10-00-00-00000{number + 1}_mlp__x"
        make_run(tmp_path, path, config_of(seed, lr), results_of(accuracy))
    runs = all_summaries(tmp_path)
    parsed = [parse_condition(text) for text in conditions]
    numbers = [
        run.path.partition("_")[0][-1] for run in runs if all(c.accepts(run) for c in parsed)
    ]
    assert "".join(numbers) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lr", "quote > and <"),
        ("", "a condition is KEY=VALUE"),
        ("=3", "a condition is KEY=VALUE"),
        ("optimizer.lr>", "with a number"),
        ("optimizer.lr>null", "with a number"),
        ("status=complete", "expected one of running, completed, stopped"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_condition(text)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lr", "did you mean optimizer.lr?"),
        ("accuracy", "did you mean test/accuracy or val/accuracy?"),
        ("optimizer.lrr", "did you mean optimizer.lr"),
        ("zzzz", "no run has the key zzzz;"),
    ],
)
def test_a_key_that_no_run_has_is_refused(key: str, hint: str, tmp_path: Path) -> None:
    three_runs(tmp_path)
    with pytest.raises(UsageError, match=hint.replace("?", r"\?")):
        require_known(key, all_summaries(tmp_path))


def test_groups_differ_in_more_than_the_seed(tmp_path: Path) -> None:
    """The figures of a group are the mean and the sample's standard deviation over its seeds."""
    three_runs(tmp_path)
    make_run(tmp_path, "2030-01-02/10-00-00-000004_mlp_digits", config_of(2), results_of(0.7))
    make_run(tmp_path, "2030-01-02/10-00-00-000005_mlp_digits", config_of(3))
    rows = grouped_rows(all_summaries(tmp_path))
    sizes = [len(row.runs) for row in rows]
    assert sorted(sizes) == [1, 4]
    large = rows[sizes.index(4)]
    assert large.value("test/accuracy") == pytest.approx(0.7)
    assert large.summary("test/accuracy").std == pytest.approx(0.1)
    assert large.text("test/accuracy") == "0.7000 ± 0.1000"
    assert large.text("status") == "1 interrupted, 3 completed"
    assert large.text("seed") == "-"
    assert large.text("optimizer.lr") == "0.001"
    by_key = grouped_rows(all_summaries(tmp_path), ["optimizer.lr"])
    assert sorted(len(row.runs) for row in by_key) == [1, 4]


def test_places_and_logs_do_not_divide_a_group(tmp_path: Path) -> None:
    other = config_of(1, paths={"data": "/else", "output": "x"}, name="mine")
    make_run(tmp_path, "2030-01-02/10-00-00-000001_mlp", config_of(0), results_of())
    make_run(tmp_path, "2030-01-02/10-00-00-000002_mlp", other, results_of())
    assert len(grouped_rows(all_summaries(tmp_path))) == 1


def test_rows_without_the_value_come_last(tmp_path: Path) -> None:
    three_runs(tmp_path)
    make_run(tmp_path, "2030-01-02/10-00-00-000004_mlp_digits", config_of(5))
    rows = single_rows(all_summaries(tmp_path))
    for descending in (True, False):
        ordered = [
            row.value("test/accuracy") for row in sorted_rows(rows, "test/accuracy", descending)
        ]
        assert ordered == [*sorted([0.6, 0.8, 0.9], reverse=descending), None]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("2030-01-02/10-00-00-000001_mlp_digits", "10-00-00-000001"),
        ("2030-01-02/10-00-00-000001_sweep/12", "10-00-00-000001_sweep/12"),
        ("2030-01-02/mine", "mine"),
        ("2030-01-02/my_own_run", "my_own_run"),
    ],
)
def test_the_short_name_is_one_that_commands_take(path: str, name: str, tmp_path: Path) -> None:
    from dltrain.runs.find import find

    make_run(tmp_path, path)
    make_run(tmp_path, "2030-01-02/10-00-00-000009_sweep/1")
    assert short_name(path) == name
    assert find(name, tmp_path).folder == tmp_path / path


def test_a_summary_survives_the_index(tmp_path: Path) -> None:
    three_runs(tmp_path)
    first = all_summaries(tmp_path)
    second = all_summaries(tmp_path)
    assert first == second
    assert isinstance(second[0], RunSummary)
    assert second[0].config["optimizer"]["lr"] == 0.1
