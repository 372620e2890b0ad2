"""Deep autoencoders from a stack of RBMs: layer-wise pretraining, unrolling, fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from torch import nn

from dltrain.engine import Direction, Stage
from dltrain.optim import Optim
from dltrain.tasks.images.autoencoding import Autoencoding
from dltrain.tasks.images.pretraining import Pretraining, rbm_stack
from dltrain.types import Data, Ge, PositiveInt


class DeepAutoencoding(Autoencoding):
    """Pretrains a stack of RBMs layer by layer, then fine-tunes it as an autoencoder.

    The pretrained stack is unrolled into an autoencoder, which is trained by the cross-entropy of
    the pixels (Hinton and Salakhutdinov 2006). `pretrain_epochs` are epochs of each layer; with 0
    the same network is trained from its initial weights. The settings `optimizers.rbm` are those of
    the RBMs, and `optimizers.code` of the last RBM, whose hidden units are Gaussian.
    """

    divisible = False
    networks = ("rbm", "code")

    def __init__(
        self,
        data: Data,
        model: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        pretrain_epochs: Annotated[int, Ge(0)] = 6,
        gibbs_steps: PositiveInt = 1,
        method: Literal["contrastive_divergence", "persistent"] = "contrastive_divergence",
        watch: str = "val/error",
        mode: Direction | None = None,
    ) -> None:
        rbms = rbm_stack(model, "unrolled_autoencoder")
        super().__init__(data, model, optim, epochs, "cross_entropy", watch=watch, mode=mode)
        self.pretraining = Pretraining(data, rbms, optim, pretrain_epochs, gibbs_steps, method)

    def stages(self) -> Iterator[Stage]:
        """Yield a stage for each RBM, then the stage "train" of the autoencoder."""
        yield from self.pretraining.stages()
        if self.pretraining.epochs:
            self.model.unroll()
        yield from super().stages()
