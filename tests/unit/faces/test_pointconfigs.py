"""The configs of a sweep's points, beside what Hydra's own loader composes for them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig
from omegaconf.base import Node

from westward.faces.pointconfigs import PointConfigs

CONFIG = """
defaults: [model: small, optional data: none_yet, _self_]
lr: 0.1
note: plain
layers: [1, 2]
asked: {nodes: 1, mem: '???'}
twice: ${lr}
at: ${now:%f}
"""
FILES = {
    "config.yaml": CONFIG,
    "model/small.yaml": "depth: 2\nname: small\n",
    "model/big.yaml": "depth: 20\nname: big\nheads: ${.depth}\n",
    "optim/adam.yaml": "# @package _global_\nlr: 3\nbeta: [0.9, 0.99]\n",
}
HYDRAS = ["hydra/launcher=westward", "hydra.launcher.nodes=${asked.nodes}", "hydra.sweep.dir=out"]

POINTS = [
    [],
    ["lr=1"],
    ["lr=1e-3", "note='a, b'"],
    ["note=", "lr=null"],
    ["note='${lr}'"],
    ["layers=[3,4,5]"],
    ["asked={nodes:4}"],
    ["asked.nodes=2", "asked.mem=4G"],
    ["+new=1"],
    ["+asked.more.deep=x"],
    ["++lr=5", "++other.one=1"],
    ["~note"],
    ["~note=plain", "lr=2"],
    ["model=big"],
    ["lr=1", "model=big", "model.depth=7"],
    ["model.depth=7", "model=big"],
    ["model.depth=7", "model={depth:9}"],
    ["+optim=adam"],
    ["lr=2", "+optim=adam"],
    ["+optim@inner=adam"],
    ["~model"],
    ["~model=small", "lr=1"],
    ["+lr=[1]"],
    ["lr=1", "lr=2"],
    ["hydra.job.chdir=true", "lr=1"],
    ["hydra.launcher.nodes=3"],
    ["hydra.job.config.override_dirname.exclude_keys=[lr]", "lr=1", "note=b"],
]
REFUSED = [
    ["absent=1"],
    ["+lr=1"],
    ["~absent"],
    ["model=absent"],
    ["model=3"],
    ["optim=adam"],
    ["++model=big"],
    ["lr@here=1"],
    ["lr=1,2"],
    ["lr=range(3)"],
    ["lr=["],
    ["asked.nodes.inner=1"],
]


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[ConfigLoaderImpl]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None and isinstance(hydra.config_loader, ConfigLoaderImpl)
        yield hydra.config_loader


def master(loader: ConfigLoaderImpl, *more: str) -> DictConfig:
    return loader.load_configuration("config", [*HYDRAS, *more], RunMode.MULTIRUN)


def all_of(node: Any) -> Any:
    """A node with all that tells it from another: flags, types, order of keys."""
    assert isinstance(node, Node)
    about = node._metadata.flags, node._metadata.ref_type, node._metadata.object_type, node._metadata.optional
    value = node._value()
    if isinstance(node, DictConfig) and isinstance(value, dict):
        return about, [(key, all_of(inner)) for key, inner in value.items()]
    if isinstance(node, ListConfig) and isinstance(value, list):
        return about, [all_of(inner) for inner in value]
    return about, type(value), value


@pytest.mark.parametrize("first", [["lr=9"], ["model=big", "lr=9"]])
def test_a_point_is_what_hydra_composes_for_it(loader: ConfigLoaderImpl, first: list[str]) -> None:
    dirname = "hydra.job.config.override_dirname"
    config = master(loader, "lr=8", f"{dirname}.item_sep=';'", f"{dirname}.exclude_keys=[note]")
    ours = PointConfigs(loader)
    ours.load_sweep_config(config, first)
    assert config.at  # Hydra remembers it: from now on it is the same for all points
    for overrides in POINTS:
        expected, found = loader.load_sweep_config(config, overrides), ours.load_sweep_config(config, overrides)
        assert all_of(found) == all_of(expected), overrides
        assert found.at == config.at == expected.at
        found.hydra.job.num = 3  # as a launcher does, which no other point may feel
        found.lr = 77


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_hydra_refuses_is_refused_in_its_words(loader: ConfigLoaderImpl, overrides: list[str]) -> None:
    config = master(loader)
    with pytest.raises((HydraException, ValueError)) as theirs:
        loader.load_sweep_config(config, overrides)
    with pytest.raises(type(theirs.value)) as ours:
        PointConfigs(loader).load_sweep_config(config, overrides)
    assert str(ours.value) == str(theirs.value)


def test_groups_are_looked_for_where_the_search_path_says(loader: ConfigLoaderImpl, tmp_path: Path) -> None:
    (tmp_path / "more" / "extra").mkdir(parents=True)
    (tmp_path / "more" / "extra" / "one.yaml").write_text("a: 1\n")
    config = master(loader, f"hydra.searchpath=['file://{tmp_path}/more']")
    assert PointConfigs(loader).load_sweep_config(config, ["+extra=one"]).extra == {"a": 1}


def test_what_points_have_in_common_is_composed_once_in_a_batch(
    loader: ConfigLoaderImpl, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    real = loader.load_sweep_config

    def counted(config: DictConfig, overrides: list[str]) -> DictConfig:
        asked.append(list(overrides))
        return real(config, overrides)

    monkeypatch.setattr(loader, "load_sweep_config", counted)
    launcher = import_module("hydra_plugins.westward_launcher.launcher").WestwardLauncher()
    context: Any = SimpleNamespace(config_loader=loader)
    config = master(loader)
    launcher.setup(hydra_context=context, task_function=None, config=config)
    points = [[f"model={model}", f"lr={lr}"] for model in ("small", "big") for lr in (1, 2, 3)]
    looked_at = [context.config_loader.load_sweep_config(config, point) for point in points]
    launched = [context.config_loader.load_sweep_config(config, point) for point in points]
    assert asked == [["model=small"], ["model=big"]]
    assert all(one is other for one, other in zip(looked_at, launched, strict=True))
    assert [(one.model.name, one.lr) for one in launched] == [(m, lr) for m in ("small", "big") for lr in (1, 2, 3)]
    assert context.config_loader.get_sources() == loader.get_sources()


def test_a_file_that_changed_is_read_for_the_next_batch(
    loader: ConfigLoaderImpl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("westward.faces.points.launch", lambda *_: [])
    launcher = import_module("hydra_plugins.westward_launcher.launcher").WestwardLauncher()
    context: Any = SimpleNamespace(config_loader=loader)
    config = master(loader)
    launcher.setup(hydra_context=context, task_function=None, config=config)
    assert context.config_loader.load_sweep_config(config, ["lr=1"]).model.depth == 2
    (tmp_path / "model" / "small.yaml").write_text("depth: 3\nname: small\n")
    launcher.launch([["lr=1"]], 0)
    assert context.config_loader.load_sweep_config(config, ["lr=1"]).model.depth == 3
