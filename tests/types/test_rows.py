"""Shares of a batch, and random numbers that belong to rows."""

from __future__ import annotations

import pytest
import torch

from dltrain.types.rows import (
    CommonGeneratorBefore,
    Share,
    StepRows,
    common_generator,
    counting_by,
    dividing,
    own_rows,
    random_rows,
    random_rows_by_default,
    same_rows,
)

CPU = torch.device("cpu")


def of_every_process(total: int, processes: int, draw):
    """Call `draw` with the number of rows of each process, as in its step; return the results."""
    results = []
    states = set()
    before = torch.get_rng_state()
    for rank in range(processes):
        torch.set_rng_state(before)
        rows = StepRows.of(Share(rank, processes), total)
        with dividing(rows, CPU, 100 + rank, torch.clone):
            results.append(draw(rows.count))
        states.add(tuple(torch.get_rng_state().tolist()))
    assert len(states) == 1, "the processes would draw different numbers from here on"
    return results


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [0, 1, 2, 7, 64])
def test_shares_are_all_rows_once(total: int, processes: int) -> None:
    rows = torch.arange(total)
    parts = [rows[Share(rank, processes).rows(total)] for rank in range(processes)]
    assert torch.cat(parts).equal(rows)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)  # process 0 has a row of every batch


@pytest.mark.parametrize("factor", [1, 5])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_rows_draw_what_the_whole_batch_draws(processes: int, factor: int) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    whole = torch.rand(7 * factor, 4)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    parts = of_every_process(
        7, processes, lambda count: random_rows_by_default(torch.rand, (count * factor, 4))
    )
    assert torch.cat(parts).equal(whole)
    assert torch.get_rng_state().equal(after)


def test_other_draws_differ_from_process_to_process() -> None:
    parts = of_every_process(8, 2, lambda count: torch.rand(count))
    assert not parts[0].equal(parts[1])


def test_a_named_generator_gives_rows_too() -> None:
    def draw(count: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return random_rows(lambda shape: torch.randn(shape, generator=generator), (count, 2))

    whole = torch.randn(5, 2, generator=torch.Generator().manual_seed(5))
    assert torch.cat(of_every_process(5, 3, draw)).equal(whole)


def test_rows_of_no_batch_are_the_same_in_all_processes() -> None:
    def draw(count: int) -> torch.Tensor:
        with same_rows():
            return random_rows_by_default(torch.rand, (4,))

    first, second = of_every_process(8, 2, draw)
    assert first.equal(second)


def test_a_whole_batch_is_divided_by_the_model() -> None:
    parts = []
    for rank in range(3):
        with dividing(StepRows(Share(rank, 3)), CPU, rank, torch.clone), common_generator():
            parts.append(torch.arange(10)[own_rows(10)])
    assert torch.cat(parts).tolist() == list(range(10))
    assert own_rows(10) == slice(0, 10)


def test_means_over_things_become_one_mean() -> None:
    things = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])]  # of 2 rows and of 1 row
    rows = [2, 1]
    parts = []
    for rank, values in enumerate(things):
        step = StepRows.of(Share(rank, 2), 3)
        with dividing(step, CPU, rank, lambda count: count + (4 - count)):
            factor = counting_by(torch.tensor(float(len(values))))
        parts.append(values.mean() * factor * rows[rank] / 3)
    assert float(sum(parts)) == pytest.approx(float(torch.cat(things).mean()))
    assert float(counting_by(torch.tensor(4.0))) == 1


def test_a_process_without_a_row_draws_as_much_as_the_others() -> None:
    before = torch.get_rng_state()
    states = set()
    for rank in range(3):
        torch.set_rng_state(before)
        rows = StepRows.of(Share(rank, 3), 2)
        with dividing(rows, CPU, rank, torch.clone):
            random_rows_by_default(torch.rand, (max(rows.count, 1), 4))
            counting_by(torch.tensor(3.0))
        states.add(tuple(torch.get_rng_state().tolist()))
    assert len(states) == 1


def test_a_process_without_a_row_counts_nothing() -> None:
    sums = []

    def summed(count: torch.Tensor) -> torch.Tensor:
        sums.append(float(count))
        return count

    for rank in range(3):
        with dividing(StepRows.of(Share(rank, 3), 2), CPU, rank, summed):
            counting_by(torch.tensor(5.0))
    assert sums == [5, 5, 0]


def test_a_recomputation_draws_the_same_rows() -> None:
    with dividing(StepRows.of(Share(1, 2), 8), CPU, 7, torch.clone):
        before = CommonGeneratorBefore()
        first = random_rows_by_default(torch.rand, (4, 2))
        second = random_rows_by_default(torch.rand, (4, 2))
        with before:
            again = random_rows_by_default(torch.rand, (4, 2))
        third = random_rows_by_default(torch.rand, (4, 2))
    assert again.equal(first)
    assert not third.equal(second)
