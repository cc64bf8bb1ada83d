"""Small clusters and catalogues to route over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from westward.catalogue.chips import load_accelerators
from westward.catalogue.load import load_site
from westward.federation.snapshot import Snapshot
from westward.model.accelerators import AcceleratorRequest
from westward.model.job import JobSpec
from westward.model.resources import Resources
from westward.model.site import Catalogue, ClusterState, Figure, Node, Partition, Site

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1024**3
SITES = Path(__file__).parents[2] / "data" / "sites"


def node(name: str = "n1", **more: Any) -> Node:
    values: dict[str, Any] = {
        "states": ("IDLE",), "partitions": ("gpu",), "cpus": 64, "cpus_used": 0, "mem_bytes": 256 * GIB,
        "mem_used_bytes": 0, "accelerators": {"h100": 4}, "accelerators_used": {},
    }  # fmt: skip
    return Node(name=name, **{**values, **more})


def full(name: str, **more: Any) -> Node:
    return node(name, states=("ALLOCATED",), cpus_used=64, accelerators_used={"h100": 4}, **more)


def cluster(*nodes: Node, ends: Mapping[str, float] | None = None, **partition: Any) -> ClusterState:
    """One partition `gpu`; `ends` are seconds from now until the running jobs of a node reach their limits."""
    values: dict[str, Any] = {"name": "gpu", "up": True, "max_walltime_s": None, "max_nodes": None}
    return ClusterState(
        version="24.11.5",
        partitions=(Partition(**{**values, **partition}),),
        nodes=nodes or (node(),),
        running_ends={name: NOW + timedelta(seconds=seconds) for name, seconds in (ends or {}).items()},
        taken_at=NOW,
    )


def wants(accelerators: str | None = "h100:4", **more: Any) -> Resources:
    request = AcceleratorRequest.parse(accelerators) if accelerators else None
    return Resources(**{"accelerators": request, "walltime_s": 3600, **more})


def job(accelerators: str | None = "h100:4", **more: Any) -> JobSpec:
    return JobSpec("job", ("true",), wants(accelerators, **more))


def figure(value: float) -> Figure:
    return Figure(value, "made up for a test", "2026", True)


def site(
    name: str,
    *,
    rent: float = 9.0,
    cpu: float = 0.05,
    kwh: float = 0.5,
    kg: float = 0.6,
    pue: float = 1.2,
    chip: str = "h100",
) -> Site:
    west = load_site(SITES / "west.yaml")
    return replace(
        west,
        name=name,
        prices=replace(west.prices, accelerator_hour={chip: figure(rent)}, cpu_hour=figure(cpu)),
        power=replace(west.power, price_per_kwh=figure(kwh), carbon_kg_per_kwh=figure(kg), pue=figure(pue)),
    )


def catalogue(*sites: Site) -> Catalogue:
    return Catalogue({each.name: each for each in sites}, load_accelerators(), "CNY", "d" * 12)


def snapshot(clusters: Mapping[str, ClusterState], silent: Mapping[str, str] | None = None) -> Snapshot:
    return Snapshot(dict(clusters), dict(silent or {}))
