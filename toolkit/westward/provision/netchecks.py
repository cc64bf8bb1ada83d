"""Checks of how hosts find and reach each other: each a pure function from what was found out to findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from westward.provision.clusterfacts import Facts, names
from westward.provision.finding import Finding, Verdict, with_the_rest
from westward.provision.hostfacts import Look
from westward.provision.hosts import COMPUTE


def ports(facts: Facts) -> list[Finding]:
    """Whether the daemons answer those who need them."""
    bad: list[Finding] = []
    for host, look in facts.looks.items():
        if look.ports is None:
            bad.append(Finding("ports", host, Verdict.UNKNOWN, "no port was tried"))
        for target, why in (look.ports or {}).items():
            if why:
                step = f"does its daemon run at {target.rpartition(':')[0]}, and does a firewall let {{where}} through?"
                bad.append(Finding("ports", host, Verdict.FAILED, f"{target} does not answer: {why}", step))
    tried = {target.rpartition(":")[2] for look in facts.looks.values() for target in look.ports or ()}
    return with_the_rest(
        "ports", bad, facts.looks, f"{', '.join(sorted(tried)) or 'none'} answer where they are needed"
    )


def addresses(facts: Facts) -> list[Finding]:
    """Whether each host's name means the address that Slurm has for it, on every other host."""
    bad: list[Finding] = []
    for name, slurms in names(facts).items():
        told = {
            host: set((look.addresses or {}).get(name, ()))
            for host, look in facts.looks.items()
            if not _is(facts, host, name)
        }
        usual = Counter(tuple(sorted(found)) for found in told.values() if found).most_common(1)
        right = {slurms} if slurms else set(usual[0][0]) if usual else set()
        for host, found in told.items():
            bad += _address(name, slurms, host, found, right)
    return with_the_rest("names", bad, facts.looks, "every host's name means its address")


def _is(facts: Facts, host: str, name: str) -> bool:
    """A host may call itself 127.0.1.1, as Debian does."""
    return name in (host, facts.site.hosts[host].node)


def _address(name: str, slurms: str | None, host: str, found: set[str], right: set[str]) -> Iterator[Finding]:
    step = f"correct {name} in DNS or in /etc/hosts of {{where}}"
    if not found and slurms:
        yield Finding(
            "names",
            host,
            Verdict.WARNING,
            f"{name} means nothing; Slurm itself uses {slurms}, MPI and ssh do not",
            step,
        )
    elif not found:
        yield Finding("names", host, Verdict.FAILED, f"{name} means nothing", step)
    elif not found & right or all(one.startswith("127.") or one == "::1" for one in found):
        told = f"{name} means {', '.join(sorted(found))}, and {'Slurm has' if slurms else 'for most hosts'} {', '.join(sorted(right))}"
        yield Finding("names", host, Verdict.FAILED, told, step)


def node_names(facts: Facts) -> list[Finding]:
    """Whether slurmd finds its node: by the hostname, by NodeHostname, or by the name that it is started with."""
    bad: list[Finding] = []
    for host, look in facts.of(COMPUTE).items():
        node = facts.site.hosts[host].node
        known = _known_as(facts, node)
        called = look.hostname.split(".")[0]
        if {called, look.hostname} & {node, known} or _started_as(look) == node:
            continue
        bad.append(
            Finding(
                "hostname",
                host,
                Verdict.FAILED,
                f"the host is called {called}, its node {node}, and slurm.conf has no NodeHostname for it: slurmd does not find its node when it starts",
                f"hostnamectl set-hostname {node}, then systemctl restart slurmd there; or keep the name: 'ansible-playbook ... site.yml --limit {{hosts}}' starts slurmd with -N {node}",
            )
        )
    return with_the_rest("hostname", bad, facts.of(COMPUTE), "every node is called as in slurm.conf, or told its name")


def _known_as(facts: Facts, node: str) -> str:
    conf = facts.configuration
    settings = conf.nodes.get(node) if conf else None
    return settings.get("NodeHostname", node) if settings is not None else node


def _started_as(look: Look) -> str | None:
    """The name behind -N of the slurmd that runs."""
    for word, following in pairwise((*(look.slurmd or ()), "")):
        if word == "-N":
            return following
        if word.startswith("-N"):
            return word[2:]
    return None
