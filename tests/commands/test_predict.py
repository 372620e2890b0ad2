"""`predict`: files, tables and texts, also without the training data, and unreadable inputs."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dltrain.cli import main, parse
from dltrain.config.compose import compose
from dltrain.data.images.digits import Digits
from dltrain.experiment.experiment import Experiment
from dltrain.options import Options
from dltrain.report import predictions
from dltrain.runs import predict as module
from dltrain.verbs import VERBS

SOURCE = """
import torch
from pathlib import Path
from dltrain.types import Spec

class Saved:
    def __init__(self, file: str) -> None:
        self.file = Path(file)

    @property
    def spec(self) -> Spec:
        inputs, _ = self.read()["train"]  # no file, no spec
        return Spec(tuple(inputs.shape[1:]), ("dark", "bright"), 60, 20)

    def read(self):
        stored = torch.load(self.file, weights_only=True)
        return {"train": (stored[0], stored[1]), "test": (stored[0][:20], stored[1][:20])}
"""


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder of test digits as PNGs, in two levels, each named by its class."""
    inputs, targets = Digits().read()["test"]
    (tmp_path / "digits" / "more").mkdir(parents=True)
    for i in range(6):
        name = f"{'more/' if i > 3 else ''}{i}_is={targets[i]}.png"
        Image.fromarray(inputs[i, 0].numpy()).save(tmp_path / "digits" / name)
    (tmp_path / "digits" / "notes.txt").write_text("no image")
    (tmp_path / "digits" / ".hidden.png").write_text("no image")
    return tmp_path / "digits"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows digits well enough."""
    root = tmp_path_factory.mktemp("trained")
    words = (
        "model=mlp",
        "trainer.epochs=2",
        "callbacks=quiet",
        "regularization=[ema]",
        f"paths.output={root}",
    )
    assert main(list(words)) == 0
    return next(root.glob("*/*"))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "outputs" / "today" / trained.name))


def rows_of(outcome: Any) -> dict[str, dict[str, Any]]:
    assert outcome.code == 0, outcome.err
    return {Path(row["input"]).name: row for row in outcome.json["rows"]}


def test_predict_takes_every_image_below_a_folder(run: Path, digits: Path, dltrain) -> None:
    outcome = dltrain("predict", str(run), "digits", "--json")
    rows = rows_of(outcome)
    assert len(rows) == 6
    right = sum(
        row["class"] == name.partition("=")[2].removesuffix(".png") for name, row in rows.items()
    )
    assert right >= 5
    for row in rows.values():
        shares = [candidate["probability"] for candidate in row["top"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
        assert row["top"][0] == {"class": row["class"], "probability": row["probability"]}
    assert "class_3  probability_3" in outcome.out
    assert outcome.json["predicted"] == 6


def test_predictions_are_those_of_the_averaged_weights_on_the_same_inputs(
    run: Path, digits: Path, dltrain
) -> None:
    """`evaluate` and `predict` use one network: they agree on the same images."""
    from dltrain.engine import Resume
    from dltrain.runs import checkpoint
    from dltrain.runs.checkpoint import Store
    from dltrain.runs.folder import RunFolder
    from dltrain.runs.open import position, saved_configuration

    rows = rows_of(dltrain("predict", str(run), "digits", "top=10", "--json"))
    experiment = Experiment.to_evaluate(saved_configuration(RunFolder(run), []).config, None)
    store = Store(run / "checkpoints")
    best = store.pointed("best")
    assert best is not None
    engine = position(experiment, Resume(checkpoint.load(best), {}))
    plain = experiment.task.state_dict()["model.1.weight"].clone()
    inputs, _ = next(experiment.data.test.epoch(0))
    experiment.task.eval()
    with torch.no_grad(), engine.stage.optims[0].averaged():
        assert not torch.equal(plain, experiment.task.state_dict()["model.1.weight"])
        expected = experiment.task.predict(inputs[:6])
    for name, row in rows.items():
        said = {candidate["class"]: candidate["probability"] for candidate in row["top"]}
        for label, share in zip("0123456789", expected[int(name[0])].tolist(), strict=True):
            assert said[label] == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--", "digits/0_is=*.png"], 1),
        (["digits/*.png"], 4),
        (["digits/**/*.png"], 6),
        (["digits", "digits/*.png"], 6),
        (["--", "digits/*.png"], 4),
    ],
    ids=str,
)
def test_globs_are_matched_and_no_file_is_predicted_twice(
    words: list[str], count: int, run: Path, digits: Path, dltrain
) -> None:
    assert len(rows_of(dltrain("predict", str(run), "--json", *words))) == count


def test_a_name_that_looks_like_a_setting_is_a_file_if_there_is_one(
    run: Path, digits: Path, dltrain
) -> None:
    for name in ("top=2", "checkpoint=last.png", "-dash.png", "~x.png"):
        shutil.copy(next(digits.glob("0_*")), name)
    words = ["top=2", "checkpoint=last.png", "~x.png", "checkpoint=last", "--", "-dash.png"]
    outcome = dltrain("predict", str(run), "--json", *words)
    assert list(rows_of(outcome)) == ["top=2", "checkpoint=last.png", "~x.png", "-dash.png"]
    assert len(outcome.json["rows"][0]["top"]) == 3
    outcome = dltrain("predict", str(run), "./-dash.png", "top=1", "--json")
    assert len(outcome.json["rows"][0]["top"]) == 1


def test_the_words_of_predict_may_come_in_any_order() -> None:
    options = Options(
        argv=[
            "predict",
            "last",
            "top=2",
            "a.png",
            "--out",
            "x.csv",
            "b.png",
            "--json",
            "--",
            "c=d",
            "--e",
        ]
    )
    parse(options)
    assert options.names == ["last", "a.png", "b.png", "c=d", "--e"]
    assert options.overrides == ["top=2"]
    assert (options.out, options.json) == ("x.csv", True)


def test_csv_has_a_column_for_each_candidate(run: Path, digits: Path, dltrain) -> None:
    outcome = dltrain("predict", str(run), "digits", "--out", "answers.csv", "top=2", "--json")
    rows = rows_of(outcome)
    with Path("answers.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["input", "class", "probability", "class_2", "probability_2"]
    assert len(read) == 6
    for row in read:
        said = rows[Path(row["input"]).name]
        assert (row["class"], float(row["probability_2"])) == (
            said["class"],
            said["top"][1]["probability"],
        )
    assert outcome.json["out"] == "answers.csv"


def test_jsonl_has_a_line_for_each_input(run: Path, digits: Path, dltrain) -> None:
    outcome = dltrain("predict", str(run), "digits", "--out=answers.jsonl", "--json")
    read = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert read == outcome.json["rows"]


def test_unreadable_inputs_are_named_and_the_others_predicted(
    run: Path, digits: Path, dltrain
) -> None:
    (digits / "broken.png").write_text("no image")
    outcome = dltrain(
        "predict", str(run), "digits", "nowhere.png", "no*thing", "--out", "answers.csv", "--json"
    )
    assert outcome.code == 3
    assert "digits/broken.png cannot be read as an image" in outcome.err
    assert "nowhere.png: no such file" in outcome.err
    assert "no*thing matches no file" in outcome.err
    assert "3 inputs could not be read; 6 predicted" in outcome.err
    assert len(outcome.json["problems"]) == 3
    assert len(Path("answers.csv").read_text().splitlines()) == 7
    assert not list(Path().glob(".tmp*"))


def test_without_predictions_nothing_is_written(run: Path, dltrain) -> None:
    Path("answers.csv").write_text("earlier")
    Path("empty").mkdir()
    outcome = dltrain("predict", str(run), "empty", "--out", "answers.csv")
    assert outcome.code == 3
    assert "empty has no image in it" in outcome.err
    assert Path("answers.csv").read_text() == "earlier"
    assert not list(Path().glob(".tmp*"))


def test_an_interrupted_writing_leaves_the_earlier_file(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text("earlier")

    def rows() -> Any:
        yield {"input": "a"}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        predictions.write(rows(), out)
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]
    assert out.read_text() == "earlier"


def test_many_inputs_go_in_batches(
    run: Path, digits: Path, dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows_of(dltrain("predict", str(run), "digits", "--json"))
    monkeypatch.setattr(module, "BATCH_SIZE", 4)
    monkeypatch.setattr(predictions, "MAX_KEPT_ROWS", 6)
    parts = rows_of(dltrain("predict", str(run), "digits", "--json"))
    assert parts.keys() == whole.keys()
    for name, row in parts.items():
        assert row["probability"] == pytest.approx(whole[name]["probability"], abs=1e-6)
    monkeypatch.setattr(predictions, "MAX_KEPT_ROWS", 5)
    assert "rows" not in dltrain("predict", str(run), "digits", "--json").json


def test_the_training_data_may_be_gone(
    dltrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "saved_set.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, "saved_set", raising=False)
    targets = torch.arange(60) % 2
    images = (targets.view(-1, 1, 1, 1) * 100 + torch.randint(60, (60, 1, 6, 6))).to(torch.uint8)
    torch.save([images, targets], "set.pt")
    trained = dltrain(
        *(
            "plugins=[saved_set]",
            "dataset.source={_target_: saved_set.Saved, file: set.pt}",
            "model=mlp",
        ),
        *("trainer.epochs=3", "callbacks=quiet", "--json"),
    )
    assert trained.code == 0, trained.err
    Image.new("L", (6, 6), 20).save("a.png")
    Image.new("RGB", (30, 20), (130, 130, 130)).save("b.png")
    here = rows_of(dltrain("predict", "last", "a.png", "b.png", "plugins=[saved_set]", "--json"))
    assert [row["class"] for row in here.values()] == ["dark", "bright"]
    Path("set.pt").unlink()
    gone = rows_of(dltrain("predict", "last", "a.png", "b.png", "plugins=[saved_set]", "--json"))
    assert gone == here


def test_a_smoke_run_predicts_too(digits: Path, dltrain) -> None:
    assert dltrain("model=mlp", "debug=smoke", "callbacks=quiet").code == 0
    assert len(rows_of(dltrain("predict", "last-any", "digits", "--json"))) == 6


def test_a_table_is_predicted_row_by_row(dltrain) -> None:
    """A run on a table names its target; a bad line is reported, the others are predicted."""
    from sklearn.datasets import load_diabetes

    assert dltrain("dataset=diabetes", "trainer.epochs=1", "callbacks=quiet").code == 0
    table = load_diabetes(scaled=False)
    lines = [",".join(map(str, row)) for row in (table.feature_names, *table.data[:3].tolist())]
    Path("rows.csv").write_text("\n".join([*lines, "x,1", lines[1]]) + "\n")
    outcome = dltrain("predict", "last", "rows.csv", "--json")
    assert outcome.code == 3
    assert "rows.csv:5" in outcome.err
    answers = [row["target"] for row in outcome.json["rows"]]
    assert len(answers) == 4
    assert answers[0] == pytest.approx(answers[3])
    assert 20 < answers[0] < 350


def test_a_task_without_prediction_rows_shows_its_numbers() -> None:
    assert module.numbered(torch.tensor([[1.0, 2.0], [3.0, 4.0]])) == [
        {"output_1": 1.0, "output_2": 2.0},
        {"output_1": 3.0, "output_2": 4.0},
    ]
    assert module.numbered(torch.tensor([1.0, 2.0])) == [{"output_1": 1.0}, {"output_1": 2.0}]
    with pytest.raises(module.UsageError, match="prediction_rows"):
        module.numbered({"a": 1})


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "predict needs either inputs"),
        (["digits", "top=0"], 2, "top=0: expected a whole number > 0"),
        (["digits", "top=many"], 2, "top=many: expected"),
        (["digits", "checkpoint=first"], 2, "checkpoint=first: expected best, last"),
        (["digits", "--out", "answers.txt"], 2, "expected a name that ends in .csv or .jsonl"),
        (["digits", "--out", "nowhere/answers.csv"], 2, "there is no folder nowhere"),
        (["digits", "--out"], 2, "--out needs a value"),
        (["digits", "model.hidden_sizes=[3]"], 3, "the checkpoint does not fit"),
        (["digits", "model.hiden_sizes=[3]"], 2, "did you mean model.hidden_sizes"),
    ],
    ids=str,
)
def test_a_mistake_is_reported(
    words: list[str], code: int, message: str, run: Path, digits: Path, dltrain
) -> None:
    outcome = dltrain("predict", str(run), *words)
    assert outcome.code == code
    assert message in outcome.err


def test_out_goes_with_verbs_that_write_a_file(dltrain) -> None:
    outcome = dltrain("train", "--out", "x.csv")
    assert outcome.code == 2
    assert "--out is a flag of `dltrain evaluate`, `dltrain predict`" in outcome.err


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("last --samples 9 --out 'a b' seed=3", 'generate last --samples 9 --out "a b" seed=3'),
        ("last --samples=9", "generate last --samples=9"),
        ("last 'To be' --tokens 5 top_p=0.5", 'generate last "To be" --tokens 5 top_p=0.5'),
        ("last --out x.vec --json", "export --format word2vec last --out x.vec --json"),
        ("--out=x.gif last checkpoint=last", "--out=x.gif rollout last checkpoint=last"),
    ],
)
def test_the_new_command_is_given_for_the_old_spelling(old: str, new: str, dltrain) -> None:
    argv = shlex.split(old)
    before = argv[: argv.index("last")]
    words = [*before, "predict", *argv[len(before) :]]
    outcome = dltrain(*words)
    assert outcome.code == 2
    *_, message = outcome.err.splitlines()
    assert message == f"dltrain: predict no longer does this; type: dltrain {new}"
    answered = Options(argv=shlex.split(new))
    verb = parse(answered)
    assert verb is VERBS[next(word for word in shlex.split(new) if word in VERBS)]


def test_only_word2vec_is_exported(dltrain) -> None:
    outcome = dltrain("debug=smoke", "callbacks=quiet")
    assert outcome.code == 0, outcome.err
    assert (
        "export needs a format: --format safetensors or word2vec"
        in dltrain("export", "last-any").err
    )
    assert (
        "expected safetensors or word2vec" in dltrain("export", "last-any", "--format", "onnx").err
    )
    outcome = dltrain("export", "last-any", "--format", "word2vec")
    assert outcome.code == 2
    assert "a run of Classification has no word vectors" in outcome.err


def test_a_run_without_checkpoint_or_none_at_all(run: Path, digits: Path, dltrain) -> None:
    assert dltrain("predict").code == 2
    assert dltrain("predict", "nope", "digits").code == 3
    shutil.rmtree(run / "checkpoints")
    outcome = dltrain("predict", str(run), "digits")
    assert outcome.code == 3
    assert "has no checkpoint" in outcome.err


def test_predictions_rank_all_classes() -> None:
    task = Experiment.on_fake_data(compose(["model=mlp"]).config).task
    probabilities = torch.rand(5, 10).softmax(dim=1)
    rows = task.prediction_rows(probabilities)
    assert [row["class"] for row in rows] == [str(int(k)) for k in probabilities.argmax(dim=1)]
    assert all(len(row["top"]) == 10 for row in rows)


def test_a_list_of_things_is_a_list_of_names_in_a_table() -> None:
    boxes = [
        {"class": "cat", "score": 0.98765, "box": [1.0, 2.0, 3.0, 4.0]},
        {"class": "dog", "score": 0.5, "box": []},
    ]
    assert [predictions.cell(value) for value in (boxes, [3, 4], [], 0.5, "a", 7)] == [
        "cat, dog",
        "3, 4",
        "",
        "0.5000",
        "a",
        "7",
    ]
