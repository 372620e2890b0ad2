"""Compare two checkouts of dltrain: the same commands must give the same results, bit for bit.

    python -m benchmarks.same_results BEFORE AFTER [CASE...] [--keep FOLDER] [--work FOLDER]
    python -m benchmarks.same_results --list

BEFORE and AFTER are folders with a checkout each. Every case of `same_results_cases.py` is run with
both, offline, by the Python that runs this script and on one thread. Compared are, bit for bit:

* exit codes, and the output of --json without times and paths
* metrics.jsonl of every run
* the weights and the optimizer's state of the last and the best checkpoint
* predictions, word vectors, images and episodes

One table is printed; the exit code is 1 if anything differs. With DLTRAIN_DATA, real data sets are
used as well.

`--keep FOLDER` stores the results of a clean commit there, so that they are computed once on this
machine. `--work FOLDER` keeps the run folders, to look into them after a difference.

After a change to a few families, name the cases that train them:

    python -m benchmarks.same_results BEFORE . coco voc yolo --keep FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from PIL import Image, ImageSequence

from benchmarks.same_results_cases import CASES, Case, Command
from benchmarks.small_files import write_all

WORKER = Path(__file__).with_name("same_results_worker.py")
DATA_FROM_A_CASE = "../../data"  # relative, as predictions name their inputs
NOT_COMPARED = frozenset(  # parts of an outcome that hold times and paths
    {
        "run",
        "out",
        "seconds",
        "samples_per_second",
        "sweep",
        "folder",
        "pictures",
        "checkpoint",
        "explained",
    }
)
TEXT_SUFFIXES = (".csv", ".jsonl", ".vec")
MAX_SHOWN_DIFFERENCES = 3
MAX_SHOWN_CHARS = 160
Items = dict[str, Any]  # by name of what is compared: "run 1, metrics.jsonl"


@dataclass(frozen=True)
class Checkout:
    """A folder with dltrain in it.

    `key` is the name under which its results are stored; None: they are not.
    """

    folder: Path
    side: str
    help_text: str
    key: str | None


def open_checkout(folder: Path, side: str) -> Checkout:
    """Return the checkout in `folder`; SystemExit if there is none."""
    if not (folder / "dltrain" / "__init__.py").is_file():
        raise SystemExit(f"{folder} is not a checkout of dltrain: it has no dltrain/__init__.py")
    arguments = [sys.executable, "-P", "-m", "dltrain", "--help"]
    process = subprocess.run(
        arguments, env=environment(folder), capture_output=True, text=True, check=False
    )
    return Checkout(folder.resolve(), side, process.stdout, commit_key(folder))


def commit_key(folder: Path) -> str | None:
    """Return a name for the commit on this machine, or None if there are uncommitted changes."""

    def git(*arguments: str) -> str | None:
        process = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
        return process.stdout.strip() if process.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    if commit is None or changes != "":
        return None
    return f"{commit[:12]}-{digest(machine().encode())[:12]}"


def machine() -> str:
    """Return what decides how floating-point numbers are rounded here."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    return f"{cpu}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def environment(folder: Path) -> dict[str, str]:
    """Return the variables of a process: its own code, one thread, none of dltrain's."""
    variables = {
        key: value for key, value in os.environ.items() if not key.startswith(("DLTRAIN_", "OMP_"))
    }
    return variables | {
        "PYTHONPATH": str(folder.resolve()),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }


def digest(content: bytes) -> str:
    """Return a short hash."""
    return hashlib.sha256(content).hexdigest()[:16]


def filled(words: tuple[str, ...]) -> list[str]:
    """Return words with the folders of data in them."""
    real = str(Path(os.environ.get("DLTRAIN_DATA", "data")).resolve())
    return [
        word.replace("{data}", DATA_FROM_A_CASE).replace("{real}", real) for word in words if word
    ]


def run_cases(checkout: Checkout, names: list[str], work: Path, number: int) -> None:
    """Run the named cases one after another in a process of their own."""
    jobs = []
    for name in names:
        commands = [
            {
                "words": filled(command.spelled(checkout.help_text)),
                "stop_at_line": command.stop_at_line,
            }
            for command in CASES[name].commands
        ]
        folder = str(work / checkout.side / name)
        jobs.append({"name": f"{checkout.side}: {name}", "folder": folder, "commands": commands})
    job_file = work / f"{checkout.side}-{number}.json"
    job_file.write_text(json.dumps(jobs), encoding="utf-8")
    arguments = [sys.executable, "-P", str(WORKER), str(job_file)]
    subprocess.run(arguments, env=environment(checkout.folder), check=False)


def collect(case: Case, folder: Path) -> Items:
    """Return everything of a case that is compared."""
    items: Items = {}
    code_file = folder / "codes.json"
    codes = json.loads(code_file.read_text()) if code_file.exists() else []
    for number, command in enumerate(case.commands, 1):
        code = codes[number - 1] if number <= len(codes) else None
        items |= outcome_of(command, number, code, folder)
    manifests = sorted((folder / "outputs").rglob("manifest.json"))
    runs = [path.parent for path in manifests if (path.parent / "config.yaml").exists()]
    for number, run in enumerate(runs, 1):
        items |= results_of_run(f"run {number}", run)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] != "outputs":
            items |= contents_of_file(f"file {name}", path)
    return items


def outcome_of(command: Command, number: int, code: int | None, folder: Path) -> Items:
    """Return a command's exit code and what it printed for --json."""
    name = f"command {number}"
    if code != command.code:
        errors = folder / f"command-{number}.err"
        last_lines = (
            errors.read_text(errors="replace").strip().splitlines()[-2:] if errors.exists() else []
        )
        failure = f"exit code {code} instead of {command.code}: {' '.join(last_lines)}"
        return {f"{name}, failure": failure}
    if code:
        return {}
    lines = (folder / f"command-{number}.txt").read_text(errors="replace").splitlines()
    return {f"{name}, outcome": without_times_and_paths(json.loads(lines[-1]))}


def without_times_and_paths(value: Any) -> Any:
    """Return an outcome without what differs between two equal runs."""
    if isinstance(value, dict):
        return {
            key: without_times_and_paths(part)
            for key, part in value.items()
            if key not in NOT_COMPARED
        }
    if isinstance(value, list):
        return [without_times_and_paths(part) for part in value]
    return value


def results_of_run(name: str, run: Path) -> Items:
    """Return the metrics and final states of a run."""
    items: Items = {}
    metrics = run / "metrics.jsonl"
    if metrics.exists():
        items[f"{name}, metrics.jsonl"] = metrics.read_text(encoding="utf-8").splitlines()
    for pointer in ("last", "best"):
        checkpoint = pointed_checkpoint(run / "checkpoints", pointer)
        if checkpoint is None:
            continue
        weights: dict[str, str] = {}
        with safetensors.safe_open(checkpoint / "task.safetensors", "pt") as file:
            for key in file.keys():  # noqa: SIM118  # it is no dict
                weights[key] = tensor_digest(file.get_tensor(key))
        items[f"{name}, {pointer} weights"] = weights
        state = torch.load(checkpoint / "state.pt", weights_only=True)
        items[f"{name}, {pointer} state"] = flat_digests(
            {key: state[key] for key in ("step", "epoch", "optims")}
        )
    return items


def pointed_checkpoint(checkpoints: Path, pointer: str) -> Path | None:
    """Return the folder that `last` or `best` names: a link to it, or a file with its name."""
    link = checkpoints / pointer
    if link.is_dir():
        return link
    if link.is_file():
        return checkpoints / link.read_text().strip()
    return None


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return a hash of shape, type and every bit of a tensor."""
    values = (
        tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else tensor
    )
    return digest(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + values.numpy().tobytes())


def flat_digests(value: Any, prefix: str = "") -> dict[str, str]:
    """Return {path: text or hash} of nested dicts and lists that hold tensors and numbers."""
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list | tuple):
        parts = list(enumerate(value))
    elif isinstance(value, torch.Tensor):
        return {prefix: tensor_digest(value)}
    else:
        return {prefix: repr(value)}
    digests: dict[str, str] = {}
    for key, part in parts:
        digests |= flat_digests(part, f"{prefix}/{key}")
    return digests


def contents_of_file(name: str, path: Path) -> Items:
    """Return the lines of a text file or a hash of an image's pixels; nothing of other files."""
    if path.suffix in TEXT_SUFFIXES:
        return {name: path.read_text(encoding="utf-8").splitlines()}
    if path.suffix in (".png", ".gif"):
        with Image.open(path) as image:
            frames = [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(image)]
        return {name: [digest(frame) for frame in frames]}
    return {}


def differences(before: Any, after: Any, where: str) -> list[str]:
    """Return a line for each place in which two results differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        lines = []
        for key in keys:
            if key not in after:
                lines.append(f"{where}{key}: missing after")
            elif key not in before:
                lines.append(f"{where}{key}: only after ({shortened(after[key])})")
            else:
                lines += differences(before[key], after[key], f"{where}{key}: ")
        return lines
    if isinstance(before, list) and isinstance(after, list):
        lines = (
            []
            if len(before) == len(after)
            else [f"{where}{len(before)} lines before, {len(after)} after"]
        )
        for number, (old, new) in enumerate(zip(before, after, strict=False), 1):
            lines += differences(old, new, f"{where}{number}: ")
        return lines
    if before == after or repr(before) == repr(after):  # nan is nan
        return []
    return [f"{where}{shortened(before)} != {shortened(after)}"]


def shortened(value: Any) -> str:
    """Return a value as text, its end cut off where it is long."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def stored_path(keep: Path | None, checkout: Checkout, name: str) -> Path | None:
    """Return the file for the results of a case, or None where nothing is stored."""
    if keep is None or checkout.key is None:
        return None
    commands = [
        (command.spelled(checkout.help_text), command.stop_at_line)
        for command in CASES[name].commands
    ]
    return keep / checkout.key / f"{name}-{digest(repr(commands).encode())}.json"


def folder_digest(folder: Path) -> str:
    """Return a hash of the names and contents of all files below a folder."""
    hashes = [
        f"{path.relative_to(folder)} {digest(path.read_bytes())}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return digest("\n".join(hashes).encode())


def results(
    checkouts: list[Checkout], names: list[str], work: Path, keep: Path | None, jobs: int
) -> list[dict[str, Items]]:
    """Return the items of every case for each checkout; those that are stored are not run again."""
    loaded: list[dict[str, Items]] = []
    chunks: list[tuple[Checkout, list[str], int]] = []
    for checkout in checkouts:
        stored: dict[str, Items] = {}
        for name in names:
            path = stored_path(keep, checkout, name)
            if path is not None and path.exists():
                stored[name] = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in names if name not in stored]
        for number in range(jobs):
            if missing[number::jobs]:
                chunks.append((checkout, missing[number::jobs], number))
        loaded.append(stored)
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda chunk: run_cases(chunk[0], chunk[1], work, chunk[2]), chunks))
    for checkout, stored in zip(checkouts, loaded, strict=True):
        for name in names:
            if name in stored:
                continue
            stored[name] = json.loads(json.dumps(collect(CASES[name], work / checkout.side / name)))
            path = stored_path(keep, checkout, name)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(stored[name]), encoding="utf-8")
    return loaded


def report(names: list[str], before: dict[str, Items], after: dict[str, Items]) -> int:
    """Print the table; return how many cases differ or fail."""
    width = max(map(len, names))
    bad = 0
    for name in names:
        lines = differences(before[name], after[name], "")
        failures = [
            f"{key}: {text}" for key, text in after[name].items() if key.endswith("failure")
        ]
        if not lines and not failures:
            print(f"{name:{width}}  same  ({len(after[name])} results)")
            continue
        bad += 1
        print(f"{name:{width}}  {'DIFFERENT' if lines else 'FAILS on both sides'}")
        shown = lines or failures
        for line in shown[:MAX_SHOWN_DIFFERENCES]:
            print(f"{'':{width}}    {line}")
        if len(shown) > MAX_SHOWN_DIFFERENCES:
            print(f"{'':{width}}    and {len(shown) - MAX_SHOWN_DIFFERENCES} more")
    print(f"{len(names) - bad} of {len(names)} cases are the same")
    return bad


def available(names: list[str]) -> list[str]:
    """Return the named cases, or all; those of real data sets that are not here are left out."""
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise SystemExit(f"unknown case {', '.join(unknown)}; --list shows all")
    root = Path(os.environ.get("DLTRAIN_DATA", "data"))
    chosen = names or list(CASES)
    return [
        name for name in chosen if all((root / folder).exists() for folder in CASES[name].needs)
    ]


def main() -> None:
    """Compare the two checkouts that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", nargs="?", type=Path)
    parser.add_argument("after", nargs="?", type=Path)
    parser.add_argument("names", nargs="*", metavar="CASE")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(available([])))
        return
    if arguments.after is None:
        parser.error("name two folders: BEFORE AFTER")
    names = available(arguments.names)
    checkouts = [open_checkout(arguments.before, "before"), open_checkout(arguments.after, "after")]
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        write_all(work / "data")
        keep = arguments.keep / folder_digest(work / "data") if arguments.keep else None
        before, after = results(checkouts, names, work, keep, arguments.jobs)
    raise SystemExit(1 if report(names, before, after) else 0)


if __name__ == "__main__":
    main()
