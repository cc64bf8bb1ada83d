"""Apptainer where Debian has no package of it: refused without one that is named, and installed from one that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provision.conftest import GROUPS
from provision.sites import Fleet, Played, Release, inventory
from provision.templates import run_template

pytestmark = [pytest.mark.lab, pytest.mark.full]
MIRROR = "http://apt-cache:3142/deb.debian.org/debian"
# sid has one, which Debian 13 can install; what it is called and its checksum, its index says
LOOK = f"""
import lzma, re, urllib.request
index = lzma.decompress(urllib.request.urlopen("{MIRROR}/dists/sid/main/binary-amd64/Packages.xz").read()).decode()
(stanza,) = re.findall(r"^Package: apptainer\\n(?:.+\\n)+", index, re.MULTILINE)
print(*(re.search(rf"^{{key}}: (.*)$", stanza, re.MULTILINE)[1] for key in ("Filename", "SHA256", "Version")))
"""
# an image that is a directory, with a shell in it; one in a single file wants /dev/fuse, which a container of the lab does not have
IMAGE = """
set -e
image=/shared/image
for directory in bin etc proc sys dev tmp root home var/tmp; do mkdir -p $image/$directory; done
cp /bin/sh $image/bin/
ldd /bin/sh | grep -o '/[^ ]*' | while read -r library; do install -D "$library" "$image$library"; done
touch $image/etc/passwd $image/etc/group $image/etc/hosts $image/etc/resolv.conf $image/etc/localtime
"""
ONLY_N1 = ("--tags", "apptainer", "--limit", "n1")


def test_a_distribution_without_it_is_told_what_is_needed(
    fleet: Fleet, cluster: dict[str, Any], first: Played, tmp_path: Path
) -> None:
    ran = fleet.play(inventory(tmp_path, GROUPS, cluster | {"apptainer_install": True}), *ONLY_N1)
    assert ran.status == 2
    assert "has no package apptainer: name a .deb and its checksum, apptainer_package: {url:" in " ".join(
        ran.why.split()
    )
    assert set(ran.changed.values()) == {0}


def test_a_package_that_is_named_is_installed_once(
    fleet: Fleet, cluster: dict[str, Any], release: Release, first: Played, tmp_path: Path
) -> None:
    file, sha256, version = fleet.said("n1", "python3", "-c", LOOK).split()
    package = {"url": f"{MIRROR}/{file}", "sha256": sha256}
    named = inventory(tmp_path, GROUPS, cluster | {"apptainer_install": True, "apptainer_package": package})
    ran = fleet.play(named, *ONLY_N1)
    if release.topology == "bare-bookworm":
        assert "Dependency is not satisfiable: libc6 (>= 2.38)" in ran.why
        return
    assert ran.status == 0, ran.why
    assert ran.changed["n1"] == 2
    assert fleet.said("n1", "apptainer", "--version").split()[-1] == version.split("-")[0]
    fleet.said("n1", "sh", "-c", IMAGE)
    inside = ("apptainer", "exec", "/shared/image", "/bin/sh", "-c", "echo $APPTAINER_CONTAINER $SLURM_JOB_NUM_NODES")
    asked = ("srun", "-w", "n1", "--account=physics", "--chdir=/", *inside)
    assert fleet.said("login", "runuser", "-u", "admin", "--", *asked) == "/shared/image 1\n"
    a_job_of_a_template(fleet)
    fleet.said("n1", "rm", "-r", "/shared/image")
    again = fleet.play(named, *ONLY_N1)
    assert (again.status, again.changed["n1"]) == (0, 0), again.text


def a_job_of_a_template(fleet: Fleet) -> None:
    """What Westward makes of `container=` runs with the real Apptainer, under Slurm, as an ordinary user."""
    fleet.said("n1", "sh", "-c", "mkdir -p '/shared/my data' && echo 42 > '/shared/my data/a'")
    line = "pwd; echo $APPTAINER_CONTAINER; read x < /data/a; echo $x > result; echo no > /data/b; exit 7"
    words = [
        "container.image=/shared/image",
        "container.binds=['/shared/my data:/data:ro']",
        f"command=[/bin/sh,-c,'{line}']",
    ]
    ran = run_template(fleet, "apptainer", words, "-w", "n1")
    assert ran.status == 7
    assert fleet.said("n1", "cat", f"{ran.made.directory}/result") == "42\n"
    assert (
        f"{ran.made.directory}\n/shared/image\n" in ran.log
        and "cannot create /data/b: Read-only file system" in ran.log
    )
    fleet.said("n1", "rm", "-r", "/shared/jobs", "/shared/my data")
