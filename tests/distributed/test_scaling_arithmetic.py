"""The arithmetic of benchmarks/scaling.py, against cases computed by hand; and its page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling import Bytes, Cluster, Links, Workload

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
SLOW = Links("slow", nvlink=100.0, network=10.0)  # bytes a second, beside which hops cost nothing
SIZES = Bytes(weight=4, gradient=2, bucket=40)
TINY = Workload(
    name="tiny",
    row="row",
    params=100,
    blocks=4,
    block_params=20,
    rows=3,
    row_seconds=40.0,
    moments=2,
    common_rows=64,
)
ALMOST = 1e-4  # relative: the seconds of hops


@pytest.mark.parametrize("step", scaling.STEPS.values(), ids=scaling.STEPS)
def test_one_gpu_sends_nothing(step: scaling.Step) -> None:
    alone = Cluster(1, SLOW)
    assert step(TINY, alone, SIZES) == pytest.approx(TINY.seconds)
    assert scaling.all_reduce_seconds(1e9, alone) == 0
    assert scaling.gather_seconds(1e9, alone) == 0
    assert scaling.small_seconds(alone) == 0
    for sent in scaling.SENT.values():
        assert sent(TINY, 1, SIZES) == 0


def test_bytes_of_a_step() -> None:
    # 2 x 3/4 x 100 gradients of 2 bytes
    assert scaling.ddp_bytes(TINY, 4, SIZES) == 300
    # 3/4 of 180 weights of 4 bytes, as 80 are gathered twice, and of 100 gradients of 2 bytes
    assert scaling.fsdp_bytes(TINY, 4, SIZES) == 0.75 * (720 + 200)


@pytest.mark.parametrize(
    ("gpus", "gather", "flat", "hierarchical"),
    [
        (2, 0.5 * 800 / 100, 800 / 100, 800 / 100),
        (8, 7 / 8 * 800 / 100, 2 * 7 / 8 * 800 / 100, 2 * 7 / 8 * 800 / 100),
        # two nodes: the ring has the speed of the network; between nodes half of the bytes go
        (16, 15 / 16 * 800 / 10, 2 * 15 / 16 * 800 / 10, 2 * (7 / 8 * 8 + 0.5 * 80)),
    ],
)
def test_seconds_of_collectives(gpus: int, gather: float, flat: float, hierarchical: float) -> None:
    cluster = Cluster(gpus, SLOW)
    assert scaling.gather_seconds(800, cluster) == pytest.approx(gather, rel=ALMOST)
    assert scaling.flat_seconds(800, cluster) == pytest.approx(flat, rel=ALMOST)
    assert scaling.hierarchical_seconds(800, cluster) == pytest.approx(hierarchical, rel=ALMOST)
    fastest = min(flat, hierarchical)
    assert scaling.all_reduce_seconds(800, cluster) == pytest.approx(fastest, rel=ALMOST)


def test_hops_of_a_ring() -> None:
    fast = Links("fast", nvlink=1e30, network=1e30)
    # 16 GPUs in two nodes: 15 hops, one of them between the nodes
    assert scaling.gather_seconds(1, Cluster(16, fast)) == pytest.approx(
        8.4e-6 + 14 * 3.4e-6 + 9.6e-6
    )
    assert scaling.hierarchical_seconds(1, Cluster(16, fast)) == pytest.approx(
        8.4e-6 + 2 * (7 * 3.4e-6 + 9.6e-6)
    )


def test_data_parallel_waits_for_its_last_bucket() -> None:
    # 200 bytes in 5 buckets of 40; a backward pass of 80 s has 16 s for each of them
    cluster = Cluster(
        2, replace(SLOW, nvlink=10.0)
    )  # 4 s a bucket: only the last one is waited for
    assert scaling.ddp_step(TINY, cluster, SIZES) == pytest.approx(120 + 4, rel=ALMOST)
    cluster = Cluster(2, replace(SLOW, nvlink=2.0))  # 20 s a bucket: 4 s more than each has
    assert scaling.ddp_step(TINY, cluster, SIZES) == pytest.approx(120 + 20 + 4 * 4, rel=ALMOST)


def test_fsdp_waits_for_the_first_weights_and_the_last_gradients() -> None:
    # 1 byte a second: on two GPUs a block is gathered in 40 s and scattered in 20 s; the rest
    # in 40 s and 20 s. The forward pass has 10 s for a block, the backward pass 20 s.
    slow = Cluster(2, replace(SLOW, nvlink=1.0))
    forward = 40 + 40 + 3 * 40 + 10
    backward = 40 + 3 * 60 + 20 + 20
    assert scaling.fsdp_step(TINY, slow, SIZES) == pytest.approx(
        forward + backward + 20, rel=ALMOST
    )
    # 100 times as fast: everything is hidden but the ends
    fast = Cluster(2, replace(SLOW, nvlink=100.0))
    ends = 0.4 + 0.4 + 0.4 + 0.2 + 0.2
    assert scaling.fsdp_step(TINY, fast, SIZES) == pytest.approx(120 + ends, rel=ALMOST)


def test_rows_that_are_needed_are_the_fewest() -> None:
    for step in scaling.STEPS.values():
        cluster = Cluster(16, SLOW)
        needed = scaling.rows_needed(step, TINY, cluster, SIZES)
        assert needed > 1
        enough, fewer = replace(TINY, rows=needed), replace(TINY, rows=needed - 1)
        assert scaling.efficiency(step, enough, cluster, SIZES) >= 0.9
        assert scaling.efficiency(step, fewer, cluster, SIZES) < 0.9


def test_gpus_that_pay_divide_a_batch() -> None:
    free = Links("free", nvlink=1e30, network=1e30)
    assert scaling.gpus_that_pay(scaling.ddp_step, TINY, free, SIZES) == 64  # a row on each
    stalled = Links("stalled", nvlink=1e-3, network=1e-3)
    assert scaling.gpus_that_pay(scaling.ddp_step, TINY, stalled, SIZES) == 1


def test_memory_of_a_gpu() -> None:
    # weights, gradients, buckets and two moments of 4 bytes, and copies of 2 bytes
    assert scaling.ddp_memory(TINY) == 100 * 22
    # a half of weights, gradients and moments; 20 + 2 x 20 whole weights and gradients; copies
    assert scaling.fsdp_memory(TINY, 2) == 100 * 16 / 2 + 60 * 8 + 100 * 2


def test_an_evaluation_takes_as_long_as_the_process_with_most_batches() -> None:
    # 782 batches of 64 images, each a third of 40 s; of 512 processes some score two batches
    assert scaling.evaluation_seconds(TINY, 1) == pytest.approx(50_000 * 40 / 3)
    assert scaling.evaluation_seconds(TINY, 512) == pytest.approx(2 * 64 * 40 / 3)


def test_parameters_are_counted() -> None:
    assert scaling.resnet50(1).params == 25_557_032
    network = scaling.transformer(1)
    layer = 12 * 2048**2 + 13 * 2048  # four projections, an MLP of 4 x 2048, biases and two norms
    assert network.params == 24 * layer + (50368 + 2048) * 2048 + 2 * 2048
    assert (network.blocks, network.block_params) == (24, layer)


def test_the_page_has_the_tables() -> None:
    assert "\n".join(scaling.tables()).strip()
    page = PAGE.read_text(encoding="utf-8").splitlines()
    missing = [line for line in scaling.tables() if line and line not in page]
    assert missing == []


@pytest.mark.parametrize("option", ["--link-efficiency=0", "--bucket-mib=-1", "--weight-bytes=inf"])
def test_a_number_that_is_not_positive_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        scaling.main([option])
    assert ended.value.code == 2
    assert "is not a number above 0" in capsys.readouterr().err


def test_faster_gpus_wait_longer(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.main(["--images-per-second", "24700"])
    printed = capsys.readouterr().out
    assert "| 256 images | 10.4 ms |" in printed
    assert printed != "\n".join(scaling.tables())
