"""A small SLURM: sbatch, srun, squeue, sacct, scancel and scontrol that run jobs on this machine.

`install` writes the commands into a folder for PATH. State is in the folder of $FAKE_SLURM: the
batch file, state and process id of each job, and a line for each command.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol")
LIVE = ("PENDING", "RUNNING")
KILL_WAIT_SECONDS = 0.5


def install(folder: Path) -> None:
    """Write the commands into `folder`/bin."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in COMMANDS:
        path = programs / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        path.chmod(0o755)


def spool() -> Path:
    return Path(os.environ["FAKE_SLURM"])


def state_of(job: str) -> str:
    return (spool() / f"{job}.state").read_text()


def set_state(job: str, state: str) -> None:
    waiting = spool() / f"{job}.waiting"
    waiting.write_text(state)
    waiting.rename(spool() / f"{job}.state")


def jobs() -> list[str]:
    return sorted(path.stem for path in spool().glob("*.state"))


def sbatch(file: str) -> None:
    main = str(100 + len(list(spool().glob("*.sh"))))
    script = Path(file).read_text()
    (spool() / f"{main}.sh").write_text(script)
    array = re.search(r"--array=0-(\d+)%(\d+)", script)
    elements = [main]
    if array is not None:
        elements = [f"{main}_{i}" for i in range(int(array[1]) + 1)]
    for job in elements:
        set_state(job, "PENDING")
    limit = array[2] if array is not None else "1"
    daemon = [sys.executable, __file__, "daemon", main, limit, *elements]
    subprocess.Popen(
        daemon, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    print(f"Submitted batch job {main}")


def daemon(main: str, limit: str, *elements: str) -> None:
    """Run the jobs of an array, at most `limit` at once, until none is left."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    while running or any(state_of(job) == "PENDING" for job in elements):
        for job in elements:
            if state_of(job) == "PENDING" and len(running) < int(limit):
                set_state(job, "RUNNING")
                running[job] = begin(main, job)
        for job, process in list(running.items()):
            if process.poll() is not None:
                del running[job]
                note_end(job, process.returncode)
        time.sleep(0.05)


def begin(main: str, job: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "SLURM_JOB_ID": job.replace("_", "")}
    if "_" in job:
        environment["SLURM_ARRAY_JOB_ID"], environment["SLURM_ARRAY_TASK_ID"] = job.split("_")
    return subprocess.Popen(["bash", str(spool() / f"{main}.sh")], env=environment)


def note_end(job: str, code: int) -> None:
    requeued = spool() / f"{job}.requeued"
    if requeued.exists():
        requeued.unlink()
        set_state(job, "PENDING")
    elif state_of(job) == "RUNNING":
        set_state(job, "COMPLETED" if code == 0 else os.environ.get("FAKE_END", "FAILED"))


def this_job() -> str:
    element = os.environ.get("SLURM_ARRAY_TASK_ID")
    if element is None:
        return os.environ["SLURM_JOB_ID"]
    return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{element}"


def srun(*words: str) -> None:
    begin_of_command = words.index("-u") - 1
    (spool() / f"{this_job()}.pid").write_text(str(os.getpid()))
    output = words[words.index("--output") + 1]
    output = output.replace("%A_%a", this_job()).replace("%j", this_job()).replace("%t", "0")
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.execv(words[begin_of_command], words[begin_of_command:])


def squeue(*words: str) -> None:
    print("\n".join(job for job in jobs() if state_of(job) in LIVE))


def sacct(*words: str) -> None:
    print("JobID|State|NodeList")
    for job in jobs():
        print(f"{job}|{state_of(job)}|here")


def scontrol(verb: str, job: str) -> None:
    (spool() / f"{job}.requeued").touch()


def scancel(*words: str) -> None:
    number = next((word.partition("=")[2] for word in words if word.startswith("--signal=")), "")
    only_pending = "--state=PENDING" in words
    for job in [word for word in words if not word.startswith("--")]:
        if state_of(job) == "PENDING" and not number:
            set_state(job, "CANCELLED by 0")
        elif state_of(job) == "RUNNING" and number:
            os.kill(pid_of(job), signal.Signals[f"SIG{number}"])
        elif state_of(job) == "RUNNING" and not only_pending:
            end(job)


def pid_of(job: str) -> int:
    return int((spool() / f"{job}.pid").read_text())


def end(job: str) -> None:
    set_state(job, "CANCELLED by 0")
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid_of(job), number)
        except ProcessLookupError:
            return
        time.sleep(KILL_WAIT_SECONDS)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name != "daemon":
        with (spool() / "commands").open("a") as file:
            file.write(" ".join([name, *arguments]) + "\n")
    globals()[name](*arguments)
