"""Protocols of networks: the members that tasks, callbacks and commands use beside a call.

Legend of the shapes: B texts or images, T target tokens, S source tokens, V words of a vocabulary,
D numbers of a feature, C x H x W an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EncoderOutput: TypeAlias = "dict[str, Tensor]"
"""The input of a decoder: tensors by name, each with a row for each text."""
DecoderState: TypeAlias = "dict[str, Tensor]"
"""The state of a decoder between two tokens: tensors by name, each with a row for each text."""


@runtime_checkable
class SequentialReader(Protocol):
    """A network, or part of one, that reads steps (B, T, F) in turn, given their number (B,)."""

    through_time: bool


class NetworkFactory(Protocol):
    """Makes further networks for a task that trains several."""

    def another_model(self, number: int) -> nn.Module:
        """Return another network as it is configured, with initial weights of its own.

        Its fresh weights are drawn from a generator of the run's seed and `number`.
        """

    def initialize_model(self, model: nn.Module) -> None:
        """Draw fresh weights for a network by the configured initialization."""


@runtime_checkable
class AuxiliaryHeads(Protocol):
    """A network with auxiliary heads, which exist for training alone.

    In training mode a call returns (logits, *logits of the heads), in evaluation mode the logits.
    The loss of each head is added `auxiliary_weight` times.
    """

    auxiliary_weight: float

    def auxiliary_heads(self) -> Sequence[torch.nn.Module]:
        """Return the heads, which are no part of the trained network."""


@runtime_checkable
class RoundedLayer(Protocol):
    """A layer that keeps rounded weights in buffers, and has no parameters."""

    def real_parameters(self) -> list[Tensor]:
        """Return weights and biases as real numbers."""


@runtime_checkable
class InitializesFromInputs(Protocol):
    """A network some of whose initial weights are computed from training inputs."""

    def initialize_from(self, inputs: Tensor) -> None:
        """Compute them from inputs (N, ...) as they come in batches."""


@runtime_checkable
class ImageCoder(Protocol):
    """A network that encodes images (B, C, H, W) and decodes codes (B, code_size).

    A variational one encodes to (B, 2 code_size): means, then logarithms of variances.
    """

    code_size: int
    variational: bool

    def encode(self, images: Tensor) -> Tensor:
        """Return the codes of images."""

    def decode(self, codes: Tensor) -> Tensor:
        """Return images (B, C, H, W), or their logits, of codes."""


@runtime_checkable
class GeneratorAndDiscriminator(Protocol):
    """A GAN; a call returns the discriminator's logits (B,) of images (B, C, H, W) in -1..1."""

    generator: nn.Module
    discriminator: nn.Module
    latent_size: int
    num_classes: int
    """The number of classes that both networks are conditioned on; 0 without conditioning."""

    def generate(self, noise: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) in -1..1 from noise (B, latent_size) and classes (B,)."""

    def __call__(self, images: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return the discriminator's logits (B,)."""


@runtime_checkable
class PathNetwork(Protocol):
    """A network of choices with shared weights: each path through it is a network of its own.

    A path has the number of a choice at each place.
    """

    def options(self) -> Sequence[int]:
        """Return the number of choices at each place of a path."""

    def __call__(self, inputs: Tensor, path: Sequence[int] | None = None) -> Tensor:
        """Return the outputs of the network of a path; None for the largest, or the kept one."""

    def parameters_of(self, path: Sequence[int]) -> int:
        """Return the number of parameters of the network of a path; no random number is drawn."""

    def describe(self, path: Sequence[int]) -> str:
        """Return a path in words."""

    def compute_statistics(
        self, batches: Iterable[Tensor], path: Sequence[int] | None = None
    ) -> None:
        """Compute the statistics of batch norm for a path over batches of inputs."""

    def keep(self, path: Sequence[int]) -> None:
        """Become the network of a path: the weights of all others are dropped."""


@runtime_checkable
class RBMStack(Protocol):
    """A network that is a stack of restricted Boltzmann machines, the lowest first."""

    @property
    def rbms(self) -> Sequence[Any]:
        """The RBMs, the lowest first."""


@runtime_checkable
class LanguageModel(Protocol):
    """A network that predicts the next token: (tokens (B, T), state) to logits (B, T, V), state."""

    @property
    def context(self) -> int | None:
        """The number of tokens that it sees at once; None where a state carries the past."""

    def begin(self, batch_size: int) -> Tensor | None:
        """Return the state before the first token, (L, P, B, H); None without a state."""


class StepDecoder(Protocol):
    """A decoder that writes a token at a time.

    Every tensor of the encoder's output and of a state has a row for each text.
    """

    def begin(self, memory: EncoderOutput) -> DecoderState:
        """Return the state before the first token."""

    def step(
        self, tokens: Tensor, state: DecoderState, memory: EncoderOutput
    ) -> tuple[Tensor, DecoderState]:
        """Return logits (B, V) of the token after `tokens` (B,), and the state after them."""


@runtime_checkable
class EncoderDecoder(StepDecoder, Protocol):
    """A network of an encoder and a decoder, for translation."""

    def encode(self, source: Tensor) -> EncoderOutput:
        """Return the decoder's input for source tokens (B, S)."""

    def decode(self, memory: EncoderOutput, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (B, T, D) after each target token (B, T), and attention weights.

        The weights are (B, T, S); None for a network without attention.
        """

    def output(self, features: Tensor) -> Tensor:
        """Return logits (..., V) of the next token from features (..., D)."""


@runtime_checkable
class LearnsWordVectors(Protocol):
    """A network that learns word vectors."""

    def set_vocabulary(self, words: Any, counts: Tensor) -> None:
        """Set the vocabulary: the words and how often each occurs (V,)."""

    def vectors(self, count: int) -> Tensor:
        """Return the vectors (count, D) of the first `count` words."""


@runtime_checkable
class Detector(Protocol):
    """A network that gives losses and detections in one call."""

    detections: int

    def __call__(
        self, images: Tensor, targets: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return losses by name, and detections (B, D, 6): x1, y1, x2, y2, score, class.

        Rows without a detection have class -1.
        """


@runtime_checkable
class ActionValueTable(Protocol):
    """A model that is one or several tables of action values (T, S, A)."""

    values: Tensor

    def repeat_table(self, count: int) -> None:
        """Replace the tables by `count` equal ones."""

    def __call__(self, states: Tensor) -> Tensor:
        """Return the action values (B, A) in states (B,)."""
