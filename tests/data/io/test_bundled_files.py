"""The data sets that the package ships equal those of scikit-learn, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dltrain.data.images.digits import Digits
from dltrain.data.io.bundled_files import FOLDER, read_bundled_file
from dltrain.data.tabular.bundled import Bundled
from dltrain.data.tabular.table import Request

NAMES = ["diabetes", "wine", "breast_cancer", "digits"]


def scikit_learn(name: str) -> Any:
    datasets = pytest.importorskip("sklearn.datasets")
    settings = {"scaled": False} if name == "diabetes" else {}
    return getattr(datasets, f"load_{name}")(**settings)


@pytest.mark.parametrize("name", NAMES)
def test_values_and_names_equal_those_of_scikit_learn(name: str) -> None:
    expected = scikit_learn(name)
    header, rows = read_bundled_file(name)
    assert header == [*map(str, expected.feature_names), "target"]
    values = np.array([row[:-1] for row in rows], dtype=np.float64)
    assert np.array_equal(values, expected.data)


@pytest.mark.parametrize("name", ["diabetes", "wine", "breast_cancer"])
def test_columns_of_a_bundled_table_equal_those_of_scikit_learn(name: Any) -> None:
    expected = scikit_learn(name)
    columns = Bundled(name).read(Request()).columns
    for position, feature in enumerate(expected.feature_names):
        values = columns[str(feature)].values
        assert values.dtype == np.float64
        assert np.array_equal(values, expected.data[:, position])
    target = columns["target"]
    assert np.array_equal(target.values, expected.target)
    class_names = expected.get("target_names")
    assert target.texts == (None if class_names is None else tuple(map(str, class_names)))


def test_digit_images_and_classes_equal_those_of_scikit_learn() -> None:
    """The images are split by class; each of both parts keeps the stored order."""
    expected = scikit_learn("digits")
    pixels = torch.from_numpy(expected.images).mul(255 / 16).round().to(torch.uint8)
    stored = [
        (int(k), image.tobytes()) for k, image in zip(expected.target, pixels.numpy(), strict=True)
    ]
    parts = Digits().read()
    read = {
        split: [(int(k), image.tobytes()) for k, image in zip(classes, images.numpy(), strict=True)]
        for split, (images, classes) in parts.items()
    }
    assert sorted(read["train"] + read["test"]) == sorted(stored)
    for samples in read.values():
        in_stored_order = iter(stored)
        assert all(sample in in_stored_order for sample in samples)


def test_licenses_and_origins_lie_beside_the_files() -> None:
    assert "BSD 3-Clause License" in (FOLDER / "LICENSE-scikit-learn.txt").read_text()
    origins = (FOLDER / "README.md").read_text()
    files = [path.name for path in FOLDER.glob("*.csv.gz")]
    assert len(files) == len(NAMES)
    for name in files:
        assert f"`{name}`" in origins
