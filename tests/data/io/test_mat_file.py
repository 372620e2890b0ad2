"""MATLAB files are read as SciPy reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dltrain.data.io.mat_file import read_mat_arrays

savemat = pytest.importorskip("scipy.io").savemat
ARRAYS = {
    "X": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4),
    "y": np.array([[10], [1], [9]], dtype=np.uint8),
    "doubles": np.array([[1.5, -2.0]]),
    "small_values_as_doubles": np.array([[1.0, 2.0, 3.0]]),
    "singles": np.array([[0.25]], dtype=np.float32),
    "shorts": np.array([[-300], [300]], dtype=np.int16),
    "longs": np.array([[2**40]], dtype=np.int64),
}
OTHERS = {"text": "a text", "struct": {"a": 1.0}, "complex": np.array([[1j]])}


@pytest.mark.parametrize("do_compression", [False, True])
def test_numeric_arrays_are_read(do_compression: bool, tmp_path: Path) -> None:
    path = tmp_path / "arrays.mat"
    savemat(path, OTHERS | ARRAYS, do_compression=do_compression)
    arrays = read_mat_arrays(path, tuple(ARRAYS))
    for name, expected in ARRAYS.items():
        assert arrays[name].dtype == expected.dtype
        assert np.array_equal(arrays[name], expected)


@pytest.mark.parametrize("name", ["text", "struct", "complex", "absent"])
def test_an_array_that_is_not_there_or_not_numeric_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "arrays.mat"
    savemat(path, OTHERS | ARRAYS)
    with pytest.raises(KeyError, match=name):
        read_mat_arrays(path, ("X", name))


@pytest.mark.parametrize("do_compression", [False, True])
def test_a_file_cut_off_anywhere_is_refused(do_compression: bool, tmp_path: Path) -> None:
    path = tmp_path / "arrays.mat"
    savemat(path, {"X": ARRAYS["X"]}, do_compression=do_compression)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises((ValueError, KeyError)):
            read_mat_arrays(path, ("X",))
