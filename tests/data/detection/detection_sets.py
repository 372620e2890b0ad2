"""Makes a detection data set of a source, from the settings of both."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from dltrain.data.detection.dataset import DetectionDataset

ROOT = Path("data")


def dataset(source: type[Any], *arguments: Any, **settings: Any) -> DetectionDataset:
    """Return the data set of `source`: settings that it does not take are those of the data set."""
    own = inspect.signature(source).parameters
    of_source = {name: value for name, value in settings.items() if name in own}
    of_dataset = {name: value for name, value in settings.items() if name not in own}
    return DetectionDataset(source(ROOT, *arguments, **of_source), **of_dataset)
