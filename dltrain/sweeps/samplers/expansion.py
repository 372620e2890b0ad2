"""The jobs of a sweep, each with its checked configuration."""

from __future__ import annotations

from dltrain.config.check import problems_of
from dltrain.config.compose import Composed, compose
from dltrain.config.composing.shared import pooled, sharing
from dltrain.config.grid import distinct, expand
from dltrain.config.overrides import Problem, raise_problems

MAX_WRONG_JOBS = 200  # after so many jobs with problems the others are not checked
MAX_PROBLEMS_SHOWN = 5  # of one key


def checked_jobs(overrides: list[str]) -> tuple[list[list[str]], list[Composed]]:
    """Return the overrides of each job, and their configurations.

    The configurations share equal parts, so nobody may change them.

    Raises:
        ConfigError: A configuration is wrong; it names the problems of all of them, each once.
        UsageError: There is no job, or there are more than a grid may have.
    """
    jobs = expand(overrides)
    configurations = []
    problems: list[Problem] = []
    wrong_jobs = 0
    with sharing():
        for number, job in enumerate(jobs, 1):
            composed = compose(job)
            own_problems = problems_of(composed)
            problems += own_problems
            wrong_jobs += bool(own_problems)
            configurations.append(pooled_parts(composed))
            if wrong_jobs == MAX_WRONG_JOBS and number < len(jobs):
                why = f"{len(jobs) - number:,} of {len(jobs):,} jobs are not checked yet"
                problems.append(("...", f"{why}: {wrong_jobs} jobs have problems"))
                break
    raise_problems(with_few_of_each_key(list(dict.fromkeys(problems))))
    return distinct(jobs, configurations)


def pooled_parts(composed: Composed) -> Composed:
    """Return `composed` with parts that other configurations of this sweep have too."""
    composed.config = {key: pooled(node) for key, node in composed.config.items()}
    composed.public = {key: pooled(node) for key, node in composed.public.items()}
    composed.choices = pooled(composed.choices)
    composed.interpolated = pooled(composed.interpolated)
    return composed


def with_few_of_each_key(problems: list[Problem]) -> list[Problem]:
    """Return the first problems of each key, and in place of the others how many there are."""
    by_key: dict[str, list[Problem]] = {}
    for problem in problems:
        by_key.setdefault(problem[0].partition("=")[0], []).append(problem)
    shown: list[Problem] = []
    for key, own in by_key.items():
        shown += own[:MAX_PROBLEMS_SHOWN]
        left = len(own) - MAX_PROBLEMS_SHOWN
        if left > 0:
            shown.append((f"{key}=...", f"{left:,} more problems of this key"))
    return shown
