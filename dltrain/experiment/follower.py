"""A process that trains with process 0 of a run: it has no folder, no screen and no callbacks."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import torch

from dltrain import rng
from dltrain.distributed.launching import leader_store
from dltrain.distributed.orders import Follow, use_generator_of_first_gpu
from dltrain.distributed.processes import Processes
from dltrain.engine import Batches, Engine, Stage, Task
from dltrain.errors import DltrainError, ending_signals
from dltrain.experiment.experiment import Experiment
from dltrain.experiment.processes import FollowerJob, attach, is_of_others
from dltrain.options import Options
from dltrain.step_runner import MemoryGuard
from dltrain.types.rows import Share
from dltrain.user_code import user_errors_explained


def follow_torchrun(options: Options) -> None:
    """Train with process 0 of torchrun, one run after the other, until it ends.

    The words of the command, `options`, are those of process 0, which reads them.
    """
    end_at_signals()
    group = Processes.join(default_device())
    ignore_signals()
    try:
        while (job := group.share_object()) is not None:
            train(job, group)
            group.end()
    except RuntimeError as e:
        if is_of_others(e):
            raise DltrainError("process 0 has ended") from e
        raise


def main() -> None:
    """Train one run with the process that started this one."""
    ignore_signals()
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    share = Share(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    group = Processes.meet(default_device(), leader_store(share.rank), share)
    try:
        with user_errors_explained():
            train(group.share_object(), group)
    except DltrainError as e:
        print(e, file=sys.stderr)
        sys.exit(e.exit_code)


def end_at_signals() -> None:
    """End at a signal, also while this process waits for process 0, which may have failed."""
    for number in ending_signals():
        signal.signal(number, signal.SIG_DFL)


def ignore_signals() -> None:
    """Leave signals to process 0, which ends the run after the step."""
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)


def end_with_standard_input() -> None:
    """End this process when the one that started it is gone."""
    while os.read(0, 1):  # not of `sys.stdin`, whose lock would keep the process from ending
        pass
    os._exit(0)


def use_own_gpu(device: torch.device) -> None:
    """Use the GPU with this process's number on this machine, if the run uses GPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def default_device() -> torch.device:
    """Return the type of device that runs of this machine use by default."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(job: FollowerJob, group: Processes) -> None:
    """Train the run of a job with the other processes."""
    experiment = Experiment.to_resume(job.config, job.description)
    device = experiment.device
    use_own_gpu(device.torch_device())
    experiment.build()
    group.device = device.torch_device()
    task = experiment.task
    task.load_state_dict(job.state)
    runner = MemoryGuard(halve=False, runner=device.step_runner())
    engine = Engine([], device.feed(), device.autocast(), runner)
    attached = attach(experiment, engine, group, job.threads)
    held_out = HeldOut(task)
    splits = {"val": held_out.of_stage, "test": lambda: experiment.data.test}
    engine.add_callback(Follow(group, attached.gather, splits))
    group.begin(job.timeout)
    rng.load_state_dict(job.generators)
    use_generator_of_first_gpu()
    engine.fit(task, job.resume)


class HeldOut:
    """The held-out batches of the stages of a task, which the engine then evaluates by order only.

    Process 0 decides when to evaluate, so the stages have no held-out batches of their own.
    """

    def __init__(self, task: Task) -> None:
        self.batches: Batches | None = None
        self.stages = task.stages
        vars(task)["stages"] = self.stages_without

    def stages_without(self) -> Iterator[Stage]:
        """Yield the stages without held-out batches."""
        for stage in self.stages():
            self.batches = stage.held_out
            yield replace(stage, held_out=None)

    def of_stage(self) -> Batches:
        """Return the held-out batches of the current stage, which process 0 has too."""
        assert self.batches is not None
        return self.batches


if __name__ == "__main__":
    main()
