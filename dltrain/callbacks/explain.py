"""What an image classifier has learned to look at, once it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

import torch

from dltrain.callbacks.metrics_log import MetricsLog
from dltrain.engine import Callback, Engine
from dltrain.report.batches import inputs_of
from dltrain.types import Data, Explains, Image, PositiveInt, ShowsFeatures


class Explain(Callback):
    """At the end of a run, pictures for TensorBoard: what the task shows of its inside (first filters, feature maps), and why
    it made the worst mistakes of the last evaluation, as far as it can say. During the run it does nothing."""

    name = "explain"

    def __init__(self, log: MetricsLog, data: Data, mistakes: PositiveInt = 16) -> None:
        self.log, self.data, self.mistakes = log, data, mistakes

    def run_end(self, engine: Engine) -> None:
        task, training = engine.task, engine.task.training
        found: dict[str, Image] = {}
        samples, mistakes = engine.scores.get("val/samples"), engine.scores.get("val/mistakes")
        task.eval()
        with ExitStack() as stack:
            for optim in engine.stage.optims:
                stack.enter_context(optim.averaged())
            stack.enter_context(torch.no_grad())
            stack.enter_context(engine.autocast)
            stack.enter_context(
                suppress(Exception)
            )  # networks are anyone's: a run that is trained does not end here
            if (
                isinstance(task, ShowsFeatures)
                and isinstance(samples, Image)
                and len(samples.pixels)
            ):
                inside = task.feature_images(
                    engine.move(inputs_of(samples.pixels[:1], self.data.spec))
                )
                found |= {f"explain/{name}": value for name, value in inside.items()}
            if isinstance(task, Explains) and isinstance(mistakes, Image) and len(mistakes.pixels):
                inputs = engine.move(inputs_of(mistakes.pixels[: self.mistakes], self.data.spec))
                found["explain/mistakes"] = with_captions(task.explain(inputs), mistakes.captions)
        task.train(training)
        if found:
            self.log.show(engine, found)


def with_captions(explained: Image, captions: Sequence[str]) -> Image:
    """Return the pictures, with the first of the `captions` before what theirs say."""
    own = explained.captions or ("",) * len(explained.pixels)
    both = tuple("\n".join(filter(None, pair)) for pair in zip(captions, own, strict=False))
    return replace(explained, pixels=explained.pixels.float().cpu(), captions=both)
