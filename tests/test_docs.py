"""The examples of docs/how-to.md are run: its files are written, its commands given, in order and
in one folder; and the page
of results has every experiment."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
HOW_TO = ROOT / "docs" / "how-to.md"
FENCE = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [match.groups() for match in FENCE.finditer(HOW_TO.read_text(encoding="utf-8"))]
FILES = {name: text for _, name, text in BLOCKS if name}


@pytest.fixture
def fresh_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules that a test imports from its own folder are forgotten after it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my"):
            del sys.modules[name]


def test_every_experiment_has_its_row_among_the_results() -> None:
    rows = re.findall(
        r"^\| `(\w+)`", (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(rows) == sorted(
        path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")
    )


def test_every_block_is_a_file_or_commands() -> None:
    assert len(FILES) >= 8
    for language, name, text in BLOCKS:
        assert (language in ("python", "yaml", "json") and name) or (
            language == "sh" and not name
        ), text
        if language == "sh":
            assert all(line.startswith("dltrain ") for line in text.splitlines()), text


def test_the_how_to_works_as_written(dltrain, fresh_modules: None, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(3):
        Image.fromarray(torch.randint(256, (8, 8), dtype=torch.uint8).numpy()).save(
            pictures / f"{i}.png"
        )
    for _, name, text in BLOCKS:
        if name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
            continue
        for line in text.splitlines():
            outcome = dltrain(*shlex.split(line)[1:])
            assert outcome.code == 0, f"{line}\n{outcome.err}"
    folders = [path.name for path in tmp_path.glob("outputs/*/*/good_enough.txt")]
    assert folders, "the callback did not act"
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 4
    metrics = "".join(path.read_text() for path in tmp_path.glob("outputs/*/*/results.json"))
    for name in ("test/confidence", "test/top2", "val/top2", "test/error"):
        assert f'"{name}"' in metrics, name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["plugins=[mymodels]", "model={_target_: mymodels.Residual, width: 0}"],
            "expected a whole number > 0, got 0",
        ),
        (["model={_target_: mymodels.Residual}"], "plugins=[mymodels]"),
        (
            ["plugins=[mymodels]", "model={_target_: mymodels.Residul}"],
            "did you mean mymodels.Residual?",
        ),
        (
            ["plugins=[mymodels]", "callbacks.x={_target_: mymodels.Residual}"],
            "expected a dltrain.engine.Callback",
        ),
        (
            ["plugins=[mymetrics]", "task.metrics.x={_target_: mymetrics.confidence}"],
            "_partial_: true",
        ),
        (
            ["plugins=[mymetrics]", "task.metrics.f1={_target_: mymetrics.TopK}"],
            "a built-in score has this name",
        ),
        (
            ["plugins=[mymetrics]", "task.metrics.x={_target_: mymetrics.TopK, kk: 2}"],
            "did you mean task.metrics.x.k?",
        ),
        (["plugins=[mymetrics]", "task.metrics.x=2"], "no such key"),
        (["callbacks.progres=null"], "did you mean callbacks.progress?"),
    ],
    ids=str,
)
def test_a_mistake_with_code_of_ones_own_is_told(
    argv: list[str], message: str, dltrain, fresh_modules: None, tmp_path: Path
) -> None:
    for name in ("mymodels.py", "mymetrics.py"):
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    outcome = dltrain("model=mlp", "debug=smoke", *argv)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "outputs").exists()


PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {"#" + heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}{anchor}"
