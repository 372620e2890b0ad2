"""A trained network that predicts: in memory, independent of the run's folder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.api.inputs import batch_tensor, samples_of
from dltrain.api.process import PYTHON, isolated, predicting
from dltrain.data.raw_batches import encoded_batch
from dltrain.errors import InputError, UsageError
from dltrain.options import require_choice
from dltrain.report.predictions import Row, with_top
from dltrain.runs.generate import continued, episode_frames, sampled
from dltrain.runs.inputs import known_about, of_split
from dltrain.runs.open import TrainedRun, unknown_tokens
from dltrain.runs.predict import BATCH_SIZE, batch_rows, stacked
from dltrain.types import CountsUnknownTokens, Sample, Spec

log = logging.getLogger("dltrain")
SPLITS = ("val", "test")


class Predictor:
    """The network of a run with the weights of a checkpoint, averaged if the run averages them.

    `predictor(batch)` predicts for a batch in memory, `predict` for files, texts, images and rows.
    It needs neither the run's folder nor its training data any more. Several threads may use it:
    they take turns, batch by batch.

    Attributes:
        model: The network, an `nn.Module` in evaluation mode on the device. It takes inputs as the
            run prepares them, standardized.
        spec: The shape of the data: input_shape, class_names, mean, std, vocab_size and others.
        device: The device of the network.
    """

    def __init__(self, trained: TrainedRun, threads: int) -> None:
        trained.keep_for_prediction()
        self.trained = trained
        self.threads = threads
        self.model: nn.Module = trained.model
        self.spec: Spec = trained.reader.spec
        self.device: torch.device = trained.device.torch_device()
        self.lock = threading.RLock()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by their number; empty without classes."""
        return self.spec.class_names

    def __call__(self, batch: Any) -> Any:
        """Return the predictions for a batch in memory, on the CPU.

        Args:
            batch: A tensor or NumPy array (B, ...) in the unit of the data:
                images (B, C, H, W) of the run's size, uint8 or floats in 0..1;
                rows of a table (B, columns) or windows of a series (B, window), unscaled;
                token numbers (B, T); observations of an environment (B, ...).

        Returns:
            The output of the run's task: class probabilities (B, K); predicted numbers (B, T) in
            the unit of the data; detections (B, D, 6) with x1, y1, x2, y2, score, class;
            translations (B, T) and their log-probabilities (B,); losses (B,) and logits (B, V) of
            the next token; codes (B, N) and errors (B,) of an autoencoder; probabilities (B,) of a
            discriminator; cosines and numbers (B, 20) of the nearest words; action values (B, A).

        Raises:
            UsageError: The batch is neither a tensor nor an array.
            InputError: Its shape, type or values are not those of the run's data.
        """
        tensor = batch_tensor(batch)
        with self.lock, predicting(self.trained.device, self.threads):
            inputs = encoded_batch(self.trained.reader, tensor)
            with torch.no_grad(), self.trained.device.autocast():
                return on_cpu(self.trained.engine.task.predict(self.moved(inputs)))

    def predict(
        self,
        inputs: Any = None,
        *,
        split: str | None = None,
        top: int = 3,
        skip_unreadable: bool = False,
    ) -> Iterator[Row]:
        """Yield a row for each sample, the same as `dltrain predict` writes as a line of JSON.

        Args:
            inputs: A path of a file, folder or glob; a text; an image (an array (H, W), (H, W, C)
                or (C, H, W), or an image of Pillow); a row (a mapping of columns to values); rows
                (a data frame or an array (N, columns)); an open file; or an iterable of these.
                As on the command line, a text that is the name of a file means the file.
            split: Instead of inputs, `val` or `test`: the samples of the run's data set.
            top: The number of candidates in the column `top`, where there are several.
            skip_unreadable: Leave out what cannot be read, with a warning in the log.

        Raises:
            UsageError: An argument is not of the kinds above.
            InputError: A file is missing or cannot be read. It is raised when its row is due.
        """
        if (inputs is None) == (split is None):
            raise UsageError("predict needs either inputs or a split, as in split='test'")
        if not isinstance(top, Integral) or top < 1:
            raise UsageError(f"top={top}: expected a whole number > 0")
        if split is None:
            samples = readable(samples_of(self.trained.reader, inputs), skip_unreadable)
        else:
            require_choice("split", split, SPLITS, " (those of train come shuffled)")
            samples = of_split(self.trained.reader, split)
        return self.rows(samples, top)

    def rows(self, samples: Iterator[tuple[Row, Tensor]], top: int) -> Iterator[Row]:
        """Yield the row of each sample; they are predicted in batches."""
        task = self.trained.engine.task
        while True:
            with self.lock, PYTHON.changed(), predicting(self.trained.device, self.threads):
                batch = list(islice(samples, BATCH_SIZE))
                if not batch:
                    self.report_unknown_tokens()
                    return
                inputs = self.moved(stacked([x for _, x in batch]))
                about = [known for known, _ in batch]
                rows = batch_rows(task, inputs, self.trained.device.autocast(), about)
            for row in rows:
                yield with_top(row, top)

    def report_unknown_tokens(self) -> None:
        """Log the tokens that the run's vocabulary lacks, and count from 0 again."""
        reader = self.trained.reader
        unknown_tokens(reader)
        if isinstance(reader, CountsUnknownTokens):
            reader.unknown_tokens.counts.clear()

    def generate(
        self,
        prompt: str | Iterable[str] | None = None,
        *,
        samples: int = 64,
        tokens: int = 200,
        temperature: float = 0.8,
        top_p: float = 0.95,
        seed: int | None = None,
    ) -> Any:
        """Return new images of a GAN or VAE, or texts that a language model continues.

        The same seed gives the same images and texts as `dltrain generate`.

        Args:
            prompt: A text to continue, or several; None for images.
            samples: The number of images.
            tokens: The number of tokens after each text.
            temperature: The logits are divided by it; 0 takes the likeliest token.
            top_p: Tokens are drawn from the likeliest ones that together have this probability.
            seed: The seed of what is drawn; None for that of the run.

        Returns:
            Images (samples, C, H, W) in 0..1; or the text, or a list of texts for several prompts.

        Raises:
            UsageError: The run generates no images or no texts, or an argument is out of range.
        """
        trained = self.trained
        if seed is not None:
            trained = replace(trained, seed=seed)
        with self.lock, isolated(), predicting(trained.device, self.threads):
            if prompt is None:
                require_range("samples", samples, samples >= 1, "a whole number > 0")
                return sampled(trained, samples)
            require_range("tokens", tokens, tokens >= 1, "a whole number > 0")
            require_range("temperature", temperature, temperature >= 0, "a number >= 0")
            require_range("top_p", top_p, 0 < top_p <= 1, "a number above 0 and at most 1")
            prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            texts = list(continued(trained, prompts, tokens, temperature, top_p))
        return texts[0] if isinstance(prompt, str) else texts

    def rollout(self, seed: int | None = None) -> list[Any]:
        """Return the pictures (H, W, 3), uint8, of an episode that an agent plays.

        Args:
            seed: The number of the episode; None for the run's seed.

        Raises:
            UsageError: The run has no episodes, or its environment draws no pictures.
        """
        trained = self.trained
        if seed is not None:
            trained = replace(trained, seed=seed)
        with self.lock, isolated(), predicting(trained.device, self.threads):
            return episode_frames(trained)

    def moved(self, inputs: Tensor) -> Tensor:
        """Return inputs on the predictor's device."""
        moved: Tensor = self.trained.engine.move(inputs)
        return moved

    def __repr__(self) -> str:
        task = type(self.trained.engine.task).__name__
        network = type(self.model).__name__
        return f"Predictor({task} with {network}, {self.trained.checkpoint}, {self.device})"


def readable(samples: Iterator[Sample], skip: bool) -> Iterator[tuple[Row, Tensor]]:
    """Yield name and inputs of each sample; with `skip`, log those that cannot be read.

    Raises InputError for a sample that cannot be read.
    """
    for sample in samples:
        if sample.inputs is not None:
            yield known_about(sample), sample.inputs
            continue
        problem = problem_of(sample)
        if not skip:
            raise InputError(problem)
        log.warning(problem)


def problem_of(sample: Sample) -> str:
    """Return why a sample cannot be read, with its name."""
    if sample.problem.startswith(sample.name):
        return sample.problem
    return f"{sample.name}: {sample.problem}"


def require_range(name: str, value: float, is_in_range: bool, expected: str) -> None:
    """Raise UsageError unless an argument is in its range."""
    if not is_in_range:
        raise UsageError(f"{name}={value}: expected {expected}")


def on_cpu(outputs: Any) -> Any:
    """Return tensors (in tuples, lists and dictionaries) on the CPU."""
    if isinstance(outputs, Tensor):
        return outputs.cpu()
    if isinstance(outputs, dict):
        return {key: on_cpu(value) for key, value in outputs.items()}
    if isinstance(outputs, tuple | list):
        return type(outputs)(on_cpu(value) for value in outputs)
    return outputs
