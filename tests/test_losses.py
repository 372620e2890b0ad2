"""Every loss: value and gradient against its formula for one sample in double precision."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dltrain.config.compose import compose
from dltrain.config.groups import groups
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.instantiate import instantiate
from dltrain.losses import CrossEntropy, Focal, Huber, evaluation_sum, mean_over, training_mean
from dltrain.rng import keyed

K = 5
HARD = torch.tensor([0, 4, 2, 2, 1, 3])  # (B,)
SOFT = torch.tensor(
    [[0.3, 0.7, 0, 0, 0], [0, 1, 0, 0, 0], [0.2] * 5, [0.5, 0, 0.5, 0, 0]], dtype=torch.float64
)  # (B, K)
NUMBERS = torch.tensor([[0.1, 0.9], [0.5, 0.2], [1.0, 0.0]], dtype=torch.float64)  # (B, T)


def softmax(z: Tensor) -> Tensor:
    return z.exp() / z.exp().sum()


def sigmoid(z: Tensor) -> Tensor:
    return 1 / (1 + (-z).exp())


def huber(distance: Tensor) -> Tensor:
    return distance**2 / 2 if distance <= 1 else distance - 1 / 2


def ahead(z: Tensor, y: Tensor, margin: float) -> Tensor:
    """Return the margin plus the best wrong logit minus the true one."""
    right = int(y.argmax())
    return max(z[k] for k in range(K) if k != right) - z[right] + margin


# The loss of one sample, by logits z (K,) and soft targets y (K,), one-hot for a class number.
OF_CLASSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda z, y: -(y * softmax(z).log()).sum(),
    "binary_cross_entropy": lambda z, y: (
        -(y * sigmoid(z).log() + (1 - y) * (1 - sigmoid(z)).log()).mean()
    ),
    "kl_divergence": lambda z, y: sum(
        y[k] * (y[k] / softmax(z)[k]).log() for k in range(K) if y[k] > 0
    ),
    "focal": lambda z, y: -(y * (1 - softmax(z)) ** 2 * softmax(z).log()).sum(),
    "mse": lambda z, y: ((softmax(z) - y) ** 2).mean(),
    "mae": lambda z, y: (softmax(z) - y).abs().mean(),
    "huber": lambda z, y: torch.stack([huber(d) for d in (softmax(z) - y).abs()]).mean(),
    "hinge": lambda z, y: ahead(z, y, 1.0).clamp(min=0),
    "perceptron": lambda z, y: ahead(z, y, 0.0).clamp(min=0),
}

# The same for numbers: outputs a (T,) and targets y (T,).
OF_NUMBERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda a, y: ((a - y) ** 2).mean(),
    "mae": lambda a, y: (a - y).abs().mean(),
    "huber": lambda a, y: torch.stack([huber(d) for d in (a - y).abs()]).mean(),
    "binary_cross_entropy": OF_CLASSES["binary_cross_entropy"],
}
SOFT_LOSSES = ["binary_cross_entropy", "cross_entropy", "focal", "kl_divergence"]


def chosen(name: str, *overrides: str) -> nn.Module:
    """Return the loss of `loss=name`, built as in a run with K classes."""
    loss: nn.Module = instantiate(
        compose([f"loss={name}", *overrides]).config["loss"], "loss", {"num_classes": K}, []
    )
    return loss


def outputs(rows: int, columns: int, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return (
        torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        .mul_(spread)
        .requires_grad_()
    )


def agree(
    loss: nn.Module,
    formula: Callable[[Tensor, Tensor], Tensor],
    z: Tensor,
    targets: Tensor,
    y: Tensor,
) -> None:
    """Check value and gradient of `loss` against the mean of `formula` over rows `y`."""
    expected = torch.stack([formula(row, share) for row, share in zip(z, y, strict=True)]).mean()
    value = loss(z, targets)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12, abs=1e-14)
    gradient, right = (torch.autograd.grad(v, z)[0] for v in (value, expected))
    assert torch.allclose(gradient, right, rtol=1e-9, atol=1e-14)
    assert gradient.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda a: loss(a, targets), z)


@pytest.mark.parametrize("name", groups()["loss"])
def test_a_loss_of_class_numbers_matches_its_formula(name: str) -> None:
    agree(
        chosen(name),
        OF_CLASSES[name],
        outputs(len(HARD), K),
        HARD,
        torch.eye(K, dtype=torch.float64)[HARD],
    )


@pytest.mark.parametrize("name", groups()["loss"])
def test_a_loss_accepts_soft_targets_exactly_where_it_says_so(name: str) -> None:
    assert type(chosen(name)).soft_targets == (name in SOFT_LOSSES)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SOFT_LOSSES)
def test_a_loss_of_soft_targets_matches_its_formula(name: str) -> None:
    """Class numbers give the same as one-hot targets."""
    agree(chosen(name), OF_CLASSES[name], outputs(len(SOFT), K), SOFT, SOFT)
    z, one_hot = outputs(len(HARD), K), torch.eye(K, dtype=torch.float64)[HARD]
    assert chosen(name)(z, one_hot).item() == pytest.approx(chosen(name)(z, HARD).item(), rel=1e-12)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_a_regression_loss_matches_its_formula(name: str) -> None:
    agree(chosen(name), OF_NUMBERS[name], outputs(len(NUMBERS), 2), NUMBERS, NUMBERS)


@pytest.mark.parametrize("name", groups()["loss"])
def test_losses_of_extreme_logits_and_their_gradients_are_finite(name: str) -> None:
    """In single precision, logits of +-1000, whose probabilities are 0 and 1."""
    z = (1000.0 * (2 * torch.eye(K) - 1)[torch.arange(len(HARD)) % K]).requires_grad_()
    value = chosen(name)(z, HARD)
    value.backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert 0 < value.item() < math.inf


@pytest.mark.parametrize("name", groups()["loss"])
def test_a_loss_of_half_precision_outputs_is_close_to_that_of_full_precision(name: str) -> None:
    """Under autocast, for every kind of target that the loss accepts."""
    kinds = [(HARD, K), *([(SOFT.float(), K)] if name in SOFT_LOSSES else [])]
    kinds += [(NUMBERS.float(), 2)] if name in OF_NUMBERS else []
    for targets, columns in kinds:
        z = outputs(len(targets), columns).detach().float()
        half = z.bfloat16().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            value = chosen(name)(half, targets)
        value.float().backward()
        assert value.item() == pytest.approx(chosen(name)(z, targets).item(), rel=0.02)
        assert half.grad is not None
        assert torch.isfinite(half.grad).all()


def test_label_smoothing_gives_every_class_a_share_of_the_target() -> None:
    smooth = 0.8 * torch.eye(K, dtype=torch.float64)[HARD] + 0.2 / K
    agree(CrossEntropy(0.2), OF_CLASSES["cross_entropy"], outputs(len(HARD), K), HARD, smooth)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_weigh_samples_in_the_mean(smoothing: float) -> None:
    """A weight of 2 equals the sample twice; soft targets weigh in proportion."""
    doubled = torch.cat([HARD, HARD[HARD == 2]])  # class 2 twice
    z = outputs(len(HARD), K).detach()
    loss = CrossEntropy(smoothing, (1.0, 1.0, 2.0, 1.0, 1.0)).double()
    if not smoothing:  # smoothing gives every sample some of every class, at that class's weight
        expected = CrossEntropy()(torch.cat([z, z[HARD == 2]]), doubled)
        assert float(loss(z, HARD)) == pytest.approx(float(expected), rel=1e-12)
    one_hot = torch.eye(K, dtype=torch.float64)[HARD]
    assert float(loss(z, one_hot)) == pytest.approx(float(loss(z, HARD)), rel=1e-12)
    weights = torch.tensor([1, 1, 2, 1, 1], dtype=torch.float64)
    z, smooth = outputs(len(SOFT), K).detach(), (1 - smoothing) * SOFT + smoothing / K
    by_hand = sum(
        -(weights * y * softmax(row).log()).sum() for row, y in zip(z, smooth, strict=True)
    )
    assert float(loss(z, SOFT)) == pytest.approx(float(by_hand / (SOFT @ weights).sum()), rel=1e-12)


def test_there_must_be_one_weight_for_each_class(dltrain) -> None:
    outcome = dltrain("loss.class_weights=[1,2,3]", "debug=smoke")
    assert outcome.code == 2
    assert "class_weights are 3 numbers; give one for each of 10 classes" in outcome.err
    weights = ",".join(["1", "2"] * 5)
    assert dltrain(f"loss.class_weights=[{weights}]", "debug=smoke", "callbacks=quiet").code == 0


def test_focal_loss_with_gamma_0_is_cross_entropy_and_its_gradient_is_finite() -> None:
    z = outputs(len(HARD), K)
    assert Focal(0)(z, HARD).item() == pytest.approx(F.cross_entropy(z, HARD).item(), rel=1e-12)
    certain = (200.0 * torch.eye(K)[HARD]).requires_grad_()
    Focal(0.5)(certain, HARD).backward()
    assert certain.grad is not None
    assert torch.isfinite(certain.grad).all()


def test_balanced_class_weights_match_scikit_learn() -> None:
    """n / (K n_k); a class without samples counts as one; missing counts are an error."""
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat(np.arange(4), [1, 5, 10, 24])
    weights = CrossEntropy(
        class_weights="balanced", class_counts=lambda: (1, 5, 10, 24)
    ).class_weights
    assert weights is not None
    assert weights.tolist() == pytest.approx(
        compute_class_weight("balanced", classes=np.arange(4), y=labels)
    )
    absent = CrossEntropy(class_weights="balanced", class_counts=lambda: (0, 4)).class_weights
    assert absent is not None
    assert absent.tolist() == [2.0, 0.5]
    with pytest.raises(ValueError, match="how often each class occurs"):
        CrossEntropy(class_weights="balanced", class_counts=lambda: ())


def test_class_counts_are_only_called_when_they_are_needed() -> None:
    """They may have to read the data."""
    CrossEntropy(class_weights=(1.0, 2.0), class_counts=lambda: pytest.fail("asked"))


@pytest.mark.parametrize("more", [[], ["debug=smoke"], ["debug=overfit"]], ids=str)
def test_balanced_class_weights_count_the_training_samples(more: list[str], dltrain) -> None:
    """In a run on any kind of data, and in its evaluation, which need not have counts."""
    argv = [
        "dataset=wine",
        "loss.class_weights=balanced",
        "trainer.epochs=2",
        "callbacks=quiet",
        "--json",
        *more,
    ]
    outcome = dltrain(*argv)
    assert outcome.code == 0, outcome.err
    run = Path(outcome.json["run"])
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    again = dltrain("evaluate", str(run), "--json")
    assert again.json["metrics"]["test/loss"] == pytest.approx(outcome.json["metrics"]["test/loss"])
    if not more:
        assert manifest["data"]["class_counts"] == [42, 51, 34]
        experiment = Experiment.to_evaluate(compose(argv[:2]).config, manifest["data"])
        expected = [127 / (3 * n) for n in (42, 51, 34)]
        assert experiment.task.loss.class_weights.tolist() == pytest.approx(expected)


def test_balanced_class_weights_need_classes(dltrain) -> None:
    outcome = dltrain("dataset=diabetes", "loss=cross_entropy", "loss.class_weights=balanced")
    assert outcome.code == 2
    assert "class_weights=balanced" in outcome.err


@pytest.mark.parametrize("size", [1, 2, 3, 12])
def test_samples_that_torch_ignores_do_not_count(size: int) -> None:
    """Means are over the other samples, also where a batch has none and its own mean is NaN."""
    loss = nn.CrossEntropyLoss(ignore_index=0)
    logits = torch.randn(12, K, generator=torch.Generator().manual_seed(1), requires_grad=True)
    targets = torch.tensor([0, 0, 0, 1, 2, 0, 4, 4, 0, 0, 0, 0])
    pairs = list(zip(logits.split(size), targets.split(size), strict=True))
    whole = loss(logits, targets)
    assert mean_over([evaluation_sum(loss, z, y) for z, y in pairs]) == pytest.approx(
        float(whole.detach()), rel=1e-6
    )
    parts = [training_mean(loss, z, y) for z, y in pairs]
    assert sum(int(weight) for _, weight in parts) == 4
    total = sum(mean * weight for mean, weight in parts) / 4
    (found,) = torch.autograd.grad(total, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(whole, logits)
    assert torch.allclose(found, expected, atol=1e-7)


def test_huber_is_linear_beyond_delta() -> None:
    """Computed by hand: |3 - 0| is beyond delta 0.5, 0.5 (3 - 0.25); within delta 4 it is 9 / 2."""
    a, y = torch.tensor([[3.0]]), torch.tensor([[0.0]])
    assert float(Huber(0.5)(a, y)) == pytest.approx(1.375)
    assert float(Huber(4.0)(a, y)) == pytest.approx(4.5)


@pytest.mark.parametrize("mixer", ["mixup", "cutmix"])
@pytest.mark.parametrize("name", groups()["loss"])
def test_mixed_targets_are_refused_for_losses_without_soft_targets(
    name: str, mixer: str, dltrain
) -> None:
    outcome = dltrain(f"loss={name}", f"regularization=[{mixer}]", "debug=smoke", "callbacks=quiet")
    if name in SOFT_LOSSES:
        assert outcome.code == 0, outcome.err
    else:
        assert outcome.code == 2
        assert f"loss={name}" in outcome.err
        assert f"regularization={mixer} turns targets into class probabilities" in outcome.err


class Squared(nn.Module):
    """A loss of a user: the mean square of the logit of the true class."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss () of logits (B, K) and class numbers (B,)."""
        return logits.gather(1, targets.unsqueeze(1)).square().mean()


WEIGHTS = (1.0, 2.0, 0.5, 3.0, 1.0)
COUNTED_LOSSES: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: chosen(name) for name in groups()["loss"]},
    "label smoothing": lambda: CrossEntropy(0.2),
    "weighted": lambda: CrossEntropy(0.0, WEIGHTS, K).double(),
    "weighted, label smoothing": lambda: CrossEntropy(0.2, WEIGHTS, K).double(),
    "weighted focal": lambda: Focal(2.0, WEIGHTS, K).double(),
    "torch": nn.CrossEntropyLoss,
    "torch, weighted": lambda: nn.CrossEntropyLoss(torch.tensor(WEIGHTS).double()),
    "of a user": Squared,
}


@pytest.mark.parametrize("name", COUNTED_LOSSES)
def test_samples_that_do_not_count_are_as_good_as_absent(name: str) -> None:
    """Value, weight and gradient are those of the other samples; the gradient of padding is 0."""
    loss = COUNTED_LOSSES[name]()
    logits = torch.randn(len(HARD), K, dtype=torch.float64, generator=keyed(0))
    counted = torch.tensor([True, False, True, True, False, True])
    all_logits, some_logits = (part.clone().requires_grad_() for part in (logits, logits[counted]))
    value, weight = training_mean(loss, all_logits, HARD, counted)
    expected, expected_weight = training_mean(loss, some_logits, HARD[counted])
    torch.testing.assert_close(value, expected)
    assert float(weight) == pytest.approx(float(expected_weight))
    value.backward()
    expected.backward()
    gradient = all_logits.grad
    assert gradient is not None
    assert some_logits.grad is not None
    torch.testing.assert_close(gradient[counted], some_logits.grad)
    assert not gradient[~counted].any()
    sums = evaluation_sum(loss, logits, HARD, counted)
    torch.testing.assert_close(sums, evaluation_sum(loss, logits[counted], HARD[counted]))


@pytest.mark.parametrize("name", [name for name in COUNTED_LOSSES if name != "of a user"])
def test_a_batch_of_padding_has_no_loss_and_no_gradient(name: str) -> None:
    loss = COUNTED_LOSSES[name]()
    logits = torch.randn(len(HARD), K, dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros(len(HARD), dtype=torch.bool)
    value, weight = training_mean(loss, logits, HARD, nothing)
    assert float(value.detach()) == float(weight) == 0
    value.backward()
    assert logits.grad is not None
    assert not logits.grad.any()
    assert evaluation_sum(loss, logits.detach(), HARD, nothing).tolist() == [0, 0]


@pytest.mark.parametrize("name", [name for name in COUNTED_LOSSES if name != "of a user"])
def test_a_loss_that_leaves_out_samples_reads_no_value(name: str) -> None:
    """The meta device has none to read: the host need not wait for a GPU."""
    loss = COUNTED_LOSSES[name]().to("meta")
    logits = torch.randn(len(HARD), K, dtype=torch.float64, device="meta", requires_grad=True)
    targets = HARD.to("meta")
    value, _ = training_mean(loss, logits, targets, targets != 0)
    value.backward()
    assert logits.grad is not None
    assert evaluation_sum(loss, logits.detach(), targets, targets != 0).shape == (2,)
