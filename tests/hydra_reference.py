"""Hydra's own composition, as the reference that dltrain's is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf, open_dict

from dltrain.config.groups import conf_dir

VERSION_BASE = "1.3"


def by_hydra(overrides: list[str]) -> tuple[Any, dict[str, Any]]:
    """Compose conf/ through Hydra's public API; it takes a quarter of a second.

    Returns:
        The configuration without Hydra's own, and {group: option}.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE, job_name="dltrain"):
        config = hydra_compose("config", overrides=overrides, return_hydra_config=True)
    choices: Any = OmegaConf.to_container(config.hydra.runtime.choices)
    OmegaConf.set_readonly(config, False)
    with open_dict(config):
        del config["hydra"]
    return config, {name: value for name, value in choices.items() if "hydra/" not in name}


def folders_by_hydra(folders: list[Path], overrides: list[str]) -> tuple[Any, dict[str, Any]]:
    """Compose the config.yaml of `folders` by what the API calls inside, without Hydra's own files.

    Returns:
        The configuration as plain data, and {group: option}.
    """
    Plugins.instance()
    version.setbase(VERSION_BASE)
    search_path = ConfigSearchPathImpl()
    for folder in folders:
        search_path.append("main", f"file://{folder}")
    search_path.append("schema", "structured://")
    loader = ConfigLoaderImpl(search_path)
    parsed, repository = loader._parse_overrides_and_create_caching_repo("config", overrides)
    found = create_defaults_list(repository, "config", parsed, False, False)
    config = loader._compose_config_from_defaults_list(found.defaults, repository)
    return OmegaConf.to_container(config), found.overrides.known_choices
