"""Standard output that cannot be written: no traceback, and an exit code where it was the command's
result.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dltrain.cli import main
from dltrain.console import LOOK_ALIKES, SafeStream
from dltrain.runs.folder import LOG

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
GATES = ("dataset=gates", "callbacks=quiet", "trainer.epochs=1")


def full_disk() -> io.TextIOWrapper:
    return open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123 - no such file in other systems


def terminal_that_is_gone() -> io.TextIOWrapper:
    reader, writer = os.openpty()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


def pipe_without_reader() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", encoding="utf-8")


SCREENS = {
    "full disk": (full_disk, "No space left on device"),
    "terminal that is gone": (terminal_that_is_gone, "Input/output error"),
    "none": (lambda: None, "it is closed"),
    "pipe without a reader": (pipe_without_reader, ""),
}


@dataclass
class Screen:
    """Standard output that cannot be written, and the reason that is given, if any."""

    stream: io.TextIOWrapper | None
    reason: str

    def run(self, *argv: str) -> int:
        """The exit code of a command."""
        before = sys.stdout
        sys.stdout = self.stream  # type: ignore[assignment]
        try:
            return main(list(argv))
        finally:
            sys.stdout = before

    @property
    def said(self) -> str:
        return f"dltrain: standard output cannot be written: {self.reason}\n" if self.reason else ""


@pytest.fixture(params=SCREENS)
def screen(request: pytest.FixtureRequest) -> Iterator[Screen]:
    """Nothing may be left in it at the end, where writing would fail again."""
    make, reason = SCREENS[request.param]
    stream = make()
    yield Screen(stream, reason)
    if stream is not None:
        stream.close()


@pytest.mark.parametrize(
    "argv", [("list", "task"), ("show", "seed"), ("--help",), ("--version",), ("completion", "zsh")]
)
def test_a_result_that_cannot_be_written_is_a_failure(
    argv: tuple[str, ...], screen: Screen, capfd: pytest.CaptureFixture[str]
) -> None:
    """A reader who has had enough (`dltrain list | head`) is not an error."""
    assert screen.run(*argv) == (1 if screen.reason else 0)
    assert capfd.readouterr().err == screen.said


def test_training_does_without(
    screen: Screen, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert screen.run(*GATES) == 0
    assert capfd.readouterr().err == screen.said
    (run,) = tmp_path.glob("outputs/*/*")
    assert "\ndone\n" in (run / LOG).read_text(encoding="utf-8")
    assert screen.run("resume", str(run), "trainer.epochs=2") == 0
    assert screen.run("-m", "launcher=inline", *GATES, "seed=1,2") == 0


def test_json_is_a_result(screen: Screen) -> None:
    assert screen.run(*GATES, "--json") == (1 if screen.reason else 0)


def test_an_error_keeps_its_code(screen: Screen, capfd: pytest.CaptureFixture[str]) -> None:
    assert screen.run("model=cnm") == 2
    assert "did you mean" in capfd.readouterr().err


def test_no_standard_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Errors are not said on standard output instead, where a program may read."""
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["model=cnm"]) == 2
    assert capfd.readouterr() == ("", "")


def test_writing_continues_once_there_is_room(tmp_path: Path) -> None:
    """Lost output is not written later, in the middle of something else."""
    path = tmp_path / "screen"
    with path.open("w", encoding="utf-8") as file, full_disk() as full:
        stream, descriptor = SafeStream(file), os.dup(file.fileno())
        os.dup2(full.fileno(), file.fileno())
        stream.write("lost")
        stream.flush()
        os.dup2(descriptor, file.fileno())
        os.close(descriptor)
        stream.write("kept")
    assert path.read_text(encoding="utf-8") == "kept"
    assert stream.error is not None


def test_the_rest_of_a_stream_is_there() -> None:
    raw = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(raw, encoding="utf-8"))
    stream.buffer.write(b"bytes")
    stream.reconfigure(line_buffering=True)
    stream.write("text\n")
    assert (raw.getvalue(), stream.encoding, stream.isatty()) == (b"bytestext\n", "utf-8", False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
def test_characters_that_an_encoding_lacks_have_look_alikes(encoding: str) -> None:
    """A line of a table keeps its width; what the encoding has stays; other scripts are escaped."""
    raw = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(raw, encoding=encoding))
    stream.write("↑ → ↓ ← · ━│ … \u00d7 ± ≤ ∞ ’ größe 中文 \udcff")
    stream.flush()
    written = raw.getvalue().decode(encoding)
    assert stream.lost is None
    assert written.isascii() or encoding != "ascii"
    assert encoding == "cp437" or written.startswith("^ > v < ")
    assert "?" not in written
    assert written.endswith("\\u4e2d\\u6587 \\udcff")
    assert ("größe" in written) == (encoding != "ascii")
    if encoding == "ascii":
        assert written.startswith("^ > v < . -| ... x +- <= inf ' gr\\xf6\\xdfe ")


def test_every_look_alike_is_ascii() -> None:
    for character, look_alike in LOOK_ALIKES.items():
        assert len(character) == 1
        assert not character.isascii()
        assert look_alike.isascii()


def test_a_stream_that_escapes_by_itself_has_look_alikes_too() -> None:
    """Standard error writes what it lacks with escapes (errors="backslashreplace")."""
    raw = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace"))
    stream.write("dltrain: 2 → 3")
    stream.flush()
    assert raw.getvalue() == b"dltrain: 2 > 3"
