"""Checks of the hosts of a cluster: each a pure function from what was found out to findings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from statistics import median

from westward.provision import ansiblecode
from westward.provision.clusterfacts import Facts, key_files
from westward.provision.finding import Finding, Verdict, together, with_the_rest
from westward.provision.hostfacts import Disk, Key, Look
from westward.provision.hosts import COMPUTE, CONTROLLER, DBD, LOGIN, Host
from westward.slurm.confmeaning import Release, release_of
from westward.slurm.hostlist import fold

# seconds: what a credential lasts where AuthInfo does not say (munge(7); auth/slurm), and what logs and begin times bear
LASTS_S = {"munge": 300.0, "slurm": 60.0}
NOTICED_S = 2.0
SCANT, FULL = 0.05, 0.01  # of a file system that is free: warned of, failed
SCANT_BYTES = 64 * 2**20
SACKD_SINCE = (23, 11)


def reached(facts: Facts) -> list[Finding]:
    """Whether each host answers, and lets its user become root."""
    silent = [
        Finding(
            "reachable",
            host,
            Verdict.FAILED,
            f"no answer: {' '.join(why.split())}",
            "ssh {where} sudo -n true",
        )
        for host, why in facts.silent.items()
    ]
    return with_the_rest("reachable", silent, facts.site.hosts, "answers, and sudo needs no password")


def clock(facts: Facts) -> list[Finding]:
    """How far the clocks are apart, as far as a round trip can tell."""
    known = facts.clocks
    bad = [
        Finding(
            "clock",
            host,
            Verdict.UNKNOWN,
            "its clock could not be read",
            "westward site exec SITE --on {where} -- date",
        )
        for host in facts.looks
        if host not in known
    ]
    if not known:
        return together(bad)
    told = re.search(r"\bttl=(\d+)", facts.config.get("AuthInfo", ""))
    limit = float(told[1]) if told else LASTS_S.get(facts.auth, 300.0)
    middle = median(one.ahead_s for one in known.values())
    for host, one in known.items():
        off, bound = one.ahead_s - middle, one.bound_s
        if abs(off) - bound > NOTICED_S:
            refused = abs(off) - bound > limit
            bad.append(
                Finding(
                    "clock",
                    host,
                    Verdict.FAILED if refused else Verdict.WARNING,
                    f"{abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} the others (± {bound:.2f} s); auth/{facts.auth} refuses from {limit:g} s on",
                    "run NTP there: 'timedatectl set-ntp true' on {where}, or look at 'chronyc tracking'",
                )
            )
        elif bound > NOTICED_S:
            bad.append(
                Finding(
                    "clock",
                    host,
                    Verdict.UNKNOWN,
                    f"a round trip took {2 * bound:.1f} s: too long to tell",
                    "run it again",
                )
            )
    apart = max(one.ahead_s for one in known.values()) - min(one.ahead_s for one in known.values())
    bound = max(one.bound_s for one in known.values())
    return with_the_rest("clock", bad, known, f"at most {apart:.2f} s apart (± {bound:.2f} s)")


def keys(facts: Facts) -> list[Finding]:
    """Whether each key is the same on all hosts that have to have it, and nobody else's to read. No key is shown, nor a digest of one."""
    found: list[Finding] = []
    for path, groups in key_files(facts).items():
        looks = facts.of(*groups)
        held = {host: (look.keys or {}).get(path) for host, look in looks.items() if look.keys is not None}
        bad = [
            Finding("keys", host, Verdict.UNKNOWN, f"{path} could not be looked at")
            for host in looks
            if host not in held
        ]
        most = Counter(key.digest for key in held.values() if key is not None).most_common(1)
        for host, key in held.items():
            bad += _key(facts, path, host, key, most[0][0] if most else "")
        found += with_the_rest("keys", bad, looks, f"{path} is the same everywhere, and Slurm's alone")
    return found


def _key(facts: Facts, path: str, host: str, key: Key | None, right: str) -> Iterator[Finding]:
    again = "'ansible-playbook ... site.yml --limit {hosts}' writes that of the first controller; 'systemctl restart munge' or Slurm's daemons there"
    if key is None:
        yield Finding("keys", host, Verdict.FAILED, f"there is no {path}", again)
        return
    owner = "munge" if "munge" in path else facts.config.get("SlurmUser", "slurm").partition("(")[0]
    if key.digest != right:
        yield Finding("keys", host, Verdict.FAILED, f"{path} is not that of most hosts", again)
    if key.mode & 0o077:
        yield Finding(
            "keys",
            host,
            Verdict.FAILED,
            f"others may read {path}: mode {key.mode:o}",
            f"chmod 600 {path}; then make a new key",
        )
    elif key.owner not in (owner, "root"):
        yield Finding(
            "keys", host, Verdict.FAILED, f"{path} belongs to {key.owner}, not to {owner}", f"chown {owner}: {path}"
        )


def versions(facts: Facts) -> list[Finding]:
    """Whether every program is within what its server still speaks to: slurmdbd the newest, then slurmctld, then the rest."""
    bad: list[Finding] = []
    controllers = _releases(facts, "slurmctld", CONTROLLER)
    server = max(controllers.values(), default=None)
    seen: dict[str, Counter[str]] = {}
    for host, look in facts.looks.items():
        if not look.versions:
            bad.append(
                Finding(
                    "versions",
                    host,
                    Verdict.UNKNOWN,
                    "no program of Slurm tells its version",
                    "is Slurm installed there?",
                )
            )
            continue
        for name, text in look.versions.items():
            seen.setdefault(text, Counter())[name] += 1
        if server is not None and look.release is not None:
            bad += _within(host, look.release, server)
    for host, release in _releases(facts, "slurmdbd", DBD).items():
        if server is not None and release < server:
            bad.append(
                Finding(
                    "versions",
                    host,
                    Verdict.FAILED,
                    f"slurmdbd {_dotted(release)} is older than slurmctld {_dotted(server)}",
                    "upgrade slurmdbd first",
                )
            )
    if len(set(controllers.values())) > 1:
        bad.append(
            Finding(
                "versions",
                fold(controllers),
                Verdict.FAILED,
                "the controllers have different releases",
                "bring them to one release",
            )
        )
    told = ", ".join(sorted(seen))
    return with_the_rest("versions", bad, facts.looks, told)


def _releases(facts: Facts, program: str, group: str) -> dict[str, Release]:
    return {
        host: release_of(look.versions[program])
        for host, look in facts.of(group).items()
        if look.versions and program in look.versions
    }


def _within(host: str, release: Release, server: Release) -> Iterator[Finding]:
    if release > server:
        yield Finding(
            "versions",
            host,
            Verdict.FAILED,
            f"{_dotted(release)} is newer than slurmctld {_dotted(server)}",
            "upgrade slurmctld first",
        )
        return
    known = ansiblecode.slurm_releases()
    names = [_dotted(release), _dotted(server)]
    if strange := [name for name in names if name not in known.RELEASES]:
        yield Finding("versions", host, Verdict.UNKNOWN, f"{strange[0]} is no release that is known here")
        return
    behind = known.RELEASES.index(names[1]) - known.RELEASES.index(names[0])
    if behind > known.reach(names[1]):
        yield Finding(
            "versions",
            host,
            Verdict.FAILED,
            f"{names[0]} is not within the {known.reach(names[1])} releases before slurmctld {names[1]}",
            "upgrade Slurm on {where}",
        )


def _dotted(release: Release) -> str:
    return f"{release[0]}.{release[1]:02}"


def services(facts: Facts) -> list[Finding]:
    """Whether the daemons of each host run, and will after a reboot."""
    bad: list[Finding] = []
    for host, look in facts.looks.items():
        if look.units is None:
            bad.append(Finding("services", host, Verdict.UNKNOWN, "systemd did not answer", "systemctl status"))
            continue
        for name in _daemons(facts, facts.site.hosts[host], look):
            unit = look.units.get(name)
            if unit is None or not unit.there:
                bad.append(
                    Finding(
                        "services",
                        host,
                        Verdict.FAILED,
                        f"{name} is not installed",
                        "ansible-playbook ... site.yml --limit {hosts}",
                    )
                )
            elif unit.active != "active":
                step = f"systemctl start {name} on {{where}}; 'journalctl -u {name}' says why it ended"
                bad.append(Finding("services", host, Verdict.FAILED, f"{name} is {unit.active} ({unit.sub})", step))
            elif unit.file not in ("enabled", "static", "indirect", "generated", "enabled-runtime", "alias"):
                bad.append(
                    Finding(
                        "services",
                        host,
                        Verdict.WARNING,
                        f"{name} runs, and is {unit.file}: a reboot does not start it",
                        f"systemctl enable {name} on {{where}}",
                    )
                )
    return with_the_rest("services", bad, facts.looks, "every daemon runs, and is enabled")


def _daemons(facts: Facts, host: Host, look: Look) -> list[str]:
    """Those that a host has to run: by its groups, and of the others those that are enabled."""
    needed = {CONTROLLER: "slurmctld", DBD: "slurmdbd", COMPUTE: "slurmd"}
    found = [daemon for group, daemon in needed.items() if group in host.groups]
    if facts.auth == "munge":
        found.append("munge")
    elif LOGIN in host.groups and (look.release or SACKD_SINCE) >= SACKD_SINCE:
        found.append("sackd")
    others = [
        name for name in ("slurmrestd", "mariadb") if (unit := (look.units or {}).get(name)) and unit.file == "enabled"
    ]
    return [*found, *others]


def disks(facts: Facts) -> list[Finding]:
    """Whether there is room where Slurm and its jobs write."""
    bad: list[Finding] = []
    least: tuple[float, str] = (1.0, "")
    for host, look in facts.looks.items():
        if look.disks is None:
            bad.append(Finding("disk", host, Verdict.UNKNOWN, "its file systems could not be looked at", "df -h"))
        for path, disk in (look.disks or {}).items():
            bad += _disk(host, path, disk)
            if disk is not None and disk.size:
                least = min(least, (disk.free / disk.size, f"{path} of {host}"))
    return with_the_rest("disk", bad, facts.looks, f"at least {100 * least[0]:.0f}% free ({least[1]})")


def _disk(host: str, path: str, disk: Disk | None) -> Iterator[Finding]:
    if disk is None:
        yield Finding(
            "disk",
            host,
            Verdict.FAILED,
            f"there is no directory {path}",
            "mount it, or 'ansible-playbook ... site.yml --limit {hosts}'",
        )
        return
    for free, size, what in ((disk.free, disk.size, "space"), (disk.inodes_free, disk.inodes, "inodes")):
        if size and free / size < SCANT:
            failed = free / size < FULL or (what == "space" and free < SCANT_BYTES)
            told = f"{path} has {100 * free / size:.1f}% of its {what} free"
            yield Finding(
                "disk",
                host,
                Verdict.FAILED if failed else Verdict.WARNING,
                told,
                f"make room on {{where}}: 'du -xh {path} | sort -h | tail'",
            )
