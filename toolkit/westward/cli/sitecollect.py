"""`westward site collect`: a bundle for whoever helps, without a secret in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from westward.cli import managed, show, sitedoctor


def collect(
    site: managed.SiteOrInventory,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.tar.gz", help="The bundle; ./CLUSTER-TIME.tar.gz if not given."),
    ] = None,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Gather configuration, states, the ends of logs and the doctor's findings into one file for whoever helps. Changes nothing.

    Keys are left where they are; passwords and tokens are masked on the host. A host that gives no answer is noted in it; exit code 4.
    """
    cluster = managed.managed(site, inventory)
    from westward.provision import clusterfacts, doctor, support
    from westward.provision.hosts import Hands

    target = out or Path(f"{cluster.cluster}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    support.refuse_unwritable(target)
    with managed.progress(cluster.cluster, 2 * len(cluster.hosts)) as told, Hands(told) as hands:
        facts = clusterfacts.ask(cluster, hands, jobs=False)
        findings = json.dumps(sitedoctor.doctor_facts(facts, doctor.diagnose(facts)), indent=2)
        texts, silent = support.gather(facts, hands)
    size = support.write(target, cluster.cluster, {**texts, "doctor.json": findings}, silent)
    if as_json:
        show.print_json({"file": str(target), "bytes": size, "files": len(texts) + 1, "silent": silent})
    else:
        show.out.print(
            f"{target}: {len(texts) + 1} files, {size / 2**20:.1f} MiB. Look into it before you give it away.",
            soft_wrap=True,
        )
    if silent:
        sitedoctor.end_silent(cluster, silent)
