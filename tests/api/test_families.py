"""A predictor of every family predicts what the command predicts, to the bit, on its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_data import OWN_DATA

import dltrain as library

BRIEF = ("trainer.epochs=1", "trainer.steps=2", "callbacks=quiet", "paths.data=data")


def trained(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> library.Run:
    """A run on data of a kind, from which nothing but its folder is left."""
    own = OWN_DATA[name]
    own.write(home)
    with monkeypatch.context() as patch:
        patch.chdir(home)
        return library.train(f"dataset={own.dataset}", *own.overrides, *BRIEF)


@pytest.mark.parametrize("name", OWN_DATA)
def test_a_predictor_needs_nothing_but_itself(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dltrain
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    run = trained(name, home, monkeypatch)
    inputs = OWN_DATA[name].write_inputs(tmp_path)
    outcome = dltrain("predict", str(run.folder), *inputs, "--out", "rows.jsonl")
    assert outcome.code == 0, outcome.err
    net = library.load(run)
    shutil.rmtree(home)
    rows = list(net.predict(inputs))
    expected = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [json.loads(json.dumps(row)) for row in rows] == expected
    assert not net.model.training
    assert isinstance(net.model, torch.nn.Module)


@pytest.mark.parametrize("dataset", ["cartpole", "frozenlake"])
def test_an_environment_has_no_samples_to_predict(dataset: str) -> None:
    net = library.train(f"dataset={dataset}", "trainer.epochs=1", "trainer.steps=2").load()
    with pytest.raises(library.UsageError, match="an environment has no samples to predict"):
        list(net.predict(split="test"))


@pytest.mark.parametrize("kind", ["uint8", "float", "tensor"])
@pytest.mark.parametrize("name", ["image_folder", "image_folder dcgan", "coco"])
def test_pixels_in_memory_are_those_of_a_file(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    home = tmp_path / "home"
    home.mkdir()
    net = trained(name, home, monkeypatch).load()
    channels, height, width = net.spec.input_shape
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    Image.fromarray(pixels).save("one.png")
    (row,) = net.predict("one.png")
    values: Any = pixels.transpose(2, 0, 1)[None]
    if kind == "tensor":
        values = torch.from_numpy(values)
    if kind == "float":
        values = values / 255
    outputs = net(values)
    (of_batch,) = net.trained.engine.task.prediction_rows(outputs)
    tolerance = {"rel": 1e-4, "abs": 1e-5}
    if "class" in row:
        assert of_batch["probability"] == pytest.approx(row["probability"], **tolerance)
    if "real" in row:
        assert of_batch["real"] == pytest.approx(row["real"], **tolerance)
    (of_array,) = net.predict(pixels)
    (of_image,) = net.predict(Image.open("one.png"))
    with Path("one.png").open("rb") as file:
        (of_file,) = net.predict(file)
    for other in (of_array, of_image, of_file):
        assert {**other, "input": "one.png"} == row


def test_rows_in_memory_are_those_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    net = trained("tabular", tmp_path, monkeypatch).load()
    Path("new.csv").write_text("area,city,rent\n33.5,Oslo,400.5\n71,Rome,700.5\n")
    expected = [row["top"] for row in net.predict("new.csv")]
    rows = [
        {"area": 33.5, "city": "Oslo", "rent": 400.5},
        {"area": np.int64(71), "city": "Rome", "rent": "700.5"},
    ]
    frame = pa.table({name: [row[name] for row in rows] for name in ("area", "city")})
    frame = frame.append_column("rent", pa.array([400.5, 700.5]))
    for inputs in (rows, iter(rows), frame):
        assert [row["top"] for row in net.predict(inputs)] == expected
    assert next(net.predict(rows[1]))["top"] == expected[1]
    assert [row["input"] for row in net.predict(rows)] == ["row 0", "row 1"]


def test_numbers_in_memory_are_those_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = library.train("dataset=wine", "model=mlp", *BRIEF).load()
    names = net.trained.reader.row_columns
    values = np.random.default_rng(0).random((5, len(names))).round(3)
    lines = [",".join(names), *(",".join(map(str, row)) for row in values.tolist())]
    Path("new.csv").write_text("\n".join(lines) + "\n")
    expected = [row["top"] for row in net.predict("new.csv", top=9)]
    assert [row["top"] for row in net.predict(values, top=9)] == expected
    for probabilities, row in zip(net(values).tolist(), expected, strict=True):
        told = {candidate["class"]: candidate["probability"] for candidate in row}
        assert told == dict(zip(net.class_names, probabilities, strict=True))


def test_windows_of_a_series_are_those_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = trained("timeseries", tmp_path, monkeypatch).load()
    values = [round(10 + 0.1 * i, 2) for i in range(20)]
    Path("new.csv").write_text("\n".join(["sold", *map(str, values)]) + "\n")
    (row,) = net.predict("new.csv")
    window = np.array(values[-12:])
    assert net(window[None])[0, 0].item() == row["t+1"]
    assert net(window[None, :, None])[0, 0].item() == row["t+1"]
    (of_array,) = net.predict(np.array(values))
    assert of_array["t+1"] == row["t+1"]


def test_token_numbers_are_those_of_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = trained("text_files", tmp_path, monkeypatch).load()
    tokens = net.trained.reader.encode_text("a dull film")
    (row,) = net.predict("a dull film")
    assert net(tokens[None]).max().item() == row["probability"]
    assert net(tokens[None].numpy().astype(np.int32)).max().item() == row["probability"]


def test_texts_are_predicted_each_even_if_they_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = trained("text_files", tmp_path, monkeypatch).load()
    rows = list(net.predict(["a film", "a film", "dull"] * 100))
    assert len(rows) == 300
    assert rows[0] == rows[1]


@pytest.mark.parametrize("dataset", ["frozenlake", "cartpole"])
def test_an_agent_values_actions_and_plays(dataset: str) -> None:
    settings = [f"dataset={dataset}"]
    observations: Any = np.array([0, 3, 5])
    if dataset == "cartpole":
        settings += ["model=q_network", "task=dqn"]
        observations = np.zeros((3, 4))
    net = library.train(*settings, *BRIEF).load()
    assert net(observations).shape == (3, len(net.spec.actions))
    frames = net.rollout(seed=1)
    assert frames[0].ndim == 3
    with pytest.raises(library.InputError, match="rollout"):
        list(net.predict("episode.gif")) if Path("episode.gif").write_bytes(b"x") else None


def test_images_are_those_that_the_command_generates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dltrain
) -> None:
    from PIL import Image

    run = trained("image_folder vae", tmp_path, monkeypatch)
    net = run.load()
    images = net.generate(samples=2, seed=3)
    assert torch.equal(images, net.generate(samples=2, seed=3))
    assert not torch.equal(images, net.generate(samples=2))
    outcome = dltrain(
        "generate", str(run.folder), "seed=3", "--samples", "2", "--out", "made", "--json"
    )
    assert outcome.code == 0, outcome.err
    pixels = (images[1] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(Image.open("made/1.png")), pixels)


def test_texts_are_those_that_the_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dltrain
) -> None:
    run = trained("language_modeling", tmp_path, monkeypatch)
    net = run.load()
    text = net.generate("a fine", tokens=5)
    outcome = dltrain("generate", str(run.folder), "a fine", "--tokens", "5", "--json")
    assert outcome.json["written"] == [text]
    assert net.generate(["a fine", "a dull"], tokens=5)[0] == text
