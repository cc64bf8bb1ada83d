"""The module slurm_accounts without Slurm: what values mean, what is planned, on output captured from three releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from westward.provision.ansiblecode import sacctmgr

ROOT = Path(__file__).parents[3]
RELEASES = ["22.05", "24.11", "26.05"]


KEYS, STATE, WANTED, PLAN = (sacctmgr(part) for part in ("keys", "state", "wanted", "plan"))
Entity = STATE.Entity

# what the captured databases were made from; another cluster has elsewhere and dan, and bob in zoo2; by hand
# came ann's partition low, bob in zoo, a limit of zoo11, and zoo12, which has lost its association
TREE: dict[str, Any] = {
    "cluster": "cluster",
    "qos": [
        {
            "name": "Fast",
            "parameters": {
                "Priority": 10,
                "MaxTRESPerUser": {"cpu": "1k", "mem": "10G"},
                "Flags": ["NoDecay", "denyonlimit"],
                "GraceTime": 60,
                "Preempt": "urgent",
                "PreemptMode": "REQUEUE",
                "UsageFactor": 2.5,
                "MaxWall": "90:30",
                "PreemptExemptTime": "10",
                "LimitFactor": "1.5",
                "MinTRES": "cpu=2",
                "UsageThreshold": 0.1,
                "MinPrioThreshold": 5,
                "Description": 'Fast "one", two',
            },
        },
        {"name": "urgent", "parameters": {"Priority": 1000, "MaxWall": None, "GrpTRES": "omit"}},
        {"name": "first", "parameters": {"Preempt": ["second"]}},
        {
            "name": "second",
            "parameters": {
                "MaxJobsPU": 3,
                "MaxSubmitJobsPA": 5,
                "MaxTRESRunMinsPerAccount": "cpu=7",
                "maxtrespn": "cpu=3",
            },
        },
    ],
    "accounts": [
        {"name": "root", "parameters": {"MaxJobs": 100}},
        {"name": "research", "description": "Research", "organization": "westward"},
        {"name": "teaching"},
        {
            "name": "Zoo",
            "description": "The \"Big\", 'Zoo' Dept, all",
            "organization": "Uni X, Y=Z",
            "parameters": {
                "Fairshare": 12,
                "GrpTRES": "mem=10240M,gres/gpu=4,CPU=10",
                "GrpWall": "2-0",
                "MaxWall": "24:00:00",
                "MaxTRESPerNode": "cpu=3",
            },
        },
        {"name": "zoo1", "parent": "zoo", "parameters": {"QosLevel": "normal, fast", "DefaultQOS": "Fast"}},
        {"name": "zoo2", "parent": "zoo"},
        {"name": "zoo11", "parent": "zoo1", "parameters": {"Share": "parent"}},
    ],
    "users": [
        {"name": "researcher", "accounts": ["research", "teaching"], "parameters": {"QOS": ["urgent", "normal"]}},
        {"name": "ann", "accounts": ["zoo1", "zoo11"], "admin_level": "operator", "parameters": {"MaxJobs": 0}},
        {
            "name": "bob",
            "accounts": ["zoo1", {"name": "zoo2", "parameters": {"Fairshare": 7, "QOS": "+urgent"}}],
            "default_account": "zoo2",
        },
        {
            "name": "cid",
            "accounts": ["zoo1", {"name": "zoo2", "parameters": {"Fairshare": 7, "QOS": "+urgent"}}],
            "default_account": "zoo2",
        },
    ],
}
ALL = ("qos", "account", "user")


def captured(release: str) -> Any:
    folder = ROOT / "tests/data" / f"slurm-{release}-text" / "accounting"
    return STATE.parse_state("cluster", {name: (folder / f"{name}.txt").read_text() for name in STATE.QUERIES})


def planned(state: Any, exclusive: bool = False, managed: tuple[str, ...] = ALL, **lists: Any) -> Any:
    wanted = WANTED.parse_wanted(lists)
    WANTED.check_references(wanted, state, managed if exclusive else [])
    return PLAN.make_plan("cluster", wanted, state, managed, exclusive)


def commands(plan: Any) -> list[str]:
    return [" ".join(step.argv[1:]) for step in plan.steps]


def tree_with(**changed: Any) -> dict[str, Any]:
    return {**TREE, **changed}


def account(**keys: Any) -> dict[str, Any]:
    """The tree with other parameters of zoo."""
    others = [entry for entry in TREE["accounts"] if entry["name"] != "Zoo"]
    return tree_with(accounts=[*others, {"name": "zoo", "parameters": keys}])


# --- what values mean


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[
            ("90", 5400),
            ("90:30", 5430),
            ("24:00:00", 86400),
            ("1-00:00:00", 86400),
            ("1-0", 86400),
            ("1-12:30", 131400),
        ],
        *[("-1", None), ("UNLIMITED", None)],
    ],
)
def test_a_time_is_read_in_every_form(text: str, seconds: int | None) -> None:
    assert KEYS.duration_s(text) == seconds


@given(st.integers(0, 10**9))
def test_a_time_that_is_printed_reads_the_same(seconds: int) -> None:
    assert KEYS.duration_s(KEYS.duration_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["1:2:3:4", "two", "1-", "1.5"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        KEYS.duration_s(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cpu=1,mem=10G", "MEM=10240,cpu=1"),
        ("mem=1T", "mem=1048576M"),
        ("gres/gpu:h100=2", "gres/gpu:H100=2,cpu=-1"),
        ("cpu=1k", "cpu=1024"),
    ],
)
def test_tres_are_compared_by_amount(one: str, other: str) -> None:
    assert KEYS.tres(one) == KEYS.tres(other)


@given(st.dictionaries(st.sampled_from(["cpu", "node", "gres/gpu", "billing"]), st.integers(0, 10**12)))
def test_tres_that_are_printed_read_the_same(amounts: dict[str, int]) -> None:
    assert KEYS.tres(",".join(f"{name}={amount}" for name, amount in amounts.items())) == amounts


def test_nothing_set_is_not_zero() -> None:
    key = KEYS.ASSOCIATION_KEYS["MaxJobs"]
    assert key.is_unset("") and key.is_unset("-1") and not key.is_unset("0")


# --- on captured databases


@pytest.mark.parametrize("release", RELEASES)
def test_what_the_database_was_made_from_changes_nothing(release: str) -> None:
    plan = planned(captured(release), **{key: TREE[key] for key in ("qos", "accounts", "users")})
    assert commands(plan) == [] and plan.changes == []
    assert sorted(plan.drift) == [
        "account zoo11: GrpTRES=cpu=3",
        "account zoo12",
        "user ann in account zoo1, partition low",
        "user bob in account zoo",
    ]


@pytest.mark.parametrize("release", RELEASES)
def test_exclusive_removes_what_is_not_named_in_one_go(release: str) -> None:
    plan = planned(captured(release), True, **{key: TREE[key] for key in ("qos", "accounts", "users")})
    assert commands(plan) == [
        "modify account name=zoo11 cluster=cluster set GrpTRES=cpu=-1",
        "delete user name=ann account=zoo1 cluster=cluster partition=low",
        "delete user name=bob account=zoo cluster=cluster",
        "delete account name=zoo12",
    ]


def test_what_other_clusters_use_is_left_there() -> None:
    """bob and zoo2 have associations at another cluster, which also uses the QOS urgent; dan and elsewhere are there alone."""
    plan = planned(captured("24.11"), True, qos=[], accounts=[{"name": "research"}], users=[])
    assert commands(plan) == [
        "delete user name=bob account=zoo,zoo1 cluster=cluster",
        "delete user name=bob account=zoo2 cluster=cluster",
        "delete user name=ann,cid,researcher",
        "delete account name=zoo2 cluster=cluster",
        "delete account name=teaching,zoo,zoo1,zoo11,zoo12",
        "delete qos name=fast,first,second",
    ]
    assert "qos urgent" in plan.drift and not any("dan" in text or "elsewhere" in text for text in plan.drift)


def test_a_list_that_is_left_out_is_of_no_concern() -> None:
    plan = planned(captured("24.11"), True, ("qos",), qos=TREE["qos"])
    assert commands(plan) == [] and plan.drift == []


def test_only_what_differs_of_a_limit_is_set() -> None:
    plan = planned(
        captured("24.11"),
        **account(GrpTRES="cpu=10,mem=20G", Fairshare=13, GrpWall=None, MaxWall="1-0", MaxTRESPN="cpu=3"),
    )
    assert commands(plan) == [
        "modify account name=zoo cluster=cluster set GrpTRES=mem=20480,gres/gpu=-1 Fairshare=13 GrpWall=-1"
    ]
    assert PLAN.as_text(plan.changes, after=False) == (
        "account zoo:\n  GrpTRES: cpu=10,gres/gpu=4,mem=10G\n  Fairshare: 12\n  GrpWall: 2-00:00:00\n"
    )
    assert PLAN.as_text(plan.changes, after=True) == (
        "account zoo:\n  GrpTRES: cpu=10,mem=20G\n  Fairshare: 13\n  GrpWall: (not set)\n"
    )


def test_entities_that_change_alike_take_one_call() -> None:
    users = [
        {
            "name": name,
            "accounts": ["zoo1", {"name": "zoo2", "parameters": {"Fairshare": 9, "QOS": "+urgent"}}],
            "default_account": "zoo1",
        }
        for name in ("bob", "cid")
    ]
    plan = planned(captured("24.11"), users=users)
    assert commands(plan) == [
        "modify user name=bob,cid cluster=cluster set DefaultAccount=zoo1",
        "modify user name=bob,cid account=zoo2 cluster=cluster set Fairshare=9",
    ]


def test_qos_on_top_of_the_parents_are_set_after_its_own_are_cleared() -> None:
    users = [{"name": "researcher", "accounts": ["research", "teaching"], "parameters": {"QOS": ["+fast", "-normal"]}}]
    where = "modify user name=researcher account={} cluster=cluster set QOS={}"
    assert sorted(commands(planned(captured("22.05"), users=users))) == sorted(
        where.format(account, qos) for account in ("research", "teaching") for qos in ("", "+fast,-normal")
    )


def test_an_account_is_moved_after_those_that_will_be_above_it() -> None:
    """The other order would put zoo below its own child, which hangs slurmdbd 24.11."""
    moved = [{"name": "zoo", "parent": "zoo11"}, {"name": "zoo11"}]
    assert commands(planned(captured("24.11"), accounts=moved)) == [
        "modify account name=zoo11 cluster=cluster set Parent=root",
        "modify account name=zoo cluster=cluster set Parent=zoo11",
    ]


@pytest.mark.parametrize("parents", [{"zoo": "zoo11"}, {"zoo": "zoo1", "zoo1": "zoo"}, {"zoo": "zoo"}])
def test_parents_in_a_circle_are_refused(parents: dict[str, str]) -> None:
    """Also where one of them is in the database alone."""
    with pytest.raises(WANTED.Refused, match="circle"):
        planned(captured("24.11"), accounts=[{"name": name, "parent": parent} for name, parent in parents.items()])


def test_a_modification_spares_what_the_user_has_by_partition() -> None:
    users = [{"name": "ann", "accounts": ["zoo1", "zoo11"], "parameters": {"MaxJobs": 1}}]
    assert commands(planned(captured("24.11"), users=users)) == [
        'modify user name=ann account=zoo1 cluster=cluster partition="" set MaxJobs=1',
        "modify user name=ann account=zoo11 cluster=cluster set MaxJobs=1",
    ]


def test_accounts_and_users_of_another_cluster_are_taken_in() -> None:
    plan = planned(
        captured("24.11"),
        accounts=[{"name": "elsewhere", "description": "here"}],
        users=[{"name": "dan", "accounts": ["elsewhere"], "parameters": {"MaxJobs": 2}}],
    )
    assert commands(plan) == [
        "add account name=elsewhere cluster=cluster",
        "modify account name=elsewhere cluster=cluster set Description=here",
        "add user name=dan account=elsewhere cluster=cluster DefaultAccount=elsewhere MaxJobs=2",
    ]


def test_a_new_cluster_is_registered_and_gets_everything() -> None:
    outputs = dict.fromkeys(STATE.QUERIES, "") | {
        "qos": "normal|0" + "|" * 31 + "normal\n",
        "accounts": "root||root|root\n",
    }
    state = STATE.parse_state("cluster", outputs)
    wanted = WANTED.parse_wanted({"accounts": [{"name": "b", "parent": "a"}, {"name": "a"}, {"name": "c"}]})
    plan = PLAN.make_plan("cluster", wanted, state, ALL, exclusive=True)
    assert commands(plan) == [
        "add cluster name=cluster",
        "add account name=a,c cluster=cluster",
        "add account name=b cluster=cluster Parent=a",
    ]


# --- what cannot be meant


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"qos": [{"name": "q", "parameters": {"MaxTres": "cpu"}}]}, "qos q: MaxTres: 'cpu' is not TRES=NUMBER"),
        (
            {"qos": [{"name": "q", "parameters": {"MaxWal": "1"}}]},
            "qos q: sacctmgr has no MaxWal; it has Description, Flags, GraceTime",
        ),
        (
            {"qos": [{"name": "q", "parameters": {"MaxJobs": 1, "MaxJobsPU": 2}}]},
            "qos q: MaxJobsPerUser is there twice",
        ),
        ({"accounts": [{"name": "a", "parameters": {"MaxWall": 86400}}]}, "account a: MaxWall: put the time in quotes"),
        ({"accounts": [{"name": "a", "parameters": {"GrpJobs": True}}]}, "put the word in quotes"),
        ({"accounts": [{"name": "a", "parameters": {"Parent": "b"}}]}, "account a: sacctmgr has no Parent"),
        ({"accounts": [{"name": "a b"}]}, "account 'a b': no name"),
        ({"accounts": [{"name": "a"}, {"name": "A"}]}, "account a is there twice"),
        ({"accounts": [{"name": "a", "description": "x|y"}]}, "account a: 'x|y' may hold no |"),
        ({"accounts": [{"name": "a", "parent": "nowhere"}]}, "account a: account nowhere is neither"),
        ({"accounts": [{"name": "a", "parameters": {"QOS": "+nosuch"}}]}, "account a: qos nosuch is neither"),
        ({"users": [{"name": "u", "accounts": []}]}, "user u: names none of its accounts"),
        (
            {"users": [{"name": "u", "accounts": ["zoo"], "default_account": "b"}]},
            "its default account b is none of its",
        ),
        (
            {"users": [{"name": "u", "accounts": ["zoo"], "admin_level": "boss"}]},
            "user u: 'boss' is none of None, Operator",
        ),
    ],
)
def test_variables_that_cannot_be_meant_are_refused(lists: dict[str, Any], said: str) -> None:
    with pytest.raises(WANTED.Refused) as refused:
        planned(captured("24.11"), **lists)
    assert said in str(refused.value)


def test_exclusive_does_not_remove_what_is_referred_to() -> None:
    with pytest.raises(WANTED.Refused, match="account zoo is not in the variables, so exclusive would remove it"):
        planned(captured("24.11"), True, accounts=[{"name": "zoo1", "parent": "zoo"}])


def test_jobs_are_in_the_way_of_a_removal() -> None:
    queue = "CLUSTER: cluster\n7|zoo1|ann|normal\n8_[1-3]|zoo2|bob|fast\n"
    removed = [
        Entity("user", "ann"),
        Entity("association", "bob", "zoo2"),
        Entity("association", "bob", "zoo1"),
        Entity("qos", "fast"),
    ]
    assert PLAN.in_the_way(removed, queue) == [
        "user ann (job 7)",
        "user bob in account zoo2 (job 8_[1-3])",
        "qos fast (job 8_[1-3])",
    ]
