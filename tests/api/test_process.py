"""A program that calls dltrain finds its process as before, and the numbers are the CLI's."""

from __future__ import annotations

import contextlib
import csv
import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dltrain as library
from dltrain.api.process import PRECISE, flushes_denormals, isolated

BRIEF = ("dataset=digits", "model=mlp", "trainer.steps=3", "trainer.epochs=1")


def state() -> dict[str, Any]:
    """Return all that a run may change in the process."""
    logger = logging.getLogger("dltrain")
    python = random.getstate()
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "denormals": flushes_denormals(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn deterministic": torch.backends.cudnn.deterministic,
        "precisions": precisions(),
        "cudnn": torch.backends.cudnn.enabled,
        "anomalies": torch.is_anomaly_enabled(),
        "numpy errors": np.geterr(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "python": python,
        "numpy": str(numpy),
        "torch": torch.get_rng_state().tolist(),
        "handlers": list(logger.handlers),
        "level": logger.level,
        "propagate": logger.propagate,
        "filters": list(logger.filters),
        "root": (list(logging.root.handlers), logging.root.level),
        "warnings": list(warnings.filters),
        "signals": {number: signal.getsignal(number) for number in (2, 15, 1, 18)},
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "path": list(sys.path),
        "hooks": (sys.excepthook, threading.excepthook, sys.displayhook),
        "streams": (sys.stdout, sys.stderr),
        "field size": csv.field_size_limit(),
        "figures": "matplotlib.pyplot" in sys.modules,
        "live threads": {thread.name for thread in threading.enumerate() if thread.is_alive()},
        "files": open_files(),
        "umask": umask(),
        "collection": gc.isenabled(),
    }


def precisions() -> list[str]:
    """Return how exactly parts of torch compute, and the older setting where it can be read."""
    found = [part.fp32_precision for part in PRECISE]
    with contextlib.suppress(RuntimeError):  # the program has set both, or only the newer
        found.append(torch.get_float32_matmul_precision())
    return found


def open_files() -> list[str]:
    """Return the paths of the open files in the working folder."""
    folder = str(Path.cwd())
    paths = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return [path for path in paths if path.startswith(folder)]


def umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> library.Run:
    return library.train(*BRIEF, **{"paths.output": tmp_path_factory.mktemp("trained")})


@contextmanager
def settings_of_its_own() -> Iterator[None]:
    """A program with unusual settings."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    logging.getLogger("dltrain").setLevel(logging.ERROR)
    random.seed(3)
    torch.manual_seed(4)
    csv.field_size_limit(1234)
    torch.autograd.set_detect_anomaly(True)
    torch.backends.cudnn.enabled = False
    torch.backends.cudnn.deterministic = True
    errors = np.seterr(all="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.set_default_dtype(torch.float32)
            torch.use_deterministic_algorithms(False)
            torch.set_float32_matmul_precision("highest")
            torch.set_flush_denormal(False)
            logging.getLogger("dltrain").setLevel(logging.NOTSET)
            csv.field_size_limit(131072)
            torch.autograd.set_detect_anomaly(False)
            torch.backends.cudnn.enabled = True
            torch.backends.cudnn.deterministic = False
            np.seterr(**errors)


def train_with_failing_data() -> None:
    with pytest.raises(library.InputError):
        library.train("dataset=image_folder", "dataset.path=absent", "device.deterministic=true")


def train_and_diverge() -> None:
    with pytest.raises(library.DivergedError):
        library.train(*BRIEF, "optimizer=sgd", "optimizer.lr=1e30")


def typo() -> None:
    with pytest.raises(library.ConfigError):
        library.train("modle=mlp")


CALLS: dict[str, Callable[[library.Run], Any]] = {
    "train": lambda run: library.train(*BRIEF, "device.deterministic=true"),
    "train verbosely": lambda run: library.train(*BRIEF, verbose=True),
    "train without data": lambda run: train_with_failing_data(),
    "diverge": lambda run: train_and_diverge(),
    "typo": lambda run: typo(),
    "resume": lambda run: library.resume(run, "trainer.steps=4", fork=True),
    "load": lambda run: library.load(run),
    "predict": lambda run: list(run.load().predict(np.zeros((3, 8, 8), np.uint8)[0])),
    "call": lambda run: run.load()(np.zeros((3, 1, 8, 8), np.uint8)),
    "evaluate": lambda run: library.evaluate(run),
    "check": lambda run: library.check(*BRIEF, "device.deterministic=true"),
    "sweep": lambda run: library.sweep(*BRIEF, "launcher=inline", "seed=0,1"),
}


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_nothing_in_the_process_has_changed(call: str, flushes: bool, trained: library.Run) -> None:
    if not flushes:
        CALLS[call](trained)  # modules that are imported for the first time may change something
    with settings_of_its_own():
        torch.set_flush_denormal(flushes)
        before = state()
        frozen = gc.get_freeze_count()
        CALLS[call](trained)
        after = state()
    assert abs(gc.get_freeze_count() - frozen) < 100  # a few frozen objects may be freed
    assert {key: after[key] for key in after if after[key] != before[key]} == {
        key: before[key] for key in after if after[key] != before[key]
    }


@pytest.mark.parametrize("device", ["meta"])
def test_modes_of_the_program_do_not_reach_the_run(device: str, trained: library.Run) -> None:
    with torch.device(device), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        run = library.train(*BRIEF)
        assert torch.get_default_device().type == device
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert lines(run) == lines(trained)


def test_a_precision_of_parts_of_torch_does_not_reach_the_run(trained: library.Run) -> None:
    """Torch refuses to read its older setting where a program has set the newer ones."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    torch.backends.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        expected = precisions()
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
        run = library.train(*BRIEF)
        assert precisions() == expected
        torch.backends.fp32_precision = "ieee"
        assert torch.backends.mkldnn.conv.fp32_precision == "ieee"  # as before, not set itself
    finally:
        products.fp32_precision = before
        torch.backends.fp32_precision = "none"
        torch.backends.mkldnn.matmul.fp32_precision = "none"
    assert lines(run) == lines(trained)


def test_a_search_for_anomalies_does_not_change_the_error() -> None:
    torch.autograd.set_detect_anomaly(True)
    try:
        with pytest.raises(library.DivergedError):
            library.train(*BRIEF, "optimizer=sgd", "optimizer.lr=1e30")
    finally:
        torch.autograd.set_detect_anomaly(False)


def test_errors_of_numbers_in_numpy_do_not_reach_the_run() -> None:
    expected = lines(library.train(*BRIEF, model=Underflowing))
    with np.errstate(all="raise"):
        assert lines(library.train(*BRIEF, model=Underflowing)) == expected


class Underflowing(torch.nn.Module):
    """A network whose code has NumPy round a tiny number to 0."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(in_features, num_classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images) * float(1 + np.float32(1e-30) * np.float32(1e-30))


def lines(run: library.Run) -> list[str]:
    return (run.folder / "metrics.jsonl").read_text().splitlines()


def test_the_metrics_are_those_of_the_command_line(
    dltrain: Callable[..., Any], trained: library.Run
) -> None:
    torch.manual_seed(123)
    torch.set_default_dtype(torch.float64)
    first = library.train(*BRIEF)
    random.random()
    torch.rand(3)
    torch.set_flush_denormal(True)
    second = library.train(*BRIEF)
    assert flushes_denormals()
    torch.set_flush_denormal(False)
    torch.set_default_dtype(torch.float32)
    outcome = dltrain(*BRIEF, "--json")
    told = (Path(outcome.json["run"]) / "metrics.jsonl").read_text().splitlines()
    assert lines(first) == lines(second) == told == lines(trained)


def test_training_in_another_thread_is_the_same(trained: library.Run) -> None:
    runs: list[library.Run] = []
    thread = threading.Thread(target=lambda: runs.append(library.train(*BRIEF)))
    thread.start()
    thread.join()
    assert lines(runs[0]) == lines(trained)


def test_predicting_while_another_thread_trains_leaves_the_number_of_threads(
    trained: library.Run,
) -> None:
    """A new thread begins with torch's number of threads, which is that of the run just then."""
    net = trained.load()
    began = threading.Event()
    done = threading.Event()
    counts: list[int] = []

    def predict() -> None:
        began.wait(60)
        net(np.zeros((2, 1, 8, 8), np.uint8))
        counts.append(torch.get_num_threads())
        done.set()

    thread = threading.Thread(target=predict)
    with settings_of_its_own():
        thread.start()
        with isolated():
            torch.set_num_threads(1)
            began.set()
            assert done.wait(60)
            assert torch.get_num_threads() == 1
            library.load(trained)
            assert torch.get_num_threads() == 1
        thread.join()
        assert counts == [2]
        assert torch.get_num_threads() == 2
        assert torch.get_default_dtype() == torch.float64


def test_nothing_is_printed_unless_it_is_asked_for(
    capfd: pytest.CaptureFixture[str], trained: library.Run
) -> None:
    run = library.train(*BRIEF)
    library.evaluate(run)
    library.check(*BRIEF)
    list(run.load().predict(np.zeros((8, 8), np.uint8)))
    assert capfd.readouterr() == ("", "")
    library.train(*BRIEF, verbose=True)
    out, err = capfd.readouterr()
    assert "train 1/1" in out
    assert err == ""


def test_messages_reach_the_logger_as_from_any_library(
    caplog: pytest.LogCaptureFixture, trained: library.Run
) -> None:
    with caplog.at_level(logging.WARNING):
        library.train(*BRIEF)
        assert caplog.text == ""
        library.train(*BRIEF, "dataset.val_fraction=0.001")
        assert "validation" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "dltrain"):
        library.train(*BRIEF)
    assert "train 1/1" in caplog.text
    assert all(record.levelno >= logging.INFO for record in caplog.records)


def test_freed_memory_is_kept_only_if_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, trained: library.Run
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr("dltrain.device.let_malloc_keep_memory", lambda: kept.append(True))
    run = library.train(*BRIEF)
    library.load(run)
    assert not kept
    assert run.manifest["keep_freed_memory"] is False
    asked = library.train(*BRIEF, "device.keep_freed_memory=true")
    assert kept
    assert asked.manifest["keep_freed_memory"] is True


def test_ctrl_c_saves_and_is_a_keyboard_interrupt(
    monkeypatch: pytest.MonkeyPatch, trained: library.Run
) -> None:
    from dltrain.callbacks.metrics_log import MetricsLog

    original = MetricsLog.step_end

    def stop_at_two(self: Any, engine: Any) -> None:
        original(self, engine)
        if engine.step == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "step_end", stop_at_two)
        with pytest.raises(KeyboardInterrupt, match=r"dltrain\.resume") as caught:
            library.train(*BRIEF)
    error = caught.value
    assert isinstance(error, library.RunInterrupted)
    assert error.run is not None
    assert error.run.status == "interrupted"
    assert error.run.checkpoints["last"].name.startswith("000000002")
    assert lines(library.resume(error.run)) == lines(trained)


def test_a_second_ctrl_c_does_not_end_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from dltrain.callbacks.metrics_log import MetricsLog

    def stop_twice(self: Any, engine: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(MetricsLog, "step_end", stop_twice)
    with pytest.raises(KeyboardInterrupt):
        library.train(*BRIEF)


def test_a_termination_goes_to_the_handler_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from dltrain.callbacks.metrics_log import MetricsLog

    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    monkeypatch.setattr(
        MetricsLog, "step_end", lambda self, engine: signal.raise_signal(signal.SIGTERM)
    )
    try:
        with pytest.raises(library.RunInterrupted):
            library.train(*BRIEF)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
