"""The commands of docs/runs.md are run in order, in one folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "runs.md"
COMMANDS = [
    line
    for block in re.findall(
        r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    for line in block.splitlines()
]


def test_the_commands_work_as_written(dltrain, tmp_path: Path) -> None:
    assert len(COMMANDS) >= 18
    outputs = {}
    for line in COMMANDS:
        words = shlex.split(line)
        assert words[0] == "dltrain"
        outcome = dltrain(*words[1:])
        assert outcome.code == 0, f"{line}\n{outcome.err}"
        outputs.setdefault(line, outcome.out)
        if "resume=auto" in line:
            last = outcome.out
    assert "nothing is left to train" in last
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 100
    assert "±" in outputs["dltrain runs --group --sort test/accuracy"]
    assert "moved 1 run to the trash" in outputs["dltrain runs --delete sweep/3 --yes"]


def test_statuses_are_those_of_the_program() -> None:
    from dltrain.runs.listing.summary import STATUSES

    table = (
        PAGE.read_text(encoding="utf-8").partition("| status | meaning |")[2].partition("\n\n")[0]
    )
    assert set(re.findall(r"`(\w+)`", table)) >= set(STATUSES)
