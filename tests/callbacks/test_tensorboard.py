"""TensorBoard: what is written for it, and that a run continues without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from small_runs import SMALL, lines

from dltrain.callbacks.tensorboard import TensorBoard, remove_hparams
from dltrain.runs.folder import RunFolder


def loaded(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def texts(events: Any, name: str) -> list[tuple[int, str]]:
    """Step and text of everything that was written under `name`."""
    written = events.Tensors(f"{name}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in written]


def hparams(events: Any) -> dict[str, Any]:
    """Return what a run has in the HParams tab."""
    from tensorboard.plugins.hparams import metadata

    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def test_tensorboard_has_everything(dltrain: Callable[..., Any]) -> None:
    """Scalars, learning rate, gradient norm, HParams, graph, pictures and text."""
    outcome = dltrain(*SMALL, "callbacks.progress=null", "--json")
    assert outcome.code == 0, outcome.err
    folder = Path(outcome.json["run"])
    events = loaded(folder / "tensorboard")
    tags = events.Tags()
    scalars = {
        "train/loss",
        "train/lr",
        "train/grad_norm",
        "val/loss",
        "val/accuracy",
        "test/accuracy",
        "test/f1",
    }
    assert scalars <= set(tags["scalars"])
    assert {tag.partition("/")[0] for tag in tags["scalars"]} == {"train", "val", "test"}, (
        "no cards of one point"
    )
    pictures = {
        f"{split}/{name}"
        for split in ("val", "test")
        for name in ("samples", "mistakes", "confusion")
    }
    assert pictures <= set(tags["images"])
    assert all(events.Images(tag)[0].width > 8 for tag in pictures)
    assert tags["graph"]
    for name in ("train/loss", "train/lr", "train/grad_norm", "val/accuracy"):
        logged = {line["step"]: line[name] for line in lines(folder) if name in line}
        assert {event.step: event.value for event in events.Scalars(name)} == pytest.approx(
            logged, rel=1e-6
        ), name
    ((step, command),) = texts(events, "command")
    assert step == 0
    assert "model=mlp" in command
    ((_, configuration),) = texts(events, "configuration")
    shown = yaml.safe_load(
        "\n".join(line.removeprefix("    ") for line in configuration.splitlines())
    )
    assert shown["model"]["hidden_sizes"] == [16]
    assert "    paths:" in configuration.splitlines(), "YAML, not JSON"


def test_hparams_are_what_the_run_was_given_and_its_best_figure(
    dltrain: Callable[..., Any],
) -> None:
    """No targets, no callbacks, nothing that is the default; and TensorBoard finds the metrics by
    itself.
    """
    outcome = dltrain(*SMALL, "callbacks.progress=null", "optimizer.lr=0.001", "seed=3", "--json")
    found = hparams(loaded(Path(outcome.json["run"]) / "tensorboard"))
    assert found == {
        "model": "mlp",
        "dataset": "digits",
        "model.hidden_sizes": "[16]",
        "dataset.batch_size": 128,
        "trainer.epochs": 2,
        "trainer.log_every": 4,
        "seed": 3,
        "val/accuracy (best)": pytest.approx(outcome.json["best"]["value"]),
    }


def test_tensorboard_under_another_key_writes_the_same(dltrain: Callable[..., Any]) -> None:
    """The callback's key is a name: test figures, graph, HParams and the closing line do not depend
    on it.
    """
    runs = []
    for key in ("tensorboard", "curves"):
        chosen = f"+callbacks.{key}={{_target_: dltrain.callbacks.tensorboard.TensorBoard}}"
        overrides = [
            *SMALL,
            "callbacks=quiet",
            chosen.replace("+callbacks.tensorboard", "callbacks.tensorboard"),
        ]
        outcome = dltrain(*overrides, "--json")
        assert outcome.code == 0, outcome.err
        assert "tensorboard --logdir" in outcome.out + outcome.err
        events = loaded(Path(outcome.json["run"]) / "tensorboard")
        tags = {kind: tags for kind, tags in events.Tags().items() if kind != "distributions"}
        runs.append((tags, hparams(events), events.Scalars("test/accuracy")[0].value))
    assert runs[0] == runs[1]
    assert runs[0][0]["graph"]


def test_a_resumed_run_shows_all_its_commands_and_its_new_settings(
    dltrain: Callable[..., Any],
) -> None:
    """TensorBoard keeps the first hyper-parameters of a run: those of its first end are
    taken out.
    """
    first = dltrain(*SMALL, "callbacks.progress=null", "--json").json
    again = dltrain("resume", first["run"], "trainer.epochs=4", "--json")
    assert again.code == 0, again.err
    events = loaded(Path(first["run"]) / "tensorboard")
    (begun, one), (resumed, both) = texts(events, "command")
    assert (begun, resumed) == (0, first["steps"])
    assert [line.split()[:2] for line in both.splitlines()] == [
        ["dltrain", "model=mlp"],
        ["dltrain", "resume"],
    ]
    assert one.strip() == both.splitlines()[0].strip()
    assert [step for step, _ in texts(events, "configuration")] == [0, first["steps"]]
    found = hparams(events)
    assert found["trainer.epochs"] == 4
    assert found["val/accuracy (best)"] == pytest.approx(again.json["best"]["value"])
    epochs = [event.step for event in events.Scalars("val/accuracy")]
    assert epochs == sorted(set(epochs))
    assert len(epochs) == 4


def test_a_run_of_an_earlier_version_has_all_its_settings_as_hparams(
    dltrain: Callable[..., Any],
) -> None:
    first = dltrain(*SMALL, "callbacks.progress=null", "--json").json
    manifest = Path(first["run"]) / "manifest.json"
    known = json.loads(manifest.read_text())
    del known["settings"]
    manifest.write_text(json.dumps(known))
    assert dltrain("resume", first["run"], "trainer.epochs=3").code == 0
    found = hparams(loaded(Path(first["run"]) / "tensorboard"))
    assert (found["trainer.epochs"], found["optimizer.lr"]) == (3, 0.001)
    assert not [name for name in found if name.endswith("_target_") or name.startswith("callbacks")]


@pytest.mark.parametrize("title", ["../elsewhere", "..", "", 7, "/tmp/x", None])
def test_a_manifest_cannot_send_events_elsewhere(title: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({"tensorboard": title}))
    subscribed: Any = SimpleNamespace(subscribe=lambda subscriber: None)
    assert (
        TensorBoard(RunFolder(tmp_path / "run"), subscribed, {}, "").folder
        == tmp_path / "run" / "tensorboard"
    )


def test_hparams_are_taken_out_of_a_torn_file_too(tmp_path: Path) -> None:
    """A record that a kill cut short stays as it is."""
    records = [b"abc", b"x_hparams_/session_start_info", b"", b"defg"]
    packed = [len(r).to_bytes(8, "little") + b"head" + r + b"tail" for r in records]
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"".join(packed)[:-2])
    remove_hparams(path)
    assert path.read_bytes() == (packed[0] + packed[2] + packed[3])[:-2]
    path.write_bytes(b"\xff" * 5)
    remove_hparams(path)
    assert path.read_bytes() == b"\xff" * 5


@pytest.mark.parametrize("failing", ["add_scalar", "file_writer", "add_text", "flush"])
def test_tensorboard_does_not_stop_a_run(
    failing: str, dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writing thread raises in whatever is called next: one line, and the run is done and
    whole.
    """
    from torch.utils.tensorboard import FileWriter, SummaryWriter

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "file_writer":  # which writes images
        monkeypatch.setattr(FileWriter, "add_summary", full)
    else:
        monkeypatch.setattr(SummaryWriter, failing, full)
    outcome = dltrain(
        "model=mlp", "dataset=digits", "trainer.epochs=1", "trainer.log_every=5", "--json"
    )
    assert outcome.code == 0, outcome.err
    assert (
        outcome.out.count(
            "TensorBoard cannot be written (No space left on device); training continues"
        )
        == 1
    )
    assert outcome.json["metrics"]["test/accuracy"] > 0.5
