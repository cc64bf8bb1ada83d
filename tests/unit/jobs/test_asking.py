"""What a job asks of a cluster: of a template's job all of it, of a batch script what sbatch makes of its options, and nothing that is a guess."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from unit.federation.worlds import site
from westward.federation.pinned import pinned
from westward.jobs.allowance import findings
from westward.jobs.asking import Asked, asked
from westward.model.limits import Cap, Charge, Limits, Qos, Rules, Verdict
from westward.model.site import Catalogue
from westward.slurm.routed import spec_of
from westward.slurm.sbatchfile import read_script

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(
    "u",
    {"gpu": Rules("gpu", "UP", max_walltime_s=86400, max_nodes=4), "low": Rules("low", "UP")},
    {"normal": Qos("normal")},
    (Charge("research", "u", "", "research", ("normal",)),),
    "research",
    mem_per_cpu_mib=1000,
    default_partition="gpu",
)


def script(*options: str, limits: Limits = LIMITS) -> Asked:
    text = "#!/bin/sh\n" + "".join(f"#SBATCH {option}\n" for option in options) + "hostname\n"
    spec = spec_of(read_script("job.sh", text, submitted_from="/nowhere"), NOW)
    west = site("west")
    assert spec.script is not None
    chosen = pinned(spec.script, west, Catalogue({}, {}, None, ""), NOW).chosen
    assert chosen is not None
    return asked(spec, chosen, west, limits)


def test_what_a_script_says_counts_as_sbatch_takes_it() -> None:
    found = script(
        "-p low -A physics --qos=long",
        "-N 2 --ntasks-per-node=4 -c 2 --mem=8G -t 2:00:00 --array=0-9",
        "--gres=gpu:H100:4",
    )
    assert found == Asked(
        "low", "physics", "long", 2, 8, 8192, 120,
        {"node": 2, "cpu": 16, "mem": 16384, "gres/gpu": 8, "gres/gpu:h100": 8}, 10,
    )  # fmt: skip


def test_what_it_does_not_say_is_what_its_cluster_gives() -> None:
    found = script()
    assert (found.partition, found.nodes, found.cpus_per_node, found.mem_per_node_mib) == ("gpu", 1, 1, 1000)
    assert (found.account, found.minutes, found.count("gres/gpu")) == (site("west").account, None, 0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--ntasks=8"], {"nodes": None, "cpu": 8, "mem": None}),
        (["--ntasks=8 --nodes=2 --mem-per-cpu=100"], {"nodes": 2, "cpu": 8, "mem": 800}),
        (["--ntasks=7 --nodes=2 --mem=1G"], {"nodes": 2, "cpu": 7, "cpus_per_node": None, "mem": 2048}),
        (["--nodes=1-2"], {"nodes": None, "cpu": None, "mem": None}),
        (["--exclusive"], {"nodes": 1, "cpu": None, "mem": None, "gres/gpu": None}),
        (["--mem=0"], {"nodes": 1, "cpu": 1, "mem": None}),
        (["--gpus=4"], {"nodes": None, "cpu": None, "gres/gpu": None}),
        (["--gpus-per-node=2 --nodes=2"], {"cpu": 2, "gres/gpu": None, "gres/gpu:h100": None}),
        (["--gres=shard:1"], {"gres/gpu": None, "gres/shard": None}),
        (["--cores-per-socket=2"], {"nodes": 1, "cpu": None, "gres/gpu": 0}),
        (["--time=UNLIMITED"], {"minutes": None, "cpu": 1}),
        (["--partition=gpu,low"], {"partition": "gpu,low", "cpu": 1}),
    ],
)
def test_what_is_decided_at_the_start_is_unknown_and_never_a_guess(options: list[str], told: dict[str, Any]) -> None:
    found = script(*options)
    own = ("nodes", "cpus_per_node", "minutes", "partition")
    assert {name: getattr(found, name) if name in own else found.count(name) for name in told} == told


def verdicts(found: Asked, *caps: Cap, limits: Limits = LIMITS) -> dict[str, Verdict]:
    qos = {"normal": Qos("normal", caps)}
    asked_of = Limits(
        limits.user, limits.partitions, qos, limits.charges, "research", default_partition=limits.default_partition
    )
    return {each.limit.rpartition(": ")[2]: each.verdict for each in findings(found, asked_of)}


def test_limits_on_what_is_unknown_are_unknown_and_the_others_count() -> None:
    caps = (
        Cap("MaxWall", 60),
        Cap("MaxTRESPerJob", 4, "cpu"),
        Cap("GrpTRES", 9, "node", 0.0),
        Cap("GrpTRESMins", 9, "cpu", 0.0),
    )
    told = verdicts(script("--account=research", "--ntasks=8"), *caps)
    assert told["MaxTRESPerJob cpu"] is Verdict.NEVER
    assert {told[name] for name in ("MaxWall", "GrpTRES node", "GrpTRESMins cpu", "MaxNodes")} == {Verdict.UNKNOWN}
    assert "MaxTime" not in told, "what names no time gets no more than its partition allows"


def test_a_partition_that_is_not_known_is_said() -> None:
    nowhere = Limits("u", LIMITS.partitions)
    told = findings(script(limits=nowhere), nowhere)
    assert [(each.verdict, each.limit, each.value, each.asked) for each in told] == [
        (Verdict.UNKNOWN, "partition", "gpu, low", "the cluster's default")
    ]
