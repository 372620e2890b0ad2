"""Malformed overrides and YAML files: the right exit code and a line or two a problem.

A table of families times payloads. The full form (DLTRAIN_FAULTS=full) gives every one, the quick
form a share of each family. A file of the user's (--config-dir) ends in exit 2, a run's own
config.yaml in exit 3.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from dltrain.config.compose import compose
from dltrain.runs.folder import CONFIG, MANIFEST

FULL = os.environ.get("DLTRAIN_FAULTS") == "full"
SEED = 6
SECONDS = 5.0  # beyond the import of torch
KEYS = [
    *(
        "seed",
        "name",
        "optimizer.lr",
        "trainer.epochs",
        "dataset.batch_size",
        "model.channels",
        "model.activation",
    ),
    *(
        "device.precision",
        "schedule.warmup",
        "loss.smoothing",
        "paths.output",
        "callbacks.progress.refresh",
    ),
]
DEEP = ["[" * n + "1" + "]" * n for n in (51, 2000)] + [
    "{a: " * n + "1" + "}" * n for n in (51, 2000)
]

# Family: what is wrong with each of its overrides, whatever the key.
OVERRIDES: dict[str, list[str]] = {
    "unclosed": [
        f"{key}={open_}"
        for key in KEYS
        for open_ in ("[1", "{a: 1", "'x", '"x', "${", "${a", "]", "1]")
    ],
    "no setting": [
        "",
        " ",
        "=",
        "==",
        "=1",
        "+",
        "++",
        "++=",
        "~",
        "~~x",
        "+~x=1",
        "@",
        "@=1",
        "/=1",
        ".=1",
        "a..b=1",
    ]
    + [f"{key}.=1" for key in KEYS]
    + [f".{key}=1" for key in KEYS]
    + [key for key in KEYS if "." in key],
    "control characters": [
        f"{key}=a{c}b"
        for key in KEYS[:4]
        for c in ("\n", "\0", "\x1b[31m", "\u2028", "\udcff", "\t")
    ],
    "deep": [
        f"{key}={value}" for key in ("model.channels", "optimizer.lr", "expect") for value in DEEP
    ],
    "huge": ["seed=" + "9" * n for n in (20, 30, 301, 5000)]
    + [
        "seed=-" + "9" * 301,
        "optimizer.lr=1e999",
        "optimizer.lr=-1e999",
        "trainer.epochs=1e5000",
        "seed=0x" + "f" * 400,
    ]
    + [f"{key}={'x' * 20_000}" for key in KEYS],
    "interpolations": [
        f"{key}={text}"
        for key in ("seed", "name", "optimizer.lr", "model.channels")
        for text in (
            "${nope}",
            "${oc.env:NO_SUCH}",
            "${nope:1}",
            "${..x}",
            "'${'",
            "'${}'",
            "${" + key + "}",
            "${hydra:x}",
        )
    ],
    "types": [
        f"{key}={value}"
        for key in KEYS
        if key != "name"
        for value in ("{zzqx: [1]}", "[[[zzqx]]]", "{}")
    ],
    "sweeps": [
        f"{key}={value}"
        for key in KEYS[:6]
        for value in ("1,2", "range(1,3)", "interval(0,1)", "choice(1,2)", "glob(*)")
    ],
    "functions": [
        f"{key}={f}"
        for key in KEYS[:3]
        for f in ("int(abc)", "json_str(", "float(x)", "nope(1)", "extend_list(1)")
    ],
    "choices": [
        f"{group}={value}"
        for group in ("model", "optimizer", "dataset")
        for value in ("1", "[a,b]", "../x", "''", "a/b")
    ],
    "hydra": [
        f"{p}hydra.{key}=x"
        for p in ("", "+", "++")
        for key in ("run.dir", "searchpath", "callbacks", "mode")
    ],
    "packages": [
        "model@x=cnn",
        "model@hydra=cnn",
        "model@_global_=cnn",
        "optimizer@a.b=sgd",
        "model@:x=cnn",
        "model@a:b=cnn",
    ],
}
G = b"# @package _global_\n"

# Family: contents of a file that is no configuration.
FILES: dict[str, list[bytes]] = {
    "tabs": [b"a:\n\tb: 1\n", b"\ta: 1\n", b"a: 1\n\tb: 2\n", b"a:\t- 1\n\t- 2\n"],
    "twice": [
        b"a: 1\na: 2\n",
        b"a: 1\n'a': 2\n",
        b"x: {b: 1, b: 2}\n",
        b"x:\n  - {c: 1, d: 1, c: 2}\n",
    ],
    "deep": [b"a: " + b"[" * n + b"]" * n for n in (51, 300, 2000)]
    + [b"a: " + b"{a: " * n + b"1" + b"}" * n for n in (51, 300, 2000)]
    + [b"".join(b" " * i + b"a:\n" for i in range(300)), b"- " * 2000 + b"1", b"? " * 200 + b"a"],
    "aliases": [
        b"a: &a [x]\n"
        + b"".join(b"%c: &%c [*%c, *%c]\n" % (c + 1, c + 1, c, c) for c in range(97, 117)),
        b"a: &a [*a]\n",
        b"a: &a {b: *a}\n",
        b"a: &a x\nb: [" + b"*a, " * 30 + b"]\n",
        b"a: *nope\n",
        b"a: &a {x: 1}\nb: &b {<<: *a}\n",
    ],
    "no mapping": [
        b"hello\n",
        b"- 1\n- 2\n",
        b"3\n",
        b"[a, b]\n",
        b"'text'\n",
        b"2001-01-01\n",
        b"true\n",
        b"!!null x\n",
    ],
    "not text": [
        b"a: \xff\n",
        b"\xff\xfea\x00",
        b"a: 1\nb: \xc3\x28\n",
        "a: 1\n".encode("utf-16"),
        os.urandom(64) + b"\xff",
    ],
    "characters": [b"a: 1\nb: \0\n", b"\0", b"a: \x1b[31m\n", b"a: \x7f\n", b"a: \xef\xbf\xbf\n"],
    "merges": [b"<<: 3\n", b"<<: [1]\n", b"<<: *x\n", b"a: {<<: text}\n"],
    "tags": [
        b"a: !!python/object/apply:os.system [touch canary]\n",
        b"!!python/object/new:os.system [touch canary]\n",
        b"a: !!python/name:os.system\n",
        b"a: !!binary aGk=\n",
        b"a: !!set {x, y}\n",
        b"a: !!omap [x: 1]\n",
        b"a: !mine 3\n",
        b"a: !<tag:x,2000:y> 3\n",
        b"!!python/module:os x: 1\n",
        b"a: !!timestamp 2001-01-01\n",
    ],
    "numbers": [
        b"a: " + b"9" * 400,
        b"a: " + b"9" * 5000,
        b"a: 0x" + b"f" * 5000,
        b"a: " + b"1:" * 3000 + b"1",
        b"a: 2001-99-99",
    ],
    "keys": [b"1: x\n", b"~: x\n", b"true: x\n", b"[a]: b\n", b"? {a: 1}\n: b\n", b"1.5: x\n"],
    "grammar": [
        b"a: [1\n",
        b"a: {\n",
        b"a: 'x\n",
        b"a: b: c\n",
        b"@x: 1\n",
        b"a: `x\n",
        b"%x\n",
        b"a: 1\n---\nb: 2\n",
        b"a: |x\n b\n",
        b"a: 1\n b: 2\n",
        b": :\n - :\n  x",
        b"a\n",
        b"%YAML 9.9\n---\na: 1\n",
        b"- a: 1\n b: 2\n",
        b"a: - b\n",
        b"&a &b c: 1\n",
    ],
    "large": [b"a: " + b"x" * 200_000, b"a: 1\n" * 30_000, b"# " + b"x" * 5_000_000],
}
# Contents that are YAML, but that no composition takes (--config-dir only).
COMPOSED: dict[str, list[bytes]] = {
    "defaults": [
        G + b"defaults: " + text + b"\n"
        for text in (b"3", b"x", b"{a: b}", b"[[a]]", b"[3]", b"[null]", b"[{a: 1}]")
    ]
    + [
        G + b"defaults:\n  - " + text + b"\n"
        for text in (b"evil", b"model: nope", b"../x", b"nope/x: y", b"{model: a, loss: b}")
    ],
    "interpolations": [
        G + b"name: '${'\n",
        G + b"name: ${nope}\n",
        G + b"seed: ${name}\n",
        G + b"name: ${name}\n",
    ],
    "wrong": [
        G + text
        for text in (
            b"model: 3\n",
            b"trainer: [1]\n",
            b"paths: null\n",
            b"nope: 1\n",
            b"optimizer: {lrr: 1}\n",
        )
    ]
    + [
        b"",
        b"name: x\n",
        b"# @package nope\nname: x\n",
        G + b"plugins: 3\n",
        G + b"plugins: ${nope}\n",
        G + b"seed: '?'\n",
    ],
}


@pytest.fixture(scope="module", autouse=True)
def torch_is_imported() -> None:
    import dltrain.commands.check
    import dltrain.commands.evaluate
    import dltrain.commands.resume  # noqa: F401 - what these take to import is not what is measured


def share(family: list[Any], of: int) -> list[Any]:
    """All of a family in the full form, else every so manieth."""
    return family if FULL else random.Random(SEED).sample(family, max(1, len(family) // of))


def complaint(words: list[str], code: int, dltrain, names: str = "") -> list[str]:
    """Return what is wrong with the answer to malformed input; nothing if it was refused."""
    before = sorted(str(path) for path in Path().rglob("*") if path.name != ".lock")
    start = time.perf_counter()
    outcome = dltrain(*words)
    seconds = time.perf_counter() - start
    lines = outcome.err.splitlines()
    wrong = [f"exit {outcome.code}"] if outcome.code != code else []
    wrong += ["no word"] if not lines else []
    wrong += [f"{len(lines)} lines"] if len(lines) > 3 else []
    wrong += [f"a line of {max(map(len, lines))}"] if lines and max(map(len, lines)) > 600 else []
    wrong += (
        ["a traceback"] if "Traceback" in outcome.err or "unexpected failure" in outcome.err else []
    )
    wrong += [f"{seconds:.1f} s"] if seconds > SECONDS else []
    wrong += [f"does not name {names}"] if names not in outcome.err else []
    wrong += (
        ["left files"]
        if sorted(str(p) for p in Path().rglob("*") if p.name != ".lock") != before
        else []
    )
    return (
        [f"{[word[:60] for word in words]}: {', '.join(wrong)}: {outcome.err[:300]}"]
        if wrong
        else []
    )


def test_a_malformed_override_is_refused(dltrain) -> None:
    chosen = {name: share(family, of=9) for name, family in OVERRIDES.items()}
    wrong = {
        name: [w for text in family for w in complaint(["check", "model=cnn", text], 2, dltrain)]
        for name, family in chosen.items()
    }
    tell("overrides", {name: len(family) for name, family in chosen.items()}, wrong)


def test_a_malformed_file_of_the_users_is_refused(dltrain) -> None:
    chosen = {
        f"{name}": share(family, of=5)
        for name, family in (FILES | {f"composed: {n}": f for n, f in COMPOSED.items()}).items()
    }
    wrong: dict[str, list[str]] = {}
    path = Path("own/experiment/evil.yaml")
    path.parent.mkdir(parents=True)
    for name, family in chosen.items():
        wrong[name] = []
        for content in family:
            path.write_bytes(content)
            names = "" if name.startswith("composed") else str(path)
            found = complaint(
                ["check", "--config-dir", "own", "experiment=evil"], 2, dltrain, names
            )
            wrong[name] += [f"{content[:60]!r}: {what}" for what in found]
    tell("files of --config-dir", {name: len(family) for name, family in chosen.items()}, wrong)


def test_a_malformed_configuration_of_a_run_is_refused(tmp_path: Path, dltrain) -> None:
    folder = tmp_path / "outputs" / "2026-01-01" / "00-00-00-000000_run"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}", encoding="utf-8")
    chosen = {name: share(family, of=4) for name, family in FILES.items()} | {
        "empty": [b"", b"# nothing\n", b"{}"]
    }
    wrong: dict[str, list[str]] = {}
    for name, family in chosen.items():
        wrong[name] = []
        for i, content in enumerate(family):
            (folder / CONFIG).write_bytes(content)
            verb = ("evaluate", "resume")[i % 2]
            found = complaint([verb, str(folder)], 3, dltrain, str(folder / CONFIG))
            wrong[name] += [f"{content[:60]!r}: {what}" for what in found]
    tell("config.yaml of a run", {name: len(family) for name, family in chosen.items()}, wrong)


def tell(what: str, counted: dict[str, int], wrong: dict[str, list[str]]) -> None:
    """A line for the report, and the failures."""
    families = ", ".join(f"{name} {count}" for name, count in counted.items())
    failed = [line for lines in wrong.values() for line in lines]
    print(f"malformed {what}: {sum(counted.values())} ({families}): {len(failed)} failed")
    assert failed == [], "\n".join(failed)


def test_what_is_no_plain_file_is_refused(
    tmp_path: Path, dltrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path("own/model")
    own.mkdir(parents=True)
    (own / "evil.yaml").mkdir()
    words = ["check", "--config-dir", "own", "model=evil"]
    assert complaint(words, 2, dltrain, "own/model/evil.yaml") == []
    (own / "evil.yaml").rmdir()
    (own / "evil.yaml").symlink_to("nowhere.yaml")
    assert complaint(words, 2, dltrain, "own/model/evil.yaml") == []
    (own / "evil.yaml").unlink()
    os.mkfifo(own / "evil.yaml")  # reading it would wait for ever
    assert complaint(words, 2, dltrain, "own/model/evil.yaml") == []
    (own / "evil.yaml").unlink()
    (own / "evil.yaml").write_text("_target_: dltrain.models.mlp.MLP\n")
    opened = Path.open

    def closed(self: Path, *given: object, **more: object) -> object:
        if self.name == "evil.yaml":
            raise PermissionError(13, "Permission denied")
        return opened(self, *given, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", closed)  # the tests may run as one who may read everything
    assert (
        complaint(words, 2, dltrain, "own/model/evil.yaml cannot be read: Permission denied") == []
    )


def test_there_are_enough_of_them() -> None:
    overrides = sum(map(len, OVERRIDES.values()))
    files = 2 * sum(map(len, FILES.values())) + sum(map(len, COMPOSED.values()))
    assert overrides >= 150
    assert overrides + files >= 300


def test_random_edits_of_good_input_end_in_a_line_or_in_success(dltrain) -> None:
    """Whatever is typed: exit 0 or 2, never an unexpected failure."""
    draw = random.Random(SEED)
    good = [
        "optimizer.lr=0.1",
        "model.channels=[8,16]",
        "regularization=[l2,dropout]",
        "name=${seed}",
        "expect={a: '>=1'}",
    ]
    letters = "[]{}(),'\"$\\=~+@:/#|&%!^*?<>. \té0"
    for _ in range(400 if FULL else 12):
        text = draw.choice(good)
        for _ in range(draw.randint(1, 3)):
            i = draw.randrange(len(text) + 1)
            text = draw.choice(
                [text[:i] + draw.choice(letters) + text[i:], text[:i] + text[i + 1 :]]
            )
        outcome = dltrain(
            "show", "seed", *([text] if text and not text.startswith("-") else ["seed=0"])
        )
        assert outcome.code in (0, 2), (text, outcome.err)
        assert len(outcome.err.splitlines()) <= 3, (text, outcome.err)


def test_a_whole_configuration_is_well_within_the_limits(tmp_path: Path) -> None:
    text = yaml.safe_dump(compose(["experiment=cnn_mnist_best", "callbacks=diagnosis"]).config)
    assert len(text) < 10_000
