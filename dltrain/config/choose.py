"""What is composed of the choices on a command line, before single values are set."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

from dltrain.config.defaults_list import compose_files
from dltrain.config.groups import OVERLAYS, conf_dir, own_dir
from dltrain.errors import UsageError, first_line
from dltrain.shell import in_quotes

VERSION_BASE = "1.3"
GLOBAL = "the first line of such a file has to be # @package _global_"
KEPT = 64  # configurations
_kept: dict[str, Any] = {}
PER_RUN = (
    "overrides",
    "runtime",
    "searchpath",
)  # what of Hydra's own settings differs from run to run


def choose(choices: list[Any]) -> tuple[Any, dict[str, Any]]:
    """The configuration of Hydra's overrides GROUP=OPTION, as a DictConfig of the caller's own, and {group: option}.

    UsageError if it cannot be composed. A folder of the user's may hold what only Hydra understands; dltrain's own files are
    composed without it, many times as fast.
    """
    if own_dir.get():
        return by_hydra(
            [override.input_line.lstrip("+") for override in choices]
        )  # + and ++ choose like GROUP=OPTION
    files, chosen = compose_files({override.key_or_group: override.value() for override in choices})
    return _made(files), {
        group: choice for group, choice in chosen.items() if not isinstance(choice, list)
    }


def _made(files: dict[str, Any]) -> Any:
    """A DictConfig without room for new keys; copies of those made last take half the time."""
    from omegaconf import OmegaConf

    key = repr(files)
    if key not in _kept:
        config = OmegaConf.create(files)
        OmegaConf.set_struct(config, True)
        if len(_kept) == KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[key] = config
    return copy.deepcopy(_kept[key])


def by_hydra(overrides: list[str]) -> tuple[Any, dict[str, Any]]:
    """The same of overrides as they are typed, by Hydra: also of what only a folder of the user's may hold."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    if own := own_dir.get():
        overrides = [f"hydra.searchpath=[{in_quotes(f'file://{own}')}]", *overrides]
    try:
        with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="dltrain"):
            config = hydra_compose("config", overrides=overrides, return_hydra_config=True)
    except RecursionError as e:
        raise UsageError(
            f"the configuration cannot be composed: a file of {own} chooses itself in its defaults"
        ) from e
    except (HydraException, OmegaConfBaseException) as e:
        first = first_line(e)
        more = f" ({GLOBAL})" if any(f"@{overlay}." in first for overlay in OVERLAYS) else ""
        raise UsageError(f"the configuration cannot be composed: {first}{more}") from e
    choices = dict(OmegaConf.to_container(config.hydra.runtime.choices))  # type: ignore[arg-type]
    if own:
        _refuse_hydra(OmegaConf.to_container(config.hydra), own)  # type: ignore[arg-type]
    OmegaConf.set_readonly(config, False)
    with open_dict(config):
        del config["hydra"]
    return config, {str(k): v for k, v in choices.items() if not str(k).startswith("hydra/")}


def _refuse_hydra(settings: dict[str, Any], own: Path) -> None:
    """UsageError if a file of the user's, in the folder `own`, sets what Hydra would act on: callbacks, logging, folders."""
    without = _hydra_alone()
    settings["job"]["override_dirname"] = without["job"][
        "override_dirname"
    ]  # the overrides once more
    for name in settings.keys() | without.keys():
        if name not in PER_RUN and settings.get(name) != without.get(name):
            raise UsageError(
                f"--config-dir {own}: a file of it sets hydra.{name}; hydra.* is not to be set"
            )


@functools.cache
def _hydra_alone() -> dict[str, Any]:
    """Hydra's own settings as they are where nothing of the user's is read."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="dltrain"):
        settings: Any = OmegaConf.to_container(
            hydra_compose("config", return_hydra_config=True).hydra
        )
    return dict(settings)
