"""A cluster's limits beside a job: as a user reads them, and as Slurm would act."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.federation.worlds import job, site
from westward.jobs.allowance import findings, findings_in_turn, most_submitted, worst
from westward.jobs.asking import Asked, asked
from westward.model.decision import Cost, Offer
from westward.model.job import Array
from westward.model.limits import Cap, Charge, Finding, Limits, Qos, Rules, Verdict
from westward.model.sitemap import SiteMap

OWN = Charge("research", "u", "", "research", ("normal", "capped"))
WHOLE = Charge("research", "", "", "root")
BARE = Limits(
    "u",
    {"gpu": Rules("gpu", "UP")},
    {"normal": Qos("normal"), "capped": Qos("capped")},
    (OWN, WHOLE),
    "research",
    ("u",),
    frozenset({"associations", "limits", "qos"}),
    False,
)
WANTS = Asked(
    "gpu", "research", None, 2, 8, 4096, 60, {"cpu": 16, "node": 2, "mem": 8192, "gres/gpu": 8, "gres/gpu:h100": 8}
)


def with_qos(*caps: Cap, name: str = "normal", flags: frozenset[str] = frozenset(), **more: Any) -> Limits:
    return replace(BARE, qos={**BARE.qos, name: Qos(name, caps, flags)}, **more)


def met(limits: Limits, wants: Asked = WANTS) -> list[Finding]:
    return [finding for finding in findings(wants, limits) if finding.verdict is not Verdict.OK]


def verdict(cap: Cap, wants: Asked = WANTS, **more: Any) -> Verdict:
    return worst(findings(wants, with_qos(cap, **more)))


DENIES = frozenset({"DenyOnLimit"})


@pytest.mark.parametrize(
    ("cap", "taken", "denied"),
    [
        (Cap("MaxWall", 60), Verdict.OK, Verdict.OK),
        (Cap("MaxWall", 59), Verdict.NEVER, Verdict.REFUSED),
        (Cap("MaxTRESPerJob", 16, "cpu"), Verdict.OK, Verdict.OK),
        (Cap("MaxTRESPerJob", 7, "gres/gpu"), Verdict.NEVER, Verdict.REFUSED),
        (Cap("MaxTRESPerJob", 4, "gres/gpu:a100"), Verdict.OK, Verdict.OK),
        (Cap("MaxTRESPerNode", 4, "gres/gpu:H100"), Verdict.OK, Verdict.OK),
        (Cap("MaxTRESPerNode", 3, "gres/gpu"), Verdict.NEVER, Verdict.REFUSED),
        (Cap("MaxTRESMinsPerJob", 959, "cpu"), Verdict.NEVER, Verdict.REFUSED),
        (Cap("MinTRESPerJob", 17, "cpu"), Verdict.NEVER, Verdict.REFUSED),
        (Cap("MaxTRESPerUser", 12, "gres/gpu", 4), Verdict.OK, Verdict.OK),
        (Cap("MaxTRESPerUser", 12, "gres/gpu", 5), Verdict.WAITS, Verdict.WAITS),
        (Cap("MaxTRESPerUser", 7, "gres/gpu", 0), Verdict.NEVER, Verdict.REFUSED),
        (Cap("GrpTRES", 2, "node", 1), Verdict.WAITS, Verdict.WAITS),
        (Cap("GrpTRESMins", 1000, "cpu", 41), Verdict.WAITS, Verdict.WAITS),
        (Cap("MaxJobsPerUser", 2, "", 2), Verdict.WAITS, Verdict.WAITS),
        (Cap("MaxJobsPerUser", 2, "", 1), Verdict.OK, Verdict.OK),
        (Cap("MaxSubmitJobsPerUser", 2, "", 2), Verdict.REFUSED, Verdict.REFUSED),
        (Cap("GrpSubmitJobs", 2, "", 1), Verdict.OK, Verdict.OK),
        (Cap("GrpWall", 100, "", 50), Verdict.WAITS, Verdict.WAITS),
    ],
)
def test_what_one_limit_does_to_a_job(cap: Cap, taken: Verdict, denied: Verdict) -> None:
    assert verdict(cap) is taken
    assert verdict(cap, flags=DENIES) is denied


@pytest.mark.parametrize("cap", [Cap("GrpTRES", 100, "cpu"), Cap("MaxJobsPerAccount", 5), Cap("GrpSubmitJobs", 9), Cap("MaxTRESPerJob", 5, "billing")])  # fmt: skip
def test_what_cannot_be_told_is_unknown_and_neither_refused_nor_granted(cap: Cap) -> None:
    (finding,) = met(with_qos(cap))
    assert finding.verdict is Verdict.UNKNOWN
    assert worst([finding]) is Verdict.OK


def test_a_shared_limit_that_is_too_small_by_itself_is_known_whatever_others_use() -> None:
    assert verdict(Cap("GrpTRES", 1, "node")) is Verdict.NEVER


def test_an_array_counts_with_each_of_its_tasks() -> None:
    wants = replace(WANTS, tasks=10)
    assert verdict(Cap("MaxSubmitJobsPerUser", 12, "", 3), wants) is Verdict.REFUSED
    assert verdict(Cap("MaxSubmitJobsPerUser", 13, "", 3), wants) is Verdict.OK


def test_jobs_that_are_taken_count_against_those_behind_them() -> None:
    """Of 9 jobs 2 are there: 4 and 3 more fit, 5 between them do not, and what is refused takes no room."""
    limits = with_qos(Cap("MaxSubmitJobsPerUser", 9, "", 2), Cap("MaxJobsPerUser", 3, "", 2))
    told = findings_in_turn([replace(WANTS, tasks=tasks) for tasks in (4, 5, 3, 1)], limits)
    assert [worst(found) for found in told] == [Verdict.OK, Verdict.REFUSED, Verdict.OK, Verdict.REFUSED]
    (full,) = [finding for finding in told[3] if finding.verdict is Verdict.REFUSED]
    assert (full.value, full.used, full.asked) == ("9", "9", "1")


def test_a_limit_of_each_account_counts_the_jobs_of_that_account() -> None:
    other = Charge("teaching", "u", "", "teaching", ("normal",))
    limits = with_qos(Cap("MaxSubmitJobsPerAccount", 2, "", 0), charges=(OWN, other, WHOLE))
    told = findings_in_turn(
        [replace(WANTS, account=name, tasks=2) for name in ("teaching", "research", "research")], limits
    )
    assert [worst(found) for found in told] == [Verdict.OK, Verdict.OK, Verdict.REFUSED]


class TestWhichCounts:
    def test_a_limit_of_the_qos_goes_before_that_of_the_association(self) -> None:
        own = replace(OWN, caps=(Cap("MaxWall", 10), Cap("MaxJobs", 1, "", 1)))
        limits = with_qos(Cap("MaxWall", 600), Cap("MaxJobsPerUser", 5, "", 1), charges=(own, WHOLE))
        assert met(limits) == []

    def test_that_of_the_partition_s_qos_before_both_unless_the_qos_says_otherwise(self) -> None:
        tight, wide = Qos("tight", (Cap("MaxWall", 10),)), Qos("normal", (Cap("MaxWall", 600),))
        rules = {"gpu": Rules("gpu", "UP", qos="tight")}
        assert (
            worst(findings(WANTS, replace(BARE, partitions=rules, qos={"normal": wide, "tight": tight})))
            is Verdict.NEVER
        )
        over = replace(wide, flags=frozenset({"OverPartQOS"}))
        assert (
            worst(findings(WANTS, replace(BARE, partitions=rules, qos={"normal": over, "tight": tight}))) is Verdict.OK
        )

    def test_group_limits_count_in_every_account_above(self) -> None:
        root = Charge("root", "", "", "", caps=(Cap("GrpTRES", 10, "cpu", 3),))
        (finding,) = met(replace(BARE, charges=(OWN, WHOLE, root)))
        assert (finding.verdict, finding.limit) == (Verdict.NEVER, "account root: GrpTRES cpu")

    @pytest.mark.parametrize(
        ("named", "default", "granted", "used"),
        [("capped", None, ("normal", "capped"), "capped"), (None, "capped", ("normal", "capped"), "capped"),
         (None, None, ("capped",), "capped"), (None, None, ("normal", "capped"), "normal")],
    )  # fmt: skip
    def test_the_qos_that_is_used(
        self, named: str | None, default: str | None, granted: tuple[str, ...], used: str
    ) -> None:
        own = replace(OWN, qos=granted, default_qos=default)
        limits = replace(BARE, charges=(own, WHOLE), qos={name: Qos(name, (Cap("MaxWall", 1),)) for name in granted})
        limits = replace(limits, qos={**limits.qos, used: Qos(used, (Cap("MaxWall", 2),))})
        assert [finding.value for finding in met(limits, replace(WANTS, qos=named))] == ["00:02:00"]

    def test_how_many_may_be_submitted_is_the_least_of_those_that_count(self) -> None:
        caps = Cap("MaxSubmitJobsPerUser", 9, "", 4.0), Cap("GrpSubmitJobs", 30)
        charge = replace(OWN, caps=(Cap("MaxSubmitJobs", 3),))
        other = Charge("teaching", "u", "", "teaching", ("normal",), caps=(Cap("MaxSubmitJobs", 5),))
        limits = with_qos(*caps, charges=(charge, other, replace(WHOLE, caps=(Cap("GrpSubmitJobs", 2),))))
        assert most_submitted(WANTS, limits) == 9, "that of the QOS counts in the place of the others"
        assert most_submitted(replace(WANTS, qos="capped"), limits) == 2
        assert most_submitted(replace(WANTS, account="teaching", qos="none such"), limits) == 5
        assert most_submitted(WANTS, replace(limits, enforced=frozenset({"associations"}))) is None
        assert most_submitted(WANTS, BARE) is None

    def test_nothing_counts_where_limits_are_not_enforced(self) -> None:
        limits = with_qos(Cap("MaxWall", 1), enforced=frozenset({"associations"}))
        assert met(limits) == []


class TestWhoAsks:
    def test_an_account_that_is_not_the_user_s(self) -> None:
        (finding,) = met(BARE, replace(WANTS, account="physics"))
        assert finding.verdict is Verdict.REFUSED
        assert str(finding) == "accounts of yours is research, asked: physics"
        assert finding.remedy == "account=research"

    def test_a_qos_that_the_account_does_not_have(self) -> None:
        (finding,) = met(BARE, replace(WANTS, qos="night"))
        assert (finding.verdict, finding.remedy) == (Verdict.REFUSED, "qos= one of capped, normal")

    def test_a_default_qos_that_cannot_be_told(self) -> None:
        limits = replace(BARE, charges=(replace(OWN, qos=("a", "b")), WHOLE))
        assert [finding.verdict for finding in met(limits)] == [Verdict.UNKNOWN]


class TestPartition:
    @pytest.mark.parametrize(
        ("rules", "name"),
        [
            ({"max_walltime_s": 1800}, "MaxTime"), ({"max_nodes": 1}, "MaxNodes"), ({"min_nodes": 3}, "MinNodes"),
            ({"max_cpus_per_node": 4}, "MaxCPUsPerNode"), ({"max_mem_per_node_mib": 1000}, "MaxMemPerNode"),
            ({"allow_accounts": ("a", "b")}, "AllowAccounts"), ({"deny_accounts": ("research",)}, "DenyAccounts"),
            ({"allow_qos": ("a",)}, "AllowQos"), ({"deny_qos": ("normal",)}, "DenyQos"), ({"allow_groups": ("staff",)}, "AllowGroups"),
        ],
    )  # fmt: skip
    def test_beyond_it_a_job_is_taken_and_never_started_or_refused(self, rules: dict[str, Any], name: str) -> None:
        limits = replace(BARE, partitions={"gpu": Rules("gpu", "UP", **rules)})
        (finding,) = met(limits)
        assert (finding.verdict, finding.limit) == (Verdict.NEVER, f"partition gpu: {name}")
        assert finding.remedy
        assert worst(met(replace(limits, refuses_beyond_partition=True))) is Verdict.REFUSED

    @pytest.mark.parametrize(
        ("state", "verdict"), [("DOWN", Verdict.WAITS), ("DRAIN", Verdict.REFUSED), ("INACTIVE", Verdict.REFUSED)]
    )
    def test_its_state(self, state: str, verdict: Verdict) -> None:
        assert worst(findings(WANTS, replace(BARE, partitions={"gpu": Rules("gpu", state)}))) is verdict

    def test_groups_that_the_door_does_not_tell_are_unknown(self) -> None:
        limits = replace(BARE, groups=None, partitions={"gpu": Rules("gpu", "UP", allow_groups=("staff",))})
        assert [finding.verdict for finding in met(limits)] == [Verdict.UNKNOWN]


class TestAsked:
    OFFER = Offer("west", "gpu", "h100", 0.0, None, None, None, Cost())

    def test_what_a_job_asks_in_the_cluster_s_terms(self) -> None:
        told = asked(
            replace(job(nodes=2, mem_bytes=3 * 1024**2), array=Array.parse("0-4")), self.OFFER, site("west"), BARE
        )
        assert told.tres == {"cpu": 2, "node": 2, "mem": 6, "gres/gpu": 8, "gres/gpu:h100": 8}
        assert (told.minutes, told.tasks, told.account) == (60, 5, site("west").account)

    def test_accounts_and_qos_are_what_the_site_calls_them(self) -> None:
        names = SiteMap(accounts={"mine": "physics-west"}, qos={"fast": "urgent"})
        there = replace(site("west"), sitemap=names)
        told = asked(replace(job(), account="mine", qos="fast"), self.OFFER, there, BARE)
        assert (told.account, told.qos) == ("physics-west", "urgent")

    def test_of_a_job_that_gets_whole_nodes_it_is_not_known_what_they_have(self) -> None:
        told = asked(replace(job(), options={"exclusive": None}), self.OFFER, site("west"), BARE)
        assert (told.count("cpu"), told.count("mem"), told.count("gres/gpu")) == (None, None, 4)

    def test_memory_that_is_not_named_is_the_partition_s_or_the_cluster_s_default_or_unknown(self) -> None:
        spec = job(nodes=2, cpus_per_task=4)
        by_partition = replace(BARE, partitions={"gpu": Rules("gpu", "UP", mem_per_cpu_mib=100)}, mem_per_node_mib=7)
        assert asked(spec, self.OFFER, site("west"), by_partition).tres["mem"] == 800
        assert asked(spec, self.OFFER, site("west"), replace(BARE, mem_per_node_mib=7)).tres["mem"] == 14
        unknown = asked(spec, self.OFFER, site("west"), BARE)
        assert unknown.count("mem") is None and unknown.mem_per_node_mib is None
        assert [finding.verdict for finding in met(with_qos(Cap("MaxTRESPerJob", 5, "mem")), unknown)] == [
            Verdict.UNKNOWN
        ]
