"""The devices whose values are there at once, which decides between two ways to leave out padding.

A GPU computes while the CPU issues the next operations. To read a value, or to select by a mask
(the CPU has to learn how many are selected), is to wait until it has caught up. Code that is
faster with fewer numbers selects them on the CPU only; elsewhere it computes all of them, with
shapes that do not depend on values.
"""

from __future__ import annotations

import torch


def is_immediate(device: torch.device) -> bool:
    """Return whether values on a device can be read without waiting for it: it is the CPU."""
    return device.type == "cpu"
