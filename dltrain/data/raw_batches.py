"""Batches in memory as inputs of a trained network: checked, then prepared as the run's data was.

The values of a batch are in the unit of the data, as a user has them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.errors import InputError
from dltrain.types import Data, EncodesImages, EncodesNumbers, Spec

BYTE_MAX = 255
CHANNELS = (1, 3)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def encoded_batch(data: Data, batch: Tensor) -> Tensor:
    """Return the network's inputs (B, ...) for a `batch` (B, ...) on the CPU.

    * Images (B, C, H, W) are uint8, or floats in 0..1; they are standardized as in the run.
    * Rows of a table (B, columns) and windows of a series (B, window) or (B, window, 1) are numbers
      in the unit of the file.
    * Texts are token numbers (B, T), padded with 0.
    * Observations of an environment are as it gives them; of numbered states their numbers (B,).

    Raises:
        InputError: The shape or the type of the batch is not that of the run's data, or a value is
            out of range.
    """
    if not batch.ndim or not len(batch):
        raise InputError("the batch has no samples: expected a tensor or array (B, ...)")
    spec = data.spec
    if isinstance(data, EncodesImages):
        return data.encode_images(image_values(batch, data.pixel_shape))
    if isinstance(data, EncodesNumbers):
        return data.encode_numbers(number_values(batch))
    if spec.vocab_size:
        require_shape(batch, ("B", "T"), "token numbers")
        return whole_numbers(batch, spec.vocab_size, "token numbers")
    if spec.num_states:
        require_shape(batch, ("B",), "numbers of states")
        return whole_numbers(batch, spec.num_states, "numbers of states")
    return other_inputs(batch, spec)


def other_inputs(batch: Tensor, spec: Spec) -> Tensor:
    """Return inputs (B, ...) of the shape that the run was trained on; observations, for one."""
    require_shape(batch, ("B", *spec.input_shape), "inputs")
    is_pixels = bool(spec.actions) and batch.dtype == torch.uint8
    return batch if is_pixels else float_values(batch)  # the task scales pixels itself


def image_values(batch: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return images (B, C, H, W) of uint8, or of floats in 0..1, with values in 0..255."""
    require_image_axes(batch, shape)
    require_shape(batch, ("B", *shape), "images")
    if batch.dtype == torch.uint8:
        return batch
    if not batch.is_floating_point():
        raise InputError(
            f"the images are of the type {type_name(batch)}: expected uint8, or floats in 0..1"
        )
    values = float_values(batch)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise InputError(
            f"the images have values from {low:g} to {high:g}: floats are in 0..1, bytes (uint8) "
            "in 0..255, neither standardized"
        )
    return values * BYTE_MAX


def require_image_axes(batch: Tensor, shape: tuple[int, ...]) -> None:
    """Raise InputError for one image without a batch, and for channels that come last."""
    actual = tuple(batch.shape)
    if actual == shape:
        raise InputError(
            f"{shape} is the shape of one image: a batch has one axis more, as in image[None]"
        )
    channels, height, width = shape
    if actual[1:] == (height, width, channels) and channels in CHANNELS:
        raise InputError(
            f"the images have the shape {actual}: channels come first (B, C, H, W), as in "
            "images.permute(0, 3, 1, 2) of a tensor"
        )


def require_shape(batch: Tensor, expected: tuple[int | str, ...], what: str) -> None:
    """Raise InputError for a batch of another shape; a letter stands for any size."""
    actual = tuple(batch.shape)
    any_size = [isinstance(size, str) for size in expected]
    sizes = [0 if is_any else size for size, is_any in zip(actual, any_size, strict=False)]
    wanted = [0 if is_any else size for size, is_any in zip(expected, any_size, strict=True)]
    if sizes != wanted or len(actual) != len(expected):
        shape = str(tuple(expected)).replace("'", "")
        raise InputError(f"the {what} have the shape {actual}; the run was trained on {shape}")


def whole_numbers(batch: Tensor, limit: int, what: str) -> Tensor:
    """Return whole numbers as int64; InputError for other types and numbers not in 0..limit-1."""
    if batch.dtype not in INTEGERS:
        raise InputError(f"the {what} are of the type {type_name(batch)}: expected whole numbers")
    low, high = int(batch.min()), int(batch.max())
    if low < 0 or high >= limit:
        raise InputError(f"the {what} are {low} to {high}: expected 0 to {limit - 1}")
    return batch.long()


def float_values(batch: Tensor) -> Tensor:
    """Return numbers as float32; InputError for other types and numbers that are not finite."""
    values = number_values(batch).float()
    if not bool(values.isfinite().all()):
        raise InputError("the batch has numbers that are not finite")
    return values


def number_values(batch: Tensor) -> Tensor:
    """Return numbers of any real type; InputError for others."""
    if batch.dtype == torch.bool or batch.is_complex():
        raise InputError(f"the batch is of the type {type_name(batch)}: expected numbers")
    return batch


def columns_of(batch: Tensor, names: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """Return the columns of rows (B, columns) by name; InputError for another number of columns."""
    if batch.ndim != 2 or batch.shape[1] != len(names):
        raise InputError(
            f"the rows have the shape {tuple(batch.shape)}: expected (B, {len(names)}), with the "
            f"columns {', '.join(names)}"
        )
    return dict(zip(names, batch.double().numpy().T, strict=True))


def windows_of(batch: Tensor, window: int) -> Tensor:
    """Return windows of a series as float64 (B, window); InputError for another shape."""
    if tuple(batch.shape[1:]) not in ((window,), (window, 1)):
        raise InputError(
            f"the windows have the shape {tuple(batch.shape)}: expected (B, {window}) or "
            f"(B, {window}, 1), the last {window} values of a series"
        )
    values = batch.double().reshape(len(batch), math.prod(batch.shape[1:]))
    if not bool(values.isfinite().all()):
        raise InputError("the windows have numbers that are not finite")
    return values


def type_name(batch: Tensor) -> str:
    """Return the name of a tensor's type, such as int64."""
    return str(batch.dtype).removeprefix("torch.")
