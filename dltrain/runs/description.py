"""The description of a run's data in its manifest; long values lie in files of their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dltrain.errors import InputError
from dltrain.files import to_json

MAX_INLINE_LENGTH = 1000  # characters of a text, or items of a list, in the manifest itself
LIST_SUFFIX = ".list.json"  # of the file of a list; that of a text ends in .json


def split_large_values(description: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the description for the manifest, and the files of its long values by name."""
    short = dict(description)
    files: dict[str, bytes] = {}
    for name, value in description.items():
        if not isinstance(value, str | list) or len(value) <= MAX_INLINE_LENGTH:
            continue
        if isinstance(value, str):
            file_name = f"{name}.json"
            content = value.encode()
        else:
            file_name = f"{name}{LIST_SUFFIX}"
            content = to_json(value, ensure_ascii=False).encode()
        files[file_name] = content
        short[name] = {"file": file_name, "sha256": hashlib.sha256(content).hexdigest()}
    return short, files


def with_large_values(description: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the whole description, with the values that lie in files of the run's folder."""
    whole = {}
    for name, value in description.items():
        whole[name] = _read_value(folder, value) if _is_reference(value) else value
    return whole


def _is_reference(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"file", "sha256"}:
        return False
    return all(isinstance(part, str) for part in value.values())


def _read_value(folder: Path, reference: dict[str, str]) -> Any:
    """Return the value in the file that a reference names, after its checksum was compared."""
    path = folder / Path(reference["file"]).name
    try:
        content = path.read_bytes()
    except OSError as e:
        raise InputError(
            f"{path} cannot be read ({e.strerror}); it holds a part of the run's data description"
        ) from e
    if hashlib.sha256(content).hexdigest() != reference["sha256"]:
        raise InputError(f"{path} is not what the run wrote: its checksum is another")
    if path.name.endswith(LIST_SUFFIX):
        return json.loads(content)
    return content.decode()
