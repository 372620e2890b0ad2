"""Sparse optimizers make the steps of dense ones for rows with a gradient, and no other steps."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.optim import Optim
from dltrain.optimizers import sparse_adam
from dltrain.optimizers.row_adagrad import RowAdagrad
from dltrain.optimizers.sparse_adam import SparseAdam, summed

BOTH = pytest.mark.parametrize("made", [SparseAdam, RowAdagrad])


class Table(nn.Module):
    """A table with a sparse gradient and a dense vector."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(6, 3, sparse=True)
        self.bias = nn.Parameter(torch.zeros(3))

    def loss(self, rows: list[int]) -> Tensor:
        return (self.table(torch.tensor(rows)) + self.bias - 1).square().sum()


def trained(model: Table, optim: Optim, batches: list[list[int]]) -> Table:
    for rows in batches:
        optim.update(model.loss(rows))
    return model


def test_sparse_adam_is_adam_where_every_row_has_a_gradient() -> None:
    ours, theirs = Table(), Table()
    trained(ours, Optim(ours, functools.partial(SparseAdam, lr=0.1)), [[0, 1, 2, 3, 4, 5, 5]] * 3)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.1)
    for _ in range(3):
        loss = theirs.loss([0, 1, 2, 3, 4, 5, 5])
        reference.zero_grad()
        gradient, of_bias = torch.autograd.grad(loss, [theirs.table.weight, theirs.bias])
        theirs.table.weight.grad, theirs.bias.grad = gradient.to_dense(), of_bias
        reference.step()
    torch.testing.assert_close(ours.table.weight, theirs.table.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_sparse_adam_is_torchs_where_rows_are_left_out() -> None:
    ours, theirs = nn.Embedding(6, 3, sparse=True), nn.Embedding(6, 3, sparse=True)
    theirs.load_state_dict(ours.state_dict())
    one, other = (
        SparseAdam(list(ours.parameters()), lr=0.1),
        torch.optim.SparseAdam(theirs.parameters(), lr=0.1),
    )
    for rows in ([0, 1, 1], [1, 4], [5, 0]):
        for table, optimizer in ((ours, one), (theirs, other)):
            optimizer.zero_grad()
            table(torch.tensor(rows)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_row_adagrad_divides_by_the_root_of_the_mean_squares_of_a_row() -> None:
    weight = nn.Parameter(torch.zeros(4, 2))
    optimizer = RowAdagrad([weight], lr=0.5)
    sums, expected = torch.zeros(4), torch.zeros(4, 2)
    for rows, values in (([1, 1, 3], [[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]]), ([1], [[2.0, -2.0]])):
        weight.grad = torch.sparse_coo_tensor(
            torch.tensor([rows]), torch.tensor(values), (4, 2), check_invariants=True
        )
        dense = weight.grad.to_dense()
        sums += dense.square().mean(1)
        expected -= 0.5 * dense / (sums.sqrt() + 1e-10).unsqueeze(1)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


@BOTH
def test_rows_without_a_gradient_stay_as_they_are(made: Any) -> None:
    model = Table()
    before = model.table.weight.detach().clone()
    trained(model, Optim(model, made), [[1, 2], [2, 4]])
    changed = (model.table.weight != before).any(1)
    assert changed.tolist() == [False, True, True, False, True, False]


@BOTH
def test_the_loss_falls(made: Any) -> None:
    model = Table()
    before = float(model.loss([0, 1, 2]).detach())
    trained(model, Optim(model, functools.partial(made, lr=0.1)), [[0, 1, 2]] * 50)
    assert float(model.loss([0, 1, 2]).detach()) < before / 10


@BOTH
def test_the_norm_of_sparse_and_dense_gradients_is_measured(made: Any) -> None:
    model = Table()
    optim = Optim(model, made)
    optim.record_grad_norm = True
    loss = model.loss([1, 1, 2])
    gradients = [
        g.to_dense() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    ]
    optim.update(loss)
    assert optim.grad_norm is not None
    torch.testing.assert_close(optim.grad_norm, torch.stack([g.norm() for g in gradients]).norm())


@BOTH
def test_a_resume_within_an_accumulation_window_is_exact(made: Any, tmp_path: Any) -> None:
    batches = [[0, 1], [1, 2], [3, 3], [4, 0]]
    whole = Table()
    trained(whole, Optim(whole, made, accumulate=2), batches)
    half, again = Table(), Table()
    optim = Optim(half, made, accumulate=2)
    trained(half, optim, batches[:3])
    torch.save({"model": half.state_dict(), "optim": optim.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(state["model"])
    optim = Optim(again, made, accumulate=2)
    optim.load_state_dict(state["optim"])
    trained(again, optim, batches[3:])
    assert torch.equal(again.table.weight, whole.table.weight)
    assert torch.equal(again.bias, whole.bias)


def test_a_gradients_rows_are_summed() -> None:
    gradient = torch.sparse_coo_tensor(
        torch.tensor([[3, 1, 3]]),
        torch.tensor([[1.0], [2.0], [4.0]]),
        (5, 1),
        check_invariants=True,
    )
    rows, values = summed(gradient)
    assert rows.tolist() == [1, 3]
    assert values.tolist() == [[2.0], [5.0]]
    rows, values = summed(gradient.coalesce())
    assert values.tolist() == [[2.0], [5.0]]


@BOTH
def test_static_shapes_make_the_same_steps(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come repeatedly where the number of distinct ones must not be waited for."""
    batches = [[0, 1, 1, 5], [3, 3, 3, 3], [2, 0, 2, 0]]
    plain = Table()
    trained(plain, Optim(plain, functools.partial(made, lr=0.1)), batches)
    monkeypatch.setattr(sparse_adam, "is_immediate", lambda device: False)
    static = Table()
    trained(static, Optim(static, functools.partial(made, lr=0.1)), batches)
    torch.testing.assert_close(static.table.weight, plain.table.weight)
    torch.testing.assert_close(static.bias, plain.bias)


@BOTH
def test_a_row_of_padding_with_a_zero_gradient_stays(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_adam, "is_immediate", lambda device: False)
    weight = nn.Parameter(torch.ones(4, 2))
    optimizer = made([weight], lr=0.5)
    rows, values = torch.tensor([[0, 2, 0]]), torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    weight.grad = torch.sparse_coo_tensor(rows, values, (4, 2), check_invariants=True)
    optimizer.step()
    assert (weight != 1).any(1).tolist() == [False, False, True, False]


@BOTH
def test_a_step_reads_no_value(made: Any) -> None:
    """The meta device has none to read: the host need not wait for a GPU."""
    table = nn.Embedding(6, 3, sparse=True, device="meta")
    optimizer = made(list(table.parameters()))
    for _ in range(2):
        table(torch.ones(4, dtype=torch.int64, device="meta")).sum().backward()
        optimizer.step()
