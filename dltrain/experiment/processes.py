"""A session that several processes train together: process 0 leads, the others follow.

Process 0 is that of the command. It sends the others the experiment and its state; from then on
every process runs the same loop on its own rows of each batch.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from dltrain import rng
from dltrain.distributed.batch_norm import not_synchronized, synchronize
from dltrain.distributed.environment import launched_size
from dltrain.distributed.evaluating import evaluations_of
from dltrain.distributed.feeding import DividingFeed
from dltrain.distributed.gradients import DataParallel
from dltrain.distributed.launching import Followers
from dltrain.distributed.orders import LEAVE, Lead
from dltrain.distributed.processes import Order, Processes
from dltrain.distributed.stepping import DividedStepRunner, nothing
from dltrain.engine import Engine, Resume
from dltrain.errors import ConfigError, DltrainError, InputError, UsageError
from dltrain.experiment.experiment import Experiment
from dltrain.optim import Params, Reduction
from dltrain.types.rows import Share

log = logging.getLogger("dltrain")
# errors of another process that this one raises again, by its exit code
ERRORS: dict[int, type[DltrainError]] = {2: UsageError, 3: InputError}


@dataclass
class FollowerJob:
    """The state that process 0 sends to the others; all of it is plain types and tensors.

    `state` is that of the task before the first stage, `generators` that of the random generators.
    """

    config: dict[str, Any]
    description: dict[str, Any]
    state: dict[str, Any]
    generators: dict[str, Any]
    threads: int
    timeout: float
    resume: Resume | None


class TorchrunGroup:
    """The group of the processes that torchrun started, which they join once.

    `is_idle` is True while the other processes wait for the next run.
    """

    group: Processes | None = None
    is_idle = True

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Return the group; the first call joins it."""
        if cls.group is None:
            cls.group = Processes.join(device)
            atexit.register(cls.leave)
        if not cls.is_idle:
            raise DltrainError(
                "the other processes of torchrun have ended with the run before this one, which "
                "failed; start the command again, or a sweep with device.processes instead of "
                "torchrun"
            )
        return cls.group

    @classmethod
    def leave(cls) -> None:
        """Tell the others that no run will come, and leave."""
        if cls.group is None:
            return
        if cls.is_idle:
            cls.group.share_object(None)
        cls.group.leave()
        cls.group = None


def release_others() -> None:
    """Let torchrun's other processes end, also if this one had nothing to train."""
    if launched_size() > 1:
        TorchrunGroup.join(torch.device("cpu"))


def require_divisible(experiment: Experiment) -> None:
    """Raise ConfigError for settings that several processes cannot have."""
    problems = []
    if not experiment.task.several_processes:
        why = "this task trains in one process; set device.processes=1"
        problems.append((f"device.processes={experiment.device.num_processes()}", why))
    if experiment.trainer.on_oom == "halve":
        why = (
            "a process that divides its batch would leave the others waiting; set "
            "trainer.on_oom=stop, or a smaller dataset.batch_size"
        )
        problems.append(("trainer.on_oom=halve", why))
    if experiment.data.spec.continues:
        why = (
            "the rows of a stream belong to one process; set dataset.stream=false, or "
            "device.processes=1"
        )
        problems.append(("dataset.stream=true", why))
    if experiment.device.parallel == "fsdp" and averages_weights(experiment):
        why = "averages of weights are not divided among processes; set device.parallel=ddp"
        problems.append(("device.parallel=fsdp", why))
    if not experiment.task.trains_in_processes:
        why = "this task makes decisions that several processes cannot share; set it to 1"
        problems.append(("device.processes", why))
    if experiment.device.resolved_compile() == "step":
        why = "a recorded step cannot combine gradients; set device.compile=model"
        problems.append(("device.compile=step", why))
    if experiment.config["debug"] == "profile":
        why = "a profile is of one process; set device.processes=1"
        problems.append(("debug=profile", why))
    others = not_synchronized(experiment.task) if experiment.device.sync_batch_norm else []
    if others:
        why = (
            f"{others[0]} is a batch norm of another class than torch's own BatchNorm1d to 3d, "
            "which would use the rows of one process; set device.sync_batch_norm=false"
        )
        problems.append(("device.sync_batch_norm=true", why))
    if problems:
        raise ConfigError(problems)


def averages_weights(experiment: Experiment) -> bool:
    """Return whether a regularizer averages weights (ema, swa, lookahead)."""
    return experiment.regularizers["optim"].get("average") is not None


@contextmanager
def led(experiment: Experiment, engine: Engine, resume: Resume | None) -> Iterator[Others]:
    """Let the processes of the run, if there are several, train with this one within the block.

    Raises:
        ConfigError: Several processes cannot have these settings.
        DltrainError: Another process cannot be started.
    """
    size = experiment.device.num_processes()
    if size == 1:
        yield Others()
        return
    require_divisible(experiment)
    with joined(experiment, size) as others:
        group = others.group
        assert group is not None
        with others.explained():
            job = job_of(experiment, resume, size)
            group.share_object(job)
            attached = attach(experiment, engine, group, job.threads)
            engine.add_callback(Lead(group, attached.end_training))
            group.begin(job.timeout)
        yield others
        group.send(Order(LEAVE))
        group.end()


def job_of(experiment: Experiment, resume: Resume | None, size: int) -> FollowerJob:
    """Return what the other processes need."""
    threads = torch.get_num_threads()
    if experiment.device.threads == "auto" and launched_size() == 1:
        threads = max(1, threads // size)
    return FollowerJob(
        config=experiment.config,
        description=experiment.data.description(),
        state=on_cpu(experiment.task.state_dict()),
        generators=rng.state_dict(),
        threads=threads,
        timeout=experiment.device.process_timeout,
        resume=resume,
    )


def on_cpu(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state with its tensors on the CPU."""
    return {
        name: value.cpu() if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }


@dataclass
class Others:
    """The other processes of a run: the group with them, and those that this process started."""

    group: Processes | None = None
    followers: Followers | None = None
    timeout: float = 0.0

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise DltrainError for an error that another process has caused."""
        try:
            yield
        except RuntimeError as e:  # torch's errors of connections are RuntimeErrors
            reason = "" if self.group is None else self.reason(e)
            if not reason:
                raise
            raise self.error(reason) from e

    def error(self, reason: str) -> DltrainError:
        """Return the error to raise, with the exit code of the process that has failed."""
        code = 0 if self.followers is None else self.followers.failed_code
        return ERRORS.get(code, DltrainError)(reason)

    def reason(self, error: RuntimeError) -> str:
        """Return what happened to another process; "" if the error is not of another one."""
        if not is_of_others(error):
            return ""
        failure = self.followers.failure() if self.followers is not None else ""
        if failure:
            return failure
        if "imed out" in str(error):
            limit = f"{self.timeout:g} s (device.process_timeout)"
            return f"another process did not answer within {limit}"
        return f"another process has ended: {first_sentence(error)}"


@contextmanager
def joined(experiment: Experiment, size: int) -> Iterator[Others]:
    """Start the other processes, unless torchrun did, and be in a group with them in the block."""
    device = experiment.device.torch_device()
    timeout = experiment.device.process_timeout
    if launched_size() > 1:
        group = TorchrunGroup.join(device)
        TorchrunGroup.is_idle = False
        yield Others(group, None, timeout)
        TorchrunGroup.is_idle = True
        return
    followers = Followers(size)
    others = Others(None, followers, timeout)
    try:
        failure = followers.wait()
        if failure:
            raise DltrainError(failure)
        try:
            others.group = Processes.meet(device, followers.store, Share(0, size))
        except RuntimeError as e:
            raise DltrainError(followers.failure() or first_sentence(e)) from e
        yield others
    finally:
        if others.group is not None:
            others.group.leave()
        followers.close()


def is_of_others(error: RuntimeError) -> bool:
    """Return whether an operation with other processes has failed."""
    return isinstance(error, torch.distributed.DistError) or "gloo/" in str(error)


def first_sentence(error: RuntimeError) -> str:
    """Return the first sentence of an error, without the file and the line of a library's code."""
    text = str(error).partition("\n")[0]
    return text.rpartition("] ")[2].partition(". ")[0]


@dataclass
class Attached:
    """The functions of networks that are divided among the processes, which do nothing for others.

    `gather` makes them whole. Process 0 calls `end_training` after the last stage.
    """

    gather: Callable[[], None] = nothing
    end_training: Callable[[], None] = nothing


def attach(experiment: Experiment, engine: Engine, group: Processes, threads: int) -> Attached:
    """Let `engine` train on this process's rows, and its optimizers combine their gradients."""
    torch.set_num_threads(threads)
    seed = experiment.config["seed"]
    feed = DividingFeed(engine.feed, group.share)
    runner = DividedStepRunner(engine.step_runner, group, feed, seed)
    engine.feed = feed
    engine.step_runner = runner
    if experiment.device.sync_batch_norm:
        synchronize(experiment.task, feed)
    if not is_divided(experiment):
        experiment.optim_factory.reduction = partial(data_parallel, group, feed)
        feed.evaluate_by = evaluations_of(group, feed, experiment.task)
        return Attached()
    # imported here: it takes a second
    from dltrain.distributed.sharding import FullySharded, ShardedTask

    sharded = ShardedTask(experiment.task, group)
    runner.before = sharded.begin_step
    runner.after = sharded.end_step
    feed.before_evaluation = sharded.gather
    experiment.optim_factory.reduction = partial(FullySharded, group=group, feed=feed)
    return Attached(sharded.gather, sharded.end_training)


def is_divided(experiment: Experiment) -> bool:
    """Return whether the networks are divided among the processes."""
    if experiment.device.parallel == "ddp":
        return False
    if not experiment.task.divisible:
        log.info(
            "device.parallel=fsdp: this task uses weights outside of its networks' passes, or has "
            "several optimizers, so every process has whole networks (ddp)"
        )
        return False
    return True


def data_parallel(group: Processes, feed: DividingFeed, params: Params) -> Reduction:
    """Return what combines the gradients of parameters that every process has."""
    return DataParallel(params, group, feed)
