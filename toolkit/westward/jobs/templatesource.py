"""Hydra's way to the templates and policies: `westward://` in its search path, which is what `templatefiles` finds."""

from __future__ import annotations

import yaml
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from westward.errors import InputError
from westward.jobs.templatefiles import GROUPS, SHIPPED, file_of, folders, names

SCHEME = "westward"


class TemplateSource(ConfigSource):
    """Hydra's view of the directories: one place in its search path, `westward://`."""

    @staticmethod
    def scheme() -> str:
        """The scheme in Hydra's search path."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """One file, read as Hydra reads its own.

        Raises:
            InputError: it cannot be read, or is no YAML mapping.
        """
        file = file_of(config_path)
        assert file is not None, "Hydra asks is_config first"
        try:
            text = file.read_text(encoding="utf-8")
            config = OmegaConf.create(text)
            header = self._get_header_dict(text[:512])
        except OSError as error:
            raise InputError(f"cannot read '{file}': {error.strerror}") from error
        except yaml.MarkedYAMLError as error:
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            raise InputError(f"'{file}' is not YAML: {line}{error.problem or error}") from error
        except OmegaConfBaseException as error:
            key = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
            raise InputError(f"'{file}': {key}{(str(error).splitlines() or [''])[0]}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"'{file}' cannot be read: {' '.join(str(error).split())}") from error
        if not OmegaConf.is_dict(config):
            raise InputError(f"'{file}' holds no mapping")
        return ConfigResult(config=config, path=f"{SCHEME}://{file}", provider=SCHEME, header=header)

    def available(self) -> bool:
        """It is always there."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether it is a directory of a group."""
        parts = [part for part in config_path.split("/") if part]
        if parts[:1] == [SHIPPED]:
            parts = parts[1:]
            if not parts:
                return True
        if not parts:
            return True
        return (
            parts[0] in GROUPS
            and ".." not in parts
            and any(folder.path.joinpath(*parts).is_dir() for folder in folders())
        )

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a file."""
        return file_of(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names in a group, for Hydra's own messages."""
        if config_path.strip("/") not in GROUPS or results_filter is ObjectType.GROUP:
            return []
        return list(names(config_path.strip("/")))
