"""A fast copy of an OmegaConf configuration.

copy.deepcopy takes ten times as long, nearly all of it for the metadata of the nodes. A test
compares both, for every version of OmegaConf that the tests run with.
"""

from __future__ import annotations

import copy
from typing import Any


def copied(node: Any, parent: Any = None) -> Any:
    """Return a deep copy of a node of OmegaConf, below `parent`."""
    clone = node.__class__.__new__(node.__class__)
    state = clone.__dict__
    state.update(node.__dict__)
    state["_metadata"] = _copied_metadata(state["_metadata"])
    state["_flags_cache"] = None  # filled when a flag is read
    state["_parent"] = parent
    content = state.get("_content")
    if isinstance(content, dict):
        state["_content"] = {key: copied(child, clone) for key, child in content.items()}
    elif isinstance(content, list):
        state["_content"] = [copied(child, clone) for child in content]
    return clone


def _copied_metadata(metadata: Any) -> Any:
    clone = object.__new__(metadata.__class__)
    state = clone.__dict__
    state.update(metadata.__dict__)
    state["flags"] = dict(state["flags"])
    state["resolver_cache"] = copy.copy(state["resolver_cache"])
    return clone
