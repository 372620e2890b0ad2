"""One arena of malloc for all threads, so that memory that one has freed serves the next one."""

from __future__ import annotations

import ctypes
import os

from dltrain.host import current_host

M_ARENA_MAX = -8  # a parameter of mallopt, from glibc's malloc.h


def share_arena() -> None:
    """Let all threads that are started from now on use malloc's main arena, where it can be set.

    glibc gives threads arenas of their own, which return large tensors to the system at once. Then
    every step would request them again, page by page, each filled with zeros first: thousands of
    page faults for a step of stacked networks. The setting stays until the process ends.
    """
    if os.name != "posix" or not current_host().keeps_memory:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
