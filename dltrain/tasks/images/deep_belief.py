"""Deep belief nets: layer-wise pretraining without labels, then fine-tuning as a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from torch import Tensor, nn

from dltrain.engine import Direction, Stage
from dltrain.optim import Optim
from dltrain.tasks.classification import Classification
from dltrain.tasks.images.pretraining import Pretraining, rbm_stack
from dltrain.tasks.labeled_subset import LabeledSubset
from dltrain.tasks.supervised import validation_split
from dltrain.types import Data, DataSplit, Ge, PositiveInt


class DeepBelief(Classification):
    """Pretrains a stack of RBMs layer by layer, then fine-tunes it as a classifier.

    The method is that of Hinton, Osindero and Teh 2006. `pretrain_epochs` are epochs of each layer
    by CD-`gibbs_steps`; with 0 the same network is trained from its initial weights. `labels` is
    the number of training samples whose labels fine-tuning may use. The settings `optimizers.rbm`
    are those of the RBMs; trainer.epochs counts the fine-tuning. Scores are those of a
    classification.
    """

    divisible = False
    networks = ("rbm",)

    def __init__(  # noqa: PLR0913 - the keys of the configuration
        self,
        data: Data,
        model: nn.Module,
        loss: nn.Module,
        optim: Callable[..., Optim],
        epochs: int,
        pretrain_epochs: Annotated[int, Ge(0)] = 6,
        gibbs_steps: PositiveInt = 1,
        method: Literal["contrastive_divergence", "persistent"] = "contrastive_divergence",
        labels: PositiveInt | None = None,
        watch: str = "val/accuracy",
        mode: Direction | None = None,
        top_k: PositiveInt = 5,
        metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
    ) -> None:
        super().__init__(data, model, loss, optim, epochs, watch, mode, top_k, metrics)
        rbms = rbm_stack(model, "deep_belief_net")
        self.pretraining = Pretraining(data, rbms, optim, pretrain_epochs, gibbs_steps, method)
        self.labels = labels

    def stages(self) -> Iterator[Stage]:
        """Yield a stage for each RBM, then the stage "train" of the classifier."""
        yield from self.pretraining.stages()
        train: DataSplit = self.data.train
        if self.labels is not None:
            train = LabeledSubset(train, self.labels)
        yield from self.supervised().stages(train, validation_split(self.data))
