"""The wheel works from any folder: its conf/ is inside, and nothing of the checkout is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
DASHES = "-" * 20
CHECK_AND_SMOKE = f"""
import os
from dltrain.cli import main
from dltrain.config.groups import conf_dir
print(conf_dir(), {DASHES!r}, flush=True)
assert main(["check", "model=mlp"]) == 0
print({DASHES!r}, os.listdir("."), {DASHES!r}, flush=True)
assert main(["debug=smoke", "callbacks.tensorboard=null"]) == 0
"""  # one import of torch for two commands
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, installed with --no-deps into a folder of its own, beside this environment's
    torch.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(REPOSITORY),
    ]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"dltrain/conf/config.yaml", "dltrain/conf/model/cnn.yaml", "dltrain/py.typed"} <= names
    bundled = {path.name for path in (REPOSITORY / "dltrain/data/bundled_files").iterdir()}
    assert {"LICENSE-scikit-learn.txt", "README.md", "digits.csv.gz"} <= bundled
    assert {f"dltrain/data/bundled_files/{name}" for name in bundled} <= names
    site = folder / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return site


def test_the_installed_wheel_answers_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def python(*argv: str) -> str:
        command = [sys.executable, *argv]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "dltrain list [group]" in python("-m", "dltrain", "--help")
    assert "lenet5" in python("-m", "dltrain", "list", "model")
    where, check, files, smoke = python("-c", CHECK_AND_SMOKE).split(DASHES)
    assert Path(where.strip()) == installed / "dltrain" / "conf"
    assert "parameters" in check
    assert files.strip() == "[]", "check writes nothing"
    assert "test/accuracy" in smoke
    assert len(list(tmp_path.glob("outputs/*/*/results.json"))) == 1
