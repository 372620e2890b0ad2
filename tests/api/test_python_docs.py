"""docs/python.md and docs/notebook.ipynb are run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def executed(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process that imports what this one does."""
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment, "PYTHONPATH": path},
    )


def test_the_page_works_as_a_script(tmp_path: Path) -> None:
    """One process runs all blocks, in order; a class of the page is in `__main__`."""
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) >= 8
    assert text.count("```") == 2 * len(blocks)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    done = executed(["-W", "error", str(script)])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "modle=mlp" in done.stdout


EXECUTE = """
import json, sys
import nbclient, nbformat

notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300).execute()
print(json.dumps([output for cell in notebook.cells for output in cell.get("outputs", [])]))
"""


def test_the_notebook_works(tmp_path: Path) -> None:
    """A kernel runs all cells; the file itself has no outputs."""
    for module in ("nbclient", "ipykernel"):
        pytest.importorskip(module)
    path = DOCS / "notebook.ipynb"
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    folders = {}
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        folders[name] = str(tmp_path / name)
        (tmp_path / name).mkdir()
    done = executed(["-c", EXECUTE, str(path)], **folders)
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)
    shown = json.dumps(outputs)
    assert "train 2/2" in shown
    assert "image/png" in shown
    assert "test/accuracy" in shown
    assert "Sequential" in shown
    assert not [one for one in outputs if one.get("name") == "stderr"], shown
