"""Protocols of networks: each model of the package satisfies its own, and no other by accident."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from dltrain.models.autoencoder import Autoencoder
from dltrain.models.deep_belief_net import DeepBeliefNet
from dltrain.models.detection.faster_rcnn import FasterRCNN
from dltrain.models.images.gan import GAN
from dltrain.models.mlp import MLP
from dltrain.models.rl.q_table import QTable
from dltrain.models.text.recurrent import RecurrentLanguageModel
from dltrain.models.text.seq2seq import Seq2Seq
from dltrain.models.text.transformer import TransformerLanguageModel
from dltrain.models.text.transformer_seq2seq import TransformerSeq2Seq
from dltrain.models.text.word_vectors import WordVectors
from dltrain.models.unrolled_autoencoder import UnrolledAutoencoder
from dltrain.types import (
    ActionValueTable,
    Detector,
    EncoderDecoder,
    GeneratorAndDiscriminator,
    ImageCoder,
    LanguageModel,
    LearnsWordVectors,
    RBMStack,
)

PROTOCOLS = {
    ActionValueTable,
    Detector,
    EncoderDecoder,
    GeneratorAndDiscriminator,
    ImageCoder,
    LanguageModel,
    LearnsWordVectors,
    RBMStack,
}
MODELS: list[tuple[nn.Module, set[Any]]] = [
    (MLP(4, 2, (3,)), set()),
    (QTable(3, 2), {ActionValueTable}),
    (FasterRCNN(1, (64, 64), 2, channels=(4, 4, 4, 4), pyramid_channels=4), {Detector}),
    (Seq2Seq(9, 9, embedding_dim=4, hidden_size=4), {EncoderDecoder}),
    (TransformerSeq2Seq(9, 9, 8, 8, num_layers=1, dim=4, num_heads=1), {EncoderDecoder}),
    (GAN(1, (8, 8), 10, 4, (8,), (8,)), {GeneratorAndDiscriminator}),
    (Autoencoder(1, (8, 8), (16,), 5), {ImageCoder}),
    (UnrolledAutoencoder(1, (8, 8), (16,), 5), {ImageCoder, RBMStack}),
    (DeepBeliefNet(64, 10, (8,)), {RBMStack}),
    (RecurrentLanguageModel(9, embedding_dim=4, hidden_size=4), {LanguageModel}),
    (TransformerLanguageModel(9, 8, num_layers=1, dim=4, num_heads=1), {LanguageModel}),
    (WordVectors(9, 4), {LearnsWordVectors}),
]


@pytest.mark.parametrize(
    ("model", "expected"), MODELS, ids=[type(model).__name__ for model, _ in MODELS]
)
def test_a_model_satisfies_its_own_protocols_alone(model: nn.Module, expected: set[Any]) -> None:
    satisfied = {protocol for protocol in PROTOCOLS if isinstance(model, protocol)}
    assert satisfied == expected
