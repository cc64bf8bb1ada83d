"""The configs of a sweep's points: what the points of a batch have in common is composed once, not once for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

_REMEMBERED = 1000  # configs, each of some 50 KB


class PointConfigs:
    """Hydra's config loader, which takes ten times as long for each point. What is not said here is the loader's own.

    Hydra chooses from the groups first, and sets values in what came of it. So points that choose alike differ in values only, which are set
    here by Hydra's own function in a copy. Whatever else there is goes through Hydra in full.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._parser = OverridesParser.create()
        self._chosen: dict[tuple[int, tuple[str, ...]], DictConfig] = {}
        self._composed: dict[tuple[int, tuple[str, ...]], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The config of a point. Sweepers compose every point to see that it can be, and throw it away: the launcher takes it from here.

        Raises:
            HydraException: it does not compose.
        """
        point = id(master_config), tuple(sweep_overrides)
        if point in self._composed:
            return self._composed.pop(point)
        composed = self._derived(master_config, sweep_overrides)
        if composed is None:
            composed = self._in_full(master_config, sweep_overrides)
        if len(self._composed) < _REMEMBERED:
            self._composed[point] = composed
        return composed

    def forget(self) -> None:
        """The batch is over: until the next one, files may change."""
        self._chosen.clear()
        self._composed.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def _derived(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig | None:
        """None where that takes all of Hydra."""
        if master_config.hydra.searchpath:  # what groups there are, the loader finds out anew for each point
            return None
        overrides = self._parser.parse_overrides(sweep_overrides)
        if any(override.is_hydra_override() or override.is_sweep_override() for override in overrides):
            return None
        choices = [override for override in overrides if self._chooses(override)]
        values = [override for override in overrides if override not in choices]
        derived = deepcopy(self._with(master_config, choices))
        ConfigLoaderImpl._apply_overrides_to_config(values, derived)
        derived.hydra.overrides.task = sweep_overrides
        dirname = derived.hydra.job.config.override_dirname
        derived.hydra.job.override_dirname = get_overrides_dirname(
            overrides, list(dirname.exclude_keys), dirname.item_sep, dirname.kv_sep
        )
        OmegaConf.copy_cache(master_config, derived)
        return derived

    def _chooses(self, override: Override) -> bool:
        """It chooses from a group, as Hydra tells that from a value."""
        return self._loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)

    def _with(self, master_config: DictConfig, choices: Sequence[Override]) -> DictConfig:
        texts = [override.input_line or "" for override in choices]
        wanted = id(master_config), tuple(texts)
        if wanted in self._chosen:
            return self._chosen[wanted]
        composed = self._in_full(master_config, texts)
        if len(self._chosen) < _REMEMBERED:
            self._chosen[wanted] = composed
        return composed

    def _in_full(self, master_config: DictConfig, overrides: list[str]) -> DictConfig:
        composed = self._loader.load_sweep_config(master_config, overrides)
        assert isinstance(composed, DictConfig)
        return composed
