"""Targets that would run, read, write or delete: none is executed, whatever it comes from.

Execution is seen twice: by Python's audit events, and by a file that most targets would leave. The
full form (DLTRAIN_FAULTS=full) gives every target to every place of a configuration; the quick one
gives each target to the policy, and a share of them to the places.
"""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from harm import CANARY, FULL, defaults, harm_of, tripwire

from dltrain.config.policy import PACKAGES, locate
from dltrain.errors import UsageError
from dltrain.runs.folder import CONFIG

pytestmark = pytest.mark.usefixtures("everything_is_imported")

TOUCH = {"command": f"touch {CANARY}"}

# A target, and the arguments with which it would do harm.
HARMFUL: list[tuple[str, dict[str, Any]]] = [
    # read code from a file, or out of the net
    ("torch.load", {"f": "weights.pt", "weights_only": False}),
    ("torch.serialization.load", {"f": "weights.pt"}),
    ("torch.nn.modules.module.torch.load", {"f": "weights.pt"}),
    ("torch.optim.optimizer.torch.load", {"f": "weights.pt"}),
    ("torchvision.ops.boxes.torch.load", {"f": "weights.pt"}),
    ("dltrain.models.images.cnn.torch.load", {"f": "weights.pt"}),
    ("torch.hub.load", {"repo_or_dir": ".", "model": "x", "source": "local"}),
    ("torch.hub.load_state_dict_from_url", {"url": "http://localhost:9/x"}),
    ("torch.hub.download_url_to_file", {"url": "http://localhost:9/x", "dst": CANARY}),
    ("torch.utils.model_zoo.load_url", {"url": "http://localhost:9/x"}),
    ("torch.jit.load", {"f": "weights.pt"}),
    ("torch.jit.ScriptModule", {}),
    ("torch.export.load", {"f": "model.pt2"}),
    ("torch.package.PackageImporter", {"file_or_buffer": "weights.pt"}),
    ("torch.utils.cpp_extension.load", {"name": "x", "sources": ["x.cpp"]}),
    ("torch.ops.load_library", {"path": "x.so"}),
    ("torch.classes.load_library", {"path": "x.so"}),
    ("torch.classes.some.thing", {}),
    ("numpy.load", {"file": "x.npy", "allow_pickle": True}),
    ("pickle.load", {}),
    ("yaml.unsafe_load", {"stream": f"!!python/object/apply:os.system ['touch {CANARY}']"}),
    ("joblib.load", {"filename": "x"}),
    ("ctypes.CDLL", {"name": "x.so"}),
    ("runpy.run_path", {"path_name": "x.py"}),
    ("importlib.import_module", {"name": "antigravity"}),
    # run a command or a text
    ("os.system", TOUCH),
    ("posix.system", TOUCH),
    ("torch.os.system", TOUCH),
    ("torch.nn.modules.module.torch.os.system", TOUCH),
    ("dltrain.cli.os.system", TOUCH),
    ("os._exit", {"status": 0}),
    ("os.popen", {"cmd": f"touch {CANARY}"}),
    ("subprocess.Popen", {"args": ["touch", CANARY]}),
    ("subprocess.check_output", {"args": ["touch", CANARY]}),
    ("dltrain.runs.initial_files.subprocess.run", {"args": ["touch", CANARY]}),
    ("setuptools._distutils.spawn.spawn", {"cmd": ["touch", CANARY]}),
    ("setuptools.distutils.spawn.spawn", {"cmd": ["touch", CANARY]}),
    ("distutils.spawn.spawn", {"cmd": ["touch", CANARY]}),
    ("pty.spawn", {"argv": ["touch", CANARY]}),
    ("builtins.eval", {"source": f"open('{CANARY}', 'w')"}),
    ("builtins.exec", {"source": f"open('{CANARY}', 'w')"}),
    ("builtins.__import__", {"name": "antigravity"}),
    ("timeit.timeit", {"stmt": f"open('{CANARY}', 'w')", "number": 1}),
    ("torch.multiprocessing.spawn", {"fn": "x"}),
    ("torch.fx.GraphModule", {"root": {}, "graph": "x"}),
    ("torch.compile", {}),
    ("functools.partial", {}),
    ("hydra.utils.instantiate", {"config": {"_target_": "os.system", **TOUCH}}),
    ("hydra.utils.call", {"config": {"_target_": "os.system", **TOUCH}}),
    ("torchvision.transforms.Lambda", {"lambd": "x"}),
    ("torchvision.transforms.v2.Lambda", {"lambd": "x"}),
    # write or delete
    ("builtins.open", {"file": CANARY, "mode": "w"}),
    ("pathlib.Path.unlink", {"self": "victim"}),
    ("pathlib.Path.write_text", {"self": CANARY, "data": "x"}),
    ("os.remove", {"path": "victim"}),
    ("shutil.rmtree", {"path": "."}),
    ("shutil.unpack_archive", {"filename": "x.tar"}),
    ("logging.FileHandler", {"filename": CANARY}),
    ("logging.config.dictConfig", {"config": {"version": 1}}),
    ("omegaconf.OmegaConf.save", {"config": {}, "f": CANARY}),
    ("urllib.request.urlretrieve", {"url": "http://localhost:9/x", "filename": CANARY}),
    ("socket.create_connection", {"address": ["localhost", 9]}),
    ("torch.save", {"obj": 1, "f": CANARY}),
    ("torch.from_file", {"filename": CANARY, "shared": True, "size": 1}),
    ("torch.utils.tensorboard.SummaryWriter", {"log_dir": CANARY}),
    ("dltrain.callbacks.tensorboard.SummaryWriter", {"log_dir": CANARY}),
    ("torch.utils.data.DataLoader", {"dataset": [1]}),
    ("torch.utils.data.datapipes.iter.FileOpener", {"source_datapipe": ["victim"]}),
    ("torch.distributed.nn.RemoteModule", {"remote_device": "worker0", "module_cls": "x"}),
    ("torch.nn.parallel.DistributedDataParallel", {"module": "x"}),
    ("torchvision.datasets.MNIST", {"root": CANARY, "download": True}),
    ("torchvision.datasets.ImageFolder", {"root": "."}),
    ("torchvision.datasets.utils.download_url", {"url": "http://localhost:9/x", "root": CANARY}),
    ("torchvision.io.write_file", {"filename": CANARY}),
    ("torchvision.utils.save_image", {"fp": CANARY}),
    ("torchvision.models.resnet18", {"weights": "DEFAULT"}),
    # dltrain's own that are not there to be chosen
    (
        "dltrain.data.io.download.fetch",
        {"mirrors": ["http://localhost:9/"], "files": {"x": "0"}, "folder": CANARY},
    ),
    ("dltrain.data.io.archive.unpack", {"archive": "x.tar", "folder": CANARY}),
    ("dltrain.runs.folder.RunFolder", {"folder": CANARY}),
    ("dltrain.runs.folder.RunFolder.create", {"root": CANARY, "label": "x"}),
    ("dltrain.runs.folder.RunFolder.write_json", {}),
    ("dltrain.runs.checkpoint.Store", {"folder": CANARY}),
    ("dltrain.cli.main", {"argv": ["debug=smoke"]}),
    ("dltrain.commands.train.train", {}),
    ("dltrain.experiment.instantiate.instantiate", {}),
    ("dltrain.config.policy.locate", {"target": "os.system"}),
    # invalid names, and names that look like others
    ("dltrain.models.images.cnn.CNN.__init__.__globals__", {}),
    ("dltrain.models.images.cnn.__builtins__.eval", {"source": "1"}),
    ("torch.nn.Module.__subclasses__", {}),
    ("torch._C._jit_init", {}),
    ("torch.nn.ReLU.forward", {}),
    ("t\u043erch.nn.ReLU", {}),  # a Cyrillic o
    ("\uff4f\uff53.system", TOUCH),  # full width
    ("torch.\uff4e\uff4e.ReLU", {}),
    ("dltrain\u200b.models.cnn.CNN", {}),  # a space of no width
    (".os.system", TOUCH),
    ("..os.system", TOUCH),
    (" os.system", TOUCH),
    ("os.system ", TOUCH),
    ("os:system", TOUCH),
    ("os/system", TOUCH),
    ("torch..load", {}),
    ("torch.nn.ReLU()", {}),
    ("dltrain.models.images.cnn.CNN;os.system", TOUCH),
    ("${oc.env:HOME}", {}),
    ("", {}),
    ("torch", {}),
    ("torch.nn", {}),
    ("x" * 5000, {}),
    ("torch." * 500 + "load", {}),
]
PLACES = [
    "file",
    "override",
    "evaluate",
    "resume",
    "predict",
    "nested",
    "list",
    "mapping",
    "args",
    "callback",
]


def as_override(value: Any) -> str:
    """A value as Hydra's grammar writes it."""
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{name}: {as_override(child)}" for name, child in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(as_override, value)) + "]"
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else str(value).lower()


def command(place: str, node: dict[str, Any], run: Path) -> list[str]:
    """Return the words to type so that `node` comes from `place`; files are written."""
    (run / CONFIG).write_text(yaml.safe_dump(defaults() | {"model": node}), encoding="utf-8")
    match place:
        case "file":
            Path("own/model").mkdir(parents=True, exist_ok=True)
            Path("own/model/evil.yaml").write_text(yaml.safe_dump(node), encoding="utf-8")
            return ["check", "--config-dir", "own", "model=evil"]
        case "override":
            return ["check", f"model={as_override(node)}"]
        case "evaluate" | "predict" | "resume":
            return [place, str(run), *(["victim"] if place == "predict" else [])]
        case "nested":
            return [
                "check",
                "dataset.source={_target_: dltrain.data.images.digits.Digits, "
                f"x: {as_override(node)}}}",
            ]
        case "list":
            return ["check", f"model.channels=[16, [{as_override(node)}]]"]
        case "mapping":
            return ["check", f"expect={{x: {{y: [{as_override(node)}]}}}}"]
        case "args":
            args = f"_args_: [{as_override(node)}]"
            return [
                "check",
                f"model={{_target_: dltrain.models.mlp.MLP, {args}, _recursive_: true}}",
            ]
        case _:
            return ["check", f"callbacks.x={as_override(node)}"]


def in_place(place: str, target: str, arguments: dict[str, Any], run: Path, dltrain) -> list[str]:
    """Return what is wrong with the answer to a harmful target; nothing if it was refused."""
    words = command(place, {"_target_": target, **arguments}, run)
    return [f"{place}, {target[:60]}: {what}" for what in harm_of(words, dltrain, lines=6)]


def test_there_are_enough_of_them() -> None:
    assert len({target for target, _ in HARMFUL}) >= 100


@pytest.mark.parametrize(("target", "arguments"), HARMFUL, ids=lambda value: str(value)[:40])
def test_the_policy_refuses_it_and_does_nothing(
    target: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    before = set(sys.modules)
    with tripwire() as seen, pytest.raises(UsageError) as refused:
        locate(target)
    assert seen == []
    assert len(str(refused.value).splitlines()) == 1
    if target.partition(".")[0] not in PACKAGES:
        assert set(sys.modules) == before
    if target.partition(".")[0] in sys.stdlib_module_names:
        with pytest.raises(UsageError):
            locate(target, [target.partition(".")[0]])


def test_no_place_lets_one_through(run: Path, dltrain) -> None:
    """0 of them are executed, in any place."""
    pairs = [(place, *harmful) for harmful in HARMFUL for place in PLACES]
    if not FULL:
        pairs = random.Random(4).sample(pairs, 10) + [
            (place, "os.system", TOUCH) for place in PLACES
        ]
    wrong = [
        what
        for place, target, arguments in pairs
        for what in in_place(place, target, arguments, run, dltrain)
    ]
    targets = len({target for _, target, _ in pairs})
    print(
        f"hostile targets: {targets} targets x {len(PLACES)} places, {len(pairs)} commands: "
        f"{len(wrong)} failed"
    )
    assert wrong == []
    assert Path("victim").exists()
    assert not Path(CANARY).exists()


def test_without_the_policy_one_is_executed_and_seen(
    run: Path, monkeypatch: pytest.MonkeyPatch, dltrain
) -> None:
    """The signs that the tests above look for appear when nothing protects."""

    def trusting(target: str, plugins: Any = ()) -> Any:
        module, _, name = target.rpartition(".")
        return getattr(importlib.import_module(module), name)

    dltrain("check", "model=mlp")  # imports every module that looks targets up
    for name, module in list(sys.modules.items()):
        if name.startswith("dltrain.") and vars(module).get("locate") is locate:
            monkeypatch.setattr(module, "locate", trusting)
    wrong = in_place("override", "os.system", TOUCH, run, dltrain)
    assert any("did os.system" in what for what in wrong), wrong
    assert Path(CANARY).exists()
