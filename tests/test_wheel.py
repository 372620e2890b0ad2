"""The wheel works from any folder: its conf/ is inside, and nothing of the checkout is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, installed with --no-deps into a folder of its own, beside this environment's torch."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert {"dltrain/conf/config.yaml", "dltrain/conf/model/cnn.yaml", "dltrain/py.typed"} <= set(names)
    site = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return site


def test_the_installed_wheel_answers_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def dltrain(*argv: str) -> str:
        command = [sys.executable, "-m", "dltrain", *argv]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import dltrain.config.groups as c; print(c.conf_dir())"
    found = subprocess.check_output([sys.executable, "-c", where], cwd=tmp_path, env=environment, text=True)
    assert Path(found.strip()) == installed / "dltrain" / "conf"
    assert "dltrain list [group]" in dltrain("--help")
    assert "lenet5" in dltrain("list", "model")
    assert "parameters" in dltrain("check", "model=mlp")
    assert not any(tmp_path.iterdir()), "check writes nothing"
    assert "test/accuracy" in dltrain("debug=smoke")
    assert len(list(tmp_path.glob("outputs/*/*/results.json"))) == 1
