"""The jobs of a sweep, each with its checked configuration."""

from __future__ import annotations

from dltrain.config.check import problems_of
from dltrain.config.compose import Composed, compose
from dltrain.config.grid import distinct, expand
from dltrain.config.overrides import raise_problems


def checked_jobs(overrides: list[str]) -> tuple[list[list[str]], list[Composed]]:
    """Return the overrides of each job, and their configurations.

    Raises:
        ConfigError: A configuration is wrong; it names the problems of all of them, each once.
    """
    jobs = expand(overrides)
    configurations = [compose(job) for job in jobs]
    problems: list[tuple[str, str]] = []
    for composed in configurations:
        problems += problems_of(composed)
    raise_problems(list(dict.fromkeys(problems)))
    return distinct(jobs, configurations)
