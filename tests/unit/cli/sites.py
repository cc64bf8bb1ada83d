"""`westward site` on clusters in memory, for its tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from unit.catalogue.answering import Answering
from unit.federation.worlds import cluster, node
from westward.catalogue import reach, survey
from westward.cli.site import app
from westward.directories import config_dir
from westward.errors import WestwardError
from westward.model.site import Door, Site

SSH = "ssh://u17@login.west"
Westward = Callable[..., Result]


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> dict[str, Answering | WestwardError]:
    """What is behind each door, by the door's own words."""
    made: dict[str, Answering | WestwardError] = {f"shell {SSH}": Answering(state_=cluster(node(), default=True))}

    def connect(site: Site, door: Door) -> Any:
        found = made[str(door)]
        if isinstance(found, WestwardError):
            raise found
        return found

    ask = survey.ask
    monkeypatch.setattr(survey, "ask", lambda site: ask(site, connect))
    monkeypatch.setattr(reach, "writable", lambda door, directory: True)
    monkeypatch.setattr(reach, "round_trip_s", lambda door: 0.02)
    return made


@pytest.fixture
def westward(behind: dict[str, Answering | WestwardError]) -> Westward:
    def run(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    return run


def the_file(name: str = "west") -> Path:
    return config_dir() / "sites" / f"{name}.yaml"


def failed(result: Result, kind: type[WestwardError]) -> WestwardError:
    assert isinstance(result.exception, kind), result.output
    return result.exception


def fill_in(**more: Any) -> None:
    """What a user writes into the description of west."""
    the_file().write_text(yaml.safe_dump({**yaml.safe_load(the_file().read_text()), **more}))
