"""The commands of a first day (first_day.sh) run green, in bash, from an empty folder.

bash reads the script as it stands. Each `dltrain` in it is run in this process, which has torch
loaded; `make first-day` makes a process of each.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("first_day.sh")
# Asks this process to run a command, by the words between null characters, and shows what it says.
DLTRAIN = r"""() {
  local code
  printf '%s\0' "$#" "$@" >&$ASK
  read -r code <&$ANSWER
  cat "$SAID/out" || true
  cat "$SAID/err" >&2
  return "$code"
}"""


@pytest.fixture
def fresh_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the modules in the test's folder after the test."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("mymodel", None)


def asked(descriptor: int) -> Iterator[list[str]]:
    """Yield the words of each command that bash asks for, until it has ended."""
    texts = null_terminated(descriptor)
    for count in texts:
        yield [next(texts) for _ in range(int(count))]


def null_terminated(descriptor: int) -> Iterator[str]:
    """Yield the texts in a pipe, each of which ends with a null character."""
    rest = b""
    while block := os.read(descriptor, 65536):
        *whole, rest = (rest + block).split(b"\0")
        yield from (text.decode() for text in whole)


def commands() -> list[str]:
    """Return the lines of the script that run dltrain."""
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.match(r"(refused \d )?dltrain ", line)]


def test_the_script_has_sixty_commands() -> None:
    """It would be green without any."""
    assert len(commands()) >= 60


@pytest.mark.slow
def test_the_first_day(
    dltrain, fresh_modules: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    said.mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    ask, answer = os.pipe(), os.pipe()
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BASH_FUNC_dltrain%%": DLTRAIN,
        "ASK": str(ask[1]),
        "ANSWER": str(answer[0]),
        "SAID": str(said),
    }
    with (said / "script").open("w") as output:
        bash = subprocess.Popen(
            ["bash", str(SCRIPT)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            pass_fds=(ask[1], answer[0]),
        )
        os.close(ask[1])
        os.close(answer[0])
        last = ""
        count = 0
        for words in asked(ask[0]):
            outcome = dltrain(*words)
            (said / "out").write_text(outcome.stdout, encoding="utf-8")
            (said / "err").write_text(outcome.stderr, encoding="utf-8")
            os.write(answer[1], f"{outcome.code}\n".encode())
            last = f"dltrain {' '.join(words)}\n{outcome.stdout}\n{outcome.stderr}"
            count += 1
        code = bash.wait(60)
    os.close(ask[0])
    os.close(answer[1])
    assert code == 0, last
    assert count == len(commands())
    assert "the first day is over" in (said / "script").read_text()
