"""A user's limits, as each door reads them from what real clusters answered: the same limits through both."""

from __future__ import annotations

import pytest

from unit.slurm.fakes import said
from unit.slurm.replay import NEW, OLD, body_of
from westward.model.limits import Cap, Limits
from westward.slurm import limitjson, limittext, text

# the releases whose limits were captured, with what its slurmctld calls the cluster
SHELL, REST = ["22.05", "24.11", "26.05"], [OLD, NEW]
CLUSTER = "west"
# of what slurmrestd 26.05 answered to /conf
SETTINGS = {
    "AccountingStorageEnforce": ["associations", "limits", "qos"],
    "DefMemPerCPU": {"set": True, "infinite": False, "number": 1000},
    "DefMemPerNode": {"set": False, "infinite": False, "number": 0},
    "EnforcePartLimits": ["NO"],
}


def by_shell(version: str = "24.11", counted: bool = True) -> Limits:
    return limittext.limits(
        "researcher",
        "research",
        said(version, "limits_partition"),
        said(version, "config").replace("EnforcePartLimits       = NO", "EnforcePartLimits       = ALL"),
        said(version, "limits_qos"),
        said(version, "limits_assoc"),
        "researcher staff",
        said(version, "limits_assoc_mgr") if counted else None,
    )


def by_rest(release: str = OLD) -> Limits:
    def told(name: str, key: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = body_of(f"limits_{name}", release)[key]
        return found

    return limitjson.limits(
        "researcher",
        CLUSTER if release == OLD else "v2605",
        told("partitions", "partitions"),
        told("qos", "qos"),
        told("associations_user", "associations"),
        [*told("associations_account", "associations"), *told("associations_root", "associations")],
        limitjson.Own(limitjson.in_queue("researcher", told("jobs", "jobs"))),
    )


def caps(limits: Limits, qos: str = "capped") -> dict[tuple[str, str], tuple[int, float | None]]:
    return {(cap.name, cap.tres): (cap.value, cap.used) for cap in limits.qos[qos].caps}


@pytest.mark.parametrize("version", SHELL)
class TestShell:
    def test_every_limit_of_a_qos_with_what_counts_against_it(self, version: str) -> None:
        found = by_shell(version)
        assert found.qos["capped"].flags == {"DenyOnLimit"}
        assert found.qos["normal"].caps == ()
        told = caps(found)
        assert told["MaxJobsPerUser", ""] == (1, 1)
        assert told["MaxSubmitJobsPerUser", ""] == (2, 2)
        assert told["MaxTRESPerUser", "gres/gpu"] == (4, 1)
        assert told["MaxJobsPerAccount", ""] == (15, 1)
        assert told["GrpTRES", "node"] == (2, 1)
        assert told["GrpSubmitJobs", ""] == (30, 2)
        assert told["MaxWall", ""] == (60, None), "minutes, and nothing counts against it"
        assert told["MaxTRESPerJob", "cpu"] == (8, None)
        assert told["GrpWall", ""][0] == 5000
        # 22.05 does not show what counts against this one
        assert told["MaxTRESRunMinsPerUser", "cpu"][0] == 777
        assert (told["MaxTRESRunMinsPerUser", "cpu"][1] is None) == (version == "22.05")

    def test_the_users_association_and_the_accounts_above_it(self, version: str) -> None:
        of_research = [each for each in by_shell(version).charges if each.account != "teaching"]
        own, *above = of_research
        assert (own.account, own.user, own.parent, set(own.qos), own.default_qos) == (
            "research", "researcher", "research", {"capped", "normal"}, None,
        )  # fmt: skip
        told = {(cap.name, cap.tres): (cap.value, cap.used) for cap in own.caps}
        assert told["MaxJobs", ""] == (11, 2)
        assert told["MaxSubmitJobs", ""] == (12, 8), "an array counts with all its tasks"
        assert told["MaxTRESPerJob", "mem"] == (4096, None), "memory in MiB, whatever unit sacctmgr prints"
        assert told["MaxWall", ""] == (180, None), "that of the account"
        whole = {each.account: each for each in above}
        assert whole["research"].parent == "root"
        assert Cap("GrpTRES", 6, "gres/gpu", 2.0) in whole["research"].caps
        assert Cap("GrpTRES", 16384, "mem", 200.0) in whole["research"].caps

    def test_what_a_partition_asks_for(self, version: str) -> None:
        rules = by_shell(version).partitions["gpu"]
        days = 7 if version == "24.11" else 1
        assert (rules.state, rules.max_walltime_s, rules.min_nodes, rules.max_nodes) == ("UP", days * 86400, 1, 4)
        assert (rules.max_cpus_per_node, rules.max_mem_per_node_mib, rules.mem_per_cpu_mib) == (6, 12000, 1500)
        assert (rules.allow_accounts, rules.deny_accounts) == (("research", "physics"), ())
        assert (rules.allow_qos, rules.deny_qos) == ((), ("night" if version == "24.11" else "urgent",))
        assert (rules.allow_groups, rules.qos) == (("researcher", "staff"), "normal")

    def test_what_is_enforced(self, version: str) -> None:
        found = by_shell(version)
        assert found.enforced == {"associations", "limits", "qos"}
        assert found.refuses_beyond_partition is True
        assert found.groups == ("researcher", "staff")
        assert (found.default_partition, found.max_array_size) == ("gpu", 1001)
        assert found.notes == ()

    def test_where_slurmctld_shows_no_counts_they_are_unknown_and_never_zero(self, version: str) -> None:
        found = by_shell(version, counted=False)
        assert {cap.used for cap in found.qos["capped"].caps} == {None}
        assert {each.user for each in found.charges} == {"researcher"}
        assert "cannot be read" in found.notes[0]


@pytest.mark.parametrize("release", REST)
class TestRest:
    def test_the_same_limits_as_by_the_shell(self, release: str) -> None:
        rest, shell = by_rest(release), by_shell(release.removeprefix("slurm-"))
        assert {key: value for key, (value, _) in caps(rest).items()} == {
            key: value for key, (value, _) in caps(shell).items()
        }
        assert rest.qos["capped"].flags == {"DenyOnLimit"}
        assert rest.partitions == shell.partitions
        mine, theirs = (
            [each for each in told.charges if each.user and each.account == "research"] for told in (rest, shell)
        )
        for by_number, by_word in zip(mine, theirs, strict=True):
            assert {(cap.name, cap.tres, cap.value) for cap in by_number.caps} == {
                (cap.name, cap.tres, cap.value) for cap in by_word.caps
            }
            assert (by_number.account, set(by_number.qos)) == (by_word.account, set(by_word.qos))
        whole = {each.account: each for each in rest.charges if not each.user}
        assert whole["research"].parent == "root"
        assert Cap("GrpTRES", 6, "gres/gpu") in whole["research"].caps

    def test_what_is_the_users_own_is_counted_and_what_is_shared_is_unknown(self, release: str) -> None:
        told = caps(by_rest(release))
        assert told["MaxJobsPerUser", ""] == (1, 1)
        assert told["MaxSubmitJobsPerUser", ""] == (2, 2)
        assert told["MaxTRESPerUser", "gres/gpu"] == (4, 1)
        assert told["GrpTRES", "node"] == (2, None)
        assert told["MaxJobsPerAccount", ""] == (15, None)
        charge = next(each for each in by_rest(release).charges if each.account == "research")
        own = {(cap.name, cap.tres): cap.used for cap in charge.caps}
        assert (own["MaxJobs", ""], own["MaxSubmitJobs", ""]) == (2, 8)

    def test_what_cannot_be_read_is_said(self, release: str) -> None:
        found = by_rest(release)
        assert (found.groups, found.enforced, found.refuses_beyond_partition) == (None, None, None)
        assert found.default_partition == (None if release == OLD else "gpu")
        assert found.notes == (limitjson.UNSAID, limitjson.UNSHARED)


def test_a_cluster_without_accounts_has_the_limits_of_its_partitions_only() -> None:
    settings = "AccountingStorageType = accounting_storage/none\nEnforcePartLimits = NO\n"
    found = limittext.limits("u", "", said("24.11", "partition"), settings, "", "", "u", None)
    assert (found.qos, found.charges, found.notes, found.enforced) == ({}, (), (), frozenset())
    assert found.partitions


@pytest.mark.parametrize("release", [NEW])
def test_where_slurmrestd_tells_the_settings_they_count(release: str) -> None:
    told = limitjson.with_settings(by_rest(), SETTINGS)
    assert (told.enforced, told.refuses_beyond_partition) == ({"associations", "limits", "qos"}, False)
    assert (told.mem_per_cpu_mib, told.mem_per_node_mib) == (1000, None)
    assert limitjson.UNSAID not in told.notes
    assert (
        limitjson.with_settings(by_rest(), SETTINGS | {"EnforcePartLimits": ["ANY"]}).refuses_beyond_partition is True
    )
    assert limitjson.with_settings(by_rest(), {}).enforced is None


class TestTrial:
    def test_when_it_would_start_and_where(self) -> None:
        told = text.trial(
            "sbatch: Job 8 to start at 1795775218 using 14 processors on nodes west-n[1-2] in partition gpu\n"
        )
        assert told is not None
        assert (told.start, told.nodes, told.refusal) == (1795775218.0, "west-n[1-2]", "")

    def test_a_letter_that_26_05_puts_behind_the_time(self) -> None:
        told = text.trial(
            "sbatch: Job 6 to start at 1795777631 a using 1 processors on nodes v2605-n1 in partition gpu"
        )
        assert told is not None and (told.start, told.nodes) == (1795777631.0, "v2605-n1")

    def test_a_time_in_words_is_utc(self) -> None:
        told = text.trial(
            "sbatch: Job 6 to start at 2026-11-27T10:26:57 using 1 processors on nodes west-n1 in partition gpu"
        )
        assert told is not None and told.start == 1795775217.0

    def test_why_it_is_refused(self) -> None:
        said_there = (
            "sbatch: error: QOSMaxWallDurationPerJobLimit\nallocation failure: Job violates accounting/QOS policy\n"
        )
        assert text.trial(said_there) is None
        assert text.trial_refusal(said_there) == "QOSMaxWallDurationPerJobLimit: Job violates accounting/QOS policy"
