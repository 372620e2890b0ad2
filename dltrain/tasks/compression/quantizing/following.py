"""The order of a network's layers: which layer alone reads the output of another."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise
from typing import Any

from torch import fx, nn


class LayerTracer(fx.Tracer):
    """Traces a network down to its layers: modules without children, and those of torch."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one call in the graph."""
        has_children = any(True for _ in m.children())
        return not has_children or super().is_leaf_module(m, module_qualified_name)


def only_readers(model: nn.Module) -> dict[str, str]:
    """Return for each layer the layer that alone reads its output, by their names.

    Both are called once in a pass, and the second is called with nothing else. A network whose
    Python code cannot be traced is looked at through its `nn.Sequential` parts alone.
    """
    try:
        graph = LayerTracer().trace(copy.deepcopy(model).eval())  # a trace may change attributes
    except Exception:  # whatever a network's own code raises when its values are symbols
        return _neighbors_in_sequences(model)
    nodes = [node for node in graph.nodes if node.op == "call_module"]
    calls = Counter(str(node.target) for node in nodes)
    readers = {}
    for node in nodes:
        reader = _only_user(node)
        if reader is not None and calls[str(node.target)] == calls[str(reader.target)] == 1:
            readers[str(node.target)] = str(reader.target)
    return readers


def _only_user(node: Any) -> Any:
    """Return the call of a layer that alone uses a node of a graph; None where others do too."""
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module":
        return None
    is_alone = users[0].args == (node,) and not users[0].kwargs
    return users[0] if is_alone else None


def _neighbors_in_sequences(model: nn.Module) -> dict[str, str]:
    """Return the neighbors in each `nn.Sequential`, leaving out layers that occur twice."""
    uses = Counter(id(child) for module in model.modules() for child in module.children())
    readers = {}
    for name, module in model.named_modules():
        if type(module) is not nn.Sequential:
            continue
        for (first, layer), (second, reader) in pairwise(module.named_children()):
            if uses[id(layer)] == uses[id(reader)] == 1:
                readers[joined(name, first)] = joined(name, second)
    return readers


def joined(parent: str, child: str) -> str:
    """Return the name of a child of the module `parent`, which is "" for the network itself."""
    return f"{parent}.{child}" if parent else child


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put `layer` into the place of the layer of that name."""
    model.set_submodule(name, layer)
