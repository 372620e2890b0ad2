"""`dltrain runs`: the table, CSV and JSON; deletion into the trash, and emptying it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from outcome import Outcome
from run_folders import config_of, make_run, results_of
from scipy import stats

from dltrain.runs.folder import RunFolder
from dltrain.runs.trash import TRASH

Command = Callable[..., Outcome]
DAY = "2030-01-02"


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three finished runs under outputs, two of which differ only in their seed."""
    return [
        make_run(
            tmp_path / "outputs",
            f"{DAY}/10-00-00-00000{number}_mlp_digits",
            config_of(seed, lr),
            results_of(accuracy),
        )
        for number, seed, lr, accuracy in ((1, 0, 0.001, 0.8), (2, 1, 0.001, 0.6), (3, 0, 0.1, 0.9))
    ]


def order_of(outcome: Outcome) -> str:
    """Return the last digits of the names in the table, from top to bottom."""
    lines = outcome.out.splitlines()[1:]
    return "".join(line.split()[0][-1] for line in lines if line.startswith("  10-"))


def test_the_table(dltrain: Command, three: list[Path]) -> None:
    outcome = dltrain("runs")
    header, first = outcome.out.splitlines()[:2]
    assert header.split() == [
        *("run", "date", "status", "model", "dataset", "seed", "lr", "epochs"),
        *("best", "val/accuracy", "test/accuracy", "test/loss", "time"),
    ]
    assert first.split() == [
        *("10-00-00-000003", DAY, "10:00", "completed", "mlp", "digits", "0", "0.1", "2"),
        *("0.9000", "0.9000", "0.1000", "3.5", "s"),
    ]
    assert outcome.code == 0
    assert order_of(outcome) == "321"


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (["--sort", "test/accuracy"], "312"),
        (["--sort", "test/loss"], "312"),
        (["--sort", "-test/loss"], "213"),
        (["--sort", "test/loss", "--desc"], "213"),
        (["--sort=optimizer.lr", "--limit", "2"], "21"),
        (["--sort", "date"], "321"),
        (["--desc"], "123"),
        (["--where", "optimizer.lr<0.01"], "21"),
        (["--where", "optimizer.lr<0.01", "--where", "seed=1"], "2"),
        (["--limit", "1"], "3"),
        (["paths.output=outputs"], "321"),
        (["outputs"], "321"),
        (["outputs", "--where=model=cnn"], ""),
    ],
    ids=str,
)
def test_sorting_and_selecting(
    words: list[str], order: str, dltrain: Command, three: list[Path]
) -> None:
    """A metric is sorted by its own direction, the best first."""
    outcome = dltrain("runs", *words)
    assert outcome.code == 0, outcome.err
    assert order_of(outcome) == order


def test_runs_left_out_are_counted(dltrain: Command, three: list[Path], tmp_path: Path) -> None:
    config = config_of(7, debug="smoke")
    make_run(tmp_path / "outputs", f"{DAY}/10-00-00-000004_mlp_digits_smoke", config, results_of())
    outcome = dltrain("runs", "--limit", "1")
    assert outcome.out.splitlines()[-1] == (
        "2 more (--limit 3 shows all); 1 debug run hidden (--all shows them)"
    )
    assert order_of(dltrain("runs", "--all")) == "4321"
    assert order_of(dltrain("runs", "--where", "debug=smoke")) == "4"


def test_groups(dltrain: Command, three: list[Path]) -> None:
    lines = dltrain("runs", "--group").out.splitlines()
    assert lines[0].split()[:5] == ["runs", "status", "model", "dataset", "lr"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert lines[0].split()[-6:] == ["test/accuracy", "95", "%", "interval", "n", "time"]
    assert "0.7000 ± 0.1414  -0.5706 to 1.9706  2  3.5 s" in lines[2]
    lines = dltrain("runs", "--group=model").out.splitlines()
    assert "0.7667 ± 0.1528" in lines[1]


@pytest.fixture
def ten(tmp_path: Path) -> None:
    """Five seeds of two learning rates, the smaller one better by about 0.1."""
    for number in range(10):
        seed, lr = number % 5, (0.001, 0.1)[number // 5]
        accuracy = 0.9 - lr + 0.01 * seed + 0.002 * (number % 3)
        path = f"{DAY}/10-00-00-00000{number}_mlp_digits"
        make_run(tmp_path / "outputs", path, config_of(seed, lr), results_of(accuracy))


def test_groups_are_compared_in_words(dltrain: Command, ten: None) -> None:
    """On a screen and in JSON, not in CSV; also if the table is cut."""
    sentence = "lr=0.001 is better than lr=0.1 by 0.0986 ± "
    for words in ((), ("--limit", "1"), ("--columns", "runs")):
        lines = dltrain("runs", "--group", *words).out.splitlines()
        assert lines[-2].startswith(sentence)
        assert lines[-2].endswith(" test/accuracy (5 paired seeds, p < 0.001)")
        assert lines[-1] == "± is the 95 % interval of the difference"
    assert dltrain("runs", "--group", "--json").json["comparisons"][0].startswith(sentence)
    assert "comparisons" not in dltrain("runs", "--json").json
    assert "better" not in dltrain("runs").out
    assert "better" not in dltrain("runs", "--group", "--csv").out


def test_groups_on_a_narrow_terminal(
    dltrain: Command, ten: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is divided, and long cells are wrapped."""
    monkeypatch.setattr("dltrain.report.text.screen_width", lambda: 60)
    lines = dltrain("runs", "--group").out.splitlines()
    table = lines[:-2]
    assert max(map(len, table)) <= 60
    words = " ".join(table).split()
    assert words.count("interval") == 2
    assert {"0.9206", "0.0162", "0.9407", "n", "time"} <= set(words)


def test_figures_of_groups_in_csv_and_json(dltrain: Command, ten: None) -> None:
    rows = csv.DictReader(io.StringIO(dltrain("runs", "--csv", "--group").out))
    groups = dltrain("runs", "--json", "--group").json["runs"]
    for row, group in zip(rows, groups, strict=True):
        half = stats.t.ppf(0.975, 4) * float(row["test/accuracy std"]) / 5**0.5
        assert float(row["test/accuracy ci95"]) == pytest.approx(half)
        assert row["test/accuracy n"] == "5"
        assert group["ci95"]["test/accuracy"] == pytest.approx(half)
        assert group["n"]["best"] == 5


def test_the_best_values_of_different_metrics_have_no_mean(
    dltrain: Command, three: list[Path]
) -> None:
    best = {"metric": "val/mse", "value": 400.0, "epoch": 2, "step": 20}
    root = three[0].parents[1]
    make_run(root, f"{DAY}/10-00-00-000004_mlp_digits", None, results_of(0.5, best=best))
    words = ["runs", "--group=model", "--columns", "runs,best"]
    outcome = dltrain(*words)
    assert outcome.out.splitlines()[1].split() == ["4", "-"]
    group = dltrain(*words, "--json").json["runs"][0]
    assert (group["mean"]["best"], group["std"]["best"], group["n"]["best"]) == (None, None, 0)


def test_a_key_that_only_runs_left_out_have_is_known(
    dltrain: Command, three: list[Path], tmp_path: Path
) -> None:
    config = config_of(dataset={"path": "photos"})
    make_run(tmp_path / "outputs", f"{DAY}/10-00-00-000004_cnn_photos", config, results_of(0.5))
    outcome = dltrain("runs", "--where", "optimizer.lr=0.1", "--columns", "run,dataset.path")
    assert outcome.out.splitlines()[1].split() == ["10-00-00-000003", "-"]
    assert dltrain("runs", "--where", "optimizer.lr=0.1", "--sort", "dataset.path").code == 0


def test_conditions_that_no_run_meets_are_named(dltrain: Command, three: list[Path]) -> None:
    outcome = dltrain("runs", "--where", "model=CNN", "--where", "test/loss<1")
    assert (
        outcome.out
        == "no run under outputs meets model=CNN and test/loss<1 (3 runs without conditions)\n"
    )


def test_columns(dltrain: Command, three: list[Path]) -> None:
    outcome = dltrain("runs", "--columns", "run,optimizer,model.hidden_sizes,test/loss")
    assert outcome.out.splitlines()[:2] == [
        "  run              optimizer  hidden_sizes  test/loss",
        "  10-00-00-000003  adam       [256, 128]       0.1000",
    ]


def test_csv(dltrain: Command, three: list[Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(dltrain("runs", "--csv").out)))
    assert [row["folder"][-10:] for row in rows] == ["mlp_digits"] * 3
    assert [float(row["test/accuracy"]) for row in rows] == [0.9, 0.6, 0.8]
    assert [row["optimizer.lr"] for row in rows] == ["0.1", "0.001", "0.001"]
    rows = list(csv.DictReader(io.StringIO(dltrain("runs", "--csv", "--group").out)))
    assert [row["runs"] for row in rows] == ["1", "2"]
    assert float(rows[1]["test/accuracy std"]) == pytest.approx(0.2 / 2**0.5)


def test_json(dltrain: Command, three: list[Path]) -> None:
    outcome = dltrain("runs", "--json")
    best = outcome.json["runs"][0]
    assert Path(best["run"]).resolve() == three[2]
    assert (best["metrics"]["test/accuracy"], best["settings"]["optimizer.lr"]) == (0.9, 0.1)
    group = dltrain("runs", "--json", "--group").json["runs"][1]
    assert group["n"]["test/accuracy"] == 2
    assert group["mean"]["test/accuracy"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["model=cnn"], 2, "dltrain runs --where model=cnn"),
        (["--where", "lr>0.1"], 2, "did you mean optimizer.lr?"),
        (["--where", "optimizer.lr"], 2, "quote > and <"),
        (["--sort", "test/acuracy"], 2, "did you mean test/accuracy"),
        (["--columns", "run,modle"], 2, "no run has the key modle; did you mean model"),
        (["--group=modle"], 2, "did you mean model"),
        (["--sort", "time"], 2, "did you mean seconds?"),
        (["--sort", "best val/accuracy"], 2, "did you mean best?"),
        (["paths.outputs=a"], 2, "runs has no setting but paths.output=FOLDER"),
        (["--limit", "many"], 2, "--limit many: expected a whole number"),
        (["--where"], 2, "--where needs a value: --where model=cnn"),
        (["elsewhere"], 3, "elsewhere is not a folder of runs"),
        (["outputs", "outputs2"], 2, "runs takes one folder"),
        (["--delete"], 2, "name the runs to delete"),
    ],
    ids=str,
)
def test_mistakes(
    words: list[str], code: int, message: str, dltrain: Command, three: list[Path]
) -> None:
    outcome = dltrain("runs", *words)
    assert outcome.code == code
    assert message in outcome.err


def test_without_runs(dltrain: Command) -> None:
    assert "no run to show under outputs" in dltrain("runs").out


def test_a_damaged_run_does_no_harm(dltrain: Command, three: list[Path]) -> None:
    (three[1] / "manifest.json").write_text("{")
    outcome = dltrain("runs")
    assert outcome.code == 0
    assert order_of(outcome) == "321"
    assert "damaged  outputs/2030-01-02/10-00-00-000002_mlp_digits/manifest.json" in outcome.out
    assert order_of(dltrain("runs", "--where", "status=damaged")) == "2"


def test_listing_imports_no_torch(three: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys; from dltrain.cli import main; main(['runs']);"
        "sys.exit(bool({'torch', 'numpy', 'hydra', 'yaml'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)


def test_deleting_moves_to_the_trash(dltrain: Command, three: list[Path], tmp_path: Path) -> None:
    outcome = dltrain("runs", "--delete", "000001", three[1].name, "--yes", "--json")
    assert outcome.code == 0, outcome.err
    moved = outcome.json["moved"]
    assert [Path(one["from"]).name for one in moved] == [three[0].name, three[1].name]
    assert order_of(dltrain("runs")) == "3"
    assert dltrain("evaluate", "000001").code == 3
    for one in moved:
        target = Path(one["to"])
        assert (target / "manifest.json").is_file()
        assert f"mv {one['to']} {one['from']}" in outcome.out
        target.rename(one["from"])
    assert order_of(dltrain("runs")) == "321"


def test_deleting_what_is_selected(dltrain: Command, three: list[Path]) -> None:
    outcome = dltrain("runs", "--delete", "--where", "optimizer.lr=0.001", "--yes")
    assert "moved 2 runs to the trash" in outcome.out
    assert order_of(dltrain("runs")) == "3"
    outcome = dltrain("runs", "--delete", "--where", "model=cnn", "--yes")
    assert (outcome.code, "nothing is deleted" in outcome.out) == (0, True)


def test_a_pipe_is_not_asked(dltrain: Command, three: list[Path]) -> None:
    outcome = dltrain("runs", "--delete", "000001")
    assert outcome.code == 2
    assert "add --yes" in outcome.err
    assert all(folder.exists() for folder in three)


class Typist(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "is_deleted"),
    [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False), ("x\n", False)],
)
def test_a_terminal_is_asked(
    typed: str,
    is_deleted: bool,
    dltrain: Command,
    three: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", Typist(typed))
    outcome = dltrain("runs", "--delete", "000001")
    assert outcome.code == 0
    assert "move 1 run to the trash? [y/N]" in outcome.out
    assert three[0].exists() != is_deleted
    assert ("nothing is deleted" in outcome.out) != is_deleted


def test_a_run_that_is_training_is_not_deleted(dltrain: Command, three: list[Path]) -> None:
    with RunFolder(three[1]).locked():
        outcome = dltrain("runs", "--delete", "000001", "000002", "--yes")
    assert outcome.code == 2
    assert "000002_mlp_digits is not deleted: it is being written by a run" in outcome.err
    assert all(folder.exists() for folder in three)


def test_a_sweep_with_a_job_that_is_training_is_not_deleted(
    dltrain: Command, tmp_path: Path
) -> None:
    sweep = f"{DAY}/10-00-00-000001_sweep"
    jobs = [make_run(tmp_path / "outputs", f"{sweep}/{n}", None, results_of()) for n in range(2)]
    with RunFolder(jobs[1]).locked():
        assert dltrain("runs", "--delete", f"outputs/{sweep}", "--yes").code == 2
    assert dltrain("runs", "--delete", f"outputs/{sweep}", "--yes").code == 0
    assert not (tmp_path / "outputs" / sweep).exists()


def test_links_are_moved_and_not_followed(
    dltrain: Command, three: list[Path], tmp_path: Path
) -> None:
    """A link to a run's folder elsewhere goes; the folder stays, also when the trash is emptied."""
    elsewhere = make_run(tmp_path / "far", f"{DAY}/10-00-00-000007_mlp_digits", None, results_of())
    link = tmp_path / "outputs" / DAY / "10-00-00-000008_mlp_digits"
    link.symlink_to(elsewhere)
    (three[0] / "link").symlink_to(elsewhere)
    assert dltrain("runs", "--delete", "000008", "000001", "--yes").code == 0
    assert not link.is_symlink()
    assert dltrain("runs", "--empty-trash", "--yes").code == 0
    assert (elsewhere / "manifest.json").is_file()
    assert list((tmp_path / "outputs" / TRASH).iterdir()) == []


def test_a_folder_outside_the_root_is_refused(
    dltrain: Command, three: list[Path], tmp_path: Path
) -> None:
    """Also one to which a link above the run leads, and a trash that is a link."""
    far = make_run(tmp_path / "far", "2030-01-03/10-00-00-000007_mlp_digits", None, results_of())
    (tmp_path / "outputs" / "2030-01-03").symlink_to(far.parent)
    for name in ("000007", "far/2030-01-03/10-00-00-000007_mlp_digits", "far/2030-01-03"):
        outcome = dltrain("runs", "--delete", name, "--yes")
        assert outcome.code in (2, 3), name
        assert far.exists()
    (tmp_path / "outputs" / TRASH).symlink_to(tmp_path)
    for words in (["--delete", "000001"], ["--empty-trash"]):
        outcome = dltrain("runs", *words, "--yes")
        assert outcome.code == 2
        assert "is a link" in outcome.err
    assert all(folder.exists() for folder in three)


def test_a_run_that_others_began_from_is_named(
    dltrain: Command, three: list[Path], tmp_path: Path
) -> None:
    config = config_of(init={"from": "000001", "weights": None})
    make_run(tmp_path / "outputs", f"{DAY}/10-00-00-000005_mlp_digits", config, results_of())
    fork = {"parent": {"run": str(three[1]), "step": 3}}
    make_run(tmp_path / "outputs", f"{DAY}/10-00-00-000006_fork", None, results_of(), **fork)
    outcome = dltrain("runs", "--delete", "000001", "000002", "--yes")
    assert "000005_mlp_digits was made from 000001, which will be in the trash" in outcome.out
    assert "000006_fork was made from" in outcome.out


def test_emptying_asks(dltrain: Command, three: list[Path], tmp_path: Path) -> None:
    assert "the trash of outputs is empty" in dltrain("runs", "--empty-trash").out
    dltrain("runs", "--delete", "000001", "--yes")
    assert dltrain("runs", "--empty-trash").code == 2
    assert len(list((tmp_path / "outputs" / TRASH).iterdir())) == 1


def test_a_trained_run_says_what_is_listed(dltrain: Command) -> None:
    """The manifest of a new run has its choices and the directions of its metrics."""
    trained = dltrain("model=mlp", "trainer.epochs=1", "callbacks=quiet", "name=first", "--json")
    assert trained.code == 0, trained.err
    (run,) = dltrain("runs", "--json").json["runs"]
    assert (run["status"], run["name"], run["watch"]) == ("completed", "first", "val/accuracy")
    assert (run["choices"]["optimizer"], run["mode"]) == ("adam", "max")
    manifest = json.loads((Path(run["run"]) / "manifest.json").read_text())
    assert manifest["directions"]["loss"] == "min"


def test_a_terminal_gets_as_many_rows_as_fit(
    dltrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        make_run(tmp_path / "outputs", f"{DAY}/10-00-00-00000{number}_mlp", None, results_of())
    monkeypatch.setattr("dltrain.commands.runs.screen_width", lambda: 200)
    monkeypatch.setenv("LINES", "13")
    monkeypatch.setenv("COLUMNS", "200")
    outcome = dltrain("runs")
    assert order_of(outcome) == "8765432"
    assert "2 more (--limit 9 shows all)" in outcome.out
    assert len(dltrain("runs", "--json").json["runs"]) == 9
