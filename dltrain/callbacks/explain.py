"""Pictures of what an image classifier has learned, when it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TypeGuard

import torch

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.report.batches import standardize
from dltrain.types import Data, Explains, Image, PositiveInt, ShowsFeatures


class Explain(Callback):
    """Shows at the end of a run, in TensorBoard, what a network has learned.

    It shows the inside of the network (first filters, feature maps), and what led to the worst
    mistakes of the last evaluation, as far as the task can show them.
    """

    name = "explain"

    def __init__(self, log: MetricsLog, data: Data, mistakes: PositiveInt = 16) -> None:
        self.log = log
        self.data = data
        self.mistakes = mistakes

    def run_end(self, engine: Engine) -> None:
        task = engine.task
        training = task.training
        images: dict[str, Image] = {}
        task.eval()
        with ExitStack() as stack:
            for optim in engine.stage.optims:
                stack.enter_context(optim.averaged())
            stack.enter_context(torch.no_grad())
            stack.enter_context(engine.autocast)
            # a network of the user's may fail here; that does not end a run that is trained
            stack.enter_context(suppress(Exception))
            images.update(self._features(engine))
            images.update(self._explained_mistakes(engine))
        task.train(training)
        if images:
            self.log.show(engine, images)

    def _features(self, engine: Engine) -> dict[str, Image]:
        """Return images of the inside of the network, for one sample of the last evaluation."""
        samples = engine.scores.get("val/samples")
        task = engine.task
        if not isinstance(task, ShowsFeatures) or not has_pixels(samples):
            return {}
        inputs = engine.move(standardize(samples.pixels[:1], self.data.spec))
        images = task.feature_images(inputs)
        return {f"explain/{name}": image for name, image in images.items()}

    def _explained_mistakes(self, engine: Engine) -> dict[str, Image]:
        """Return images that explain the worst mistakes of the last evaluation."""
        mistakes = engine.scores.get("val/mistakes")
        task = engine.task
        if not isinstance(task, Explains) or not has_pixels(mistakes):
            return {}
        inputs = engine.move(standardize(mistakes.pixels[: self.mistakes], self.data.spec))
        return {"explain/mistakes": with_captions(task.explain(inputs), mistakes.captions)}


def has_pixels(value: object) -> TypeGuard[Image]:
    """Return whether a result of an evaluation holds images."""
    return isinstance(value, Image) and len(value.pixels) > 0


def with_captions(explained: Image, captions: Sequence[str]) -> Image:
    """Return the images with each of the `captions` before the image's own caption."""
    own = explained.captions or ("",) * len(explained.pixels)
    both = tuple("\n".join(filter(None, pair)) for pair in zip(captions, own, strict=False))
    return replace(explained, pixels=explained.pixels.float().cpu(), captions=both)
