"""What a cluster says of itself: by each door, as a description, and against one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.catalogue.answering import ACCOUNT, Answering, Doors
from unit.federation.worlds import cluster, node
from westward.catalogue import reach
from westward.catalogue.survey import (
    Answer,
    Refusal,
    Wishes,
    ask,
    concerns,
    describe,
    provisional,
)
from westward.errors import InputError, Unreachable
from westward.model.site import Door, NativeDoor, Power, Prices, RestDoor, ShellDoor, Site

SSH, REST = ShellDoor("login.west", "u17"), RestDoor("https://gate.west", "u17", None, ("renew",))
HERE = Wishes("ningxia")


@pytest.fixture(autouse=True)
def no_wires(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clusters are in memory: there is no way to them to be measured."""
    monkeypatch.setattr(reach, "writable", lambda door, directory: True)
    monkeypatch.setattr(reach, "round_trip_s", lambda door: 0.02)


def answers(*doors: tuple[Door, Answering]) -> list[Answer]:
    said = ask(provisional("west", [door for door, _ in doors]), Doors(dict(doors)))
    assert all(isinstance(each, Answer) for each in said)
    return [each for each in said if isinstance(each, Answer)]


def described(found: Answering | None = None, wishes: Wishes = HERE) -> Site:
    return describe("west", answers((SSH, found or Answering())), wishes)


class TestAsk:
    def test_each_door_is_tried_on_its_own(self) -> None:
        gone = Unreachable("nobody answers")
        said = ask(provisional("west", [REST, SSH]), Doors({REST: gone, SSH: Answering()}))
        assert said[0] == Refusal(REST, gone)
        assert isinstance(said[1], Answer)
        assert said[1].door == SSH

    def test_another_cluster_is_not_a_second_door(self) -> None:
        other = Answering(replace(ACCOUNT, cluster="east"))
        said = ask(provisional("west", [SSH, REST]), Doors({SSH: Answering(), REST: other}))
        assert isinstance(said[1], Refusal)
        assert "'east', not to 'west'" in str(said[1].error)

    def test_another_user_is_not_a_second_door(self) -> None:
        other = Answering(replace(ACCOUNT, user="u18"))
        said = ask(provisional("west", [SSH, REST]), Doors({SSH: Answering(), REST: other}))
        assert isinstance(said[1], Refusal)
        assert "'u18'" in str(said[1].error)

    def test_a_described_site_that_is_now_another_cluster_is_not_entered(self) -> None:
        (said,) = ask(described(), Doors({SSH: Answering(replace(ACCOUNT, cluster="new"))}))
        assert isinstance(said, Refusal)

    @pytest.mark.parametrize("ahead", [-30.0, 0.0, 30.0])
    def test_the_clock_is_compared_without_the_way_to_it(self, ahead: float) -> None:
        (answer,) = answers((SSH, Answering(ahead_s=ahead, takes_s=0.04)))
        assert answer.clock_skew_s == pytest.approx(ahead, abs=0.02)

    def test_a_door_without_a_clock_has_no_skew(self) -> None:
        assert answers((SSH, Answering(ahead_s=None)))[0].clock_skew_s is None


class TestDescribe:
    def test_what_the_cluster_says_and_nothing_else(self) -> None:
        site = described(Answering(state_=cluster(node("n1"), node("n2"), max_walltime_s=3600, default=True)))
        assert (site.name, site.cluster, site.root, site.account, site.qos) == (
            "west",
            "west",
            "/home/u17",
            "physics",
            None,
        )
        assert (site.region, site.place, site.prices, site.power) == ("unknown", "unknown", Prices(), Power())
        assert site.mpi == "pmix"
        assert site.doors == (SSH,)
        assert site.observed is not None
        (partition,) = site.observed.partitions
        assert (partition.nodes, partition.max_walltime_s, partition.default) == (2, 3600, True)
        assert partition.accelerators == {"h100": 8}
        assert site.observed.accounts == ACCOUNT.associations

    def test_the_round_trip_is_a_figure_with_its_source(self) -> None:
        rtt = described().links["ningxia"].rtt_ms
        assert rtt.value == 20
        assert not rtt.estimated
        assert "measured by westward site add" in rtt.source
        assert "ssh://u17@login.west" in rtt.source

    @pytest.mark.parametrize("here", [ShellDoor(), NativeDoor()], ids=str)
    def test_what_is_on_this_host_was_not_measured_and_says_so(self, here: Door) -> None:
        site = describe("west", answers((here, Answering())), HERE)
        rtt = site.links["ningxia"].rtt_ms
        assert (rtt.value, rtt.estimated) == (0, True)
        assert rtt.source.startswith("not measured")

    def test_a_round_trip_that_cannot_be_measured_is_unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reach, "round_trip_s", lambda door: None)
        assert described().links == {}

    def test_what_one_door_cannot_tell_another_may(self) -> None:
        rest = Answering(replace(ACCOUNT, home=None, mpi=()), ahead_s=None)
        shell = Answering(state_=cluster(default=True))
        site = describe("west", answers((REST, rest), (SSH, shell)), HERE)
        assert (site.root, site.mpi) == ("/home/u17", "pmix")
        assert site.observed is not None
        assert site.observed.partitions[0].default is True
        assert site.observed.clock_skew_s is not None

    def test_wishes_come_first(self) -> None:
        site = described(wishes=Wishes("mars", "/scratch/u17/", "teaching", "normal", "pmi2"))
        assert (site.root, site.account, site.qos, site.mpi) == ("/scratch/u17", "teaching", "normal", "pmi2")
        assert set(site.links) == {"mars"}

    @pytest.mark.parametrize(
        ("wishes", "step"),
        [
            (Wishes("x", account="chemistry"), "physics, teaching"),
            (Wishes("x", qos="night"), "long, normal"),
            (Wishes("x", account="teaching", qos="long"), "normal"),
        ],
    )
    def test_a_wish_that_the_cluster_does_not_grant_is_refused(self, wishes: Wishes, step: str) -> None:
        with pytest.raises(InputError) as caught:
            described(wishes=wishes)
        assert step in caught.value.next_step

    def test_without_a_home_directory_a_root_is_asked_for(self) -> None:
        nowhere = Answering(replace(ACCOUNT, home=None))
        with pytest.raises(InputError) as caught:
            described(nowhere)
        assert "--root" in caught.value.next_step
        assert described(nowhere, Wishes("x", root="/project/u17")).root == "/project/u17"

    def test_a_cluster_without_accounts_gets_none(self) -> None:
        site = described(Answering(replace(ACCOUNT, default_account=None, associations=())), Wishes("x"))
        assert site.account is None

    @pytest.mark.parametrize(
        ("known", "chosen"), [(("none", "pmix_v5"), "pmix_v5"), (("pmi2", "none"), None), ((), None)]
    )
    def test_mpi_is_pmix_or_nothing(self, known: tuple[str, ...], chosen: str | None) -> None:
        """Under pmi2 an Open MPI program starts as many programs of one process: that is not to be guessed."""
        assert described(Answering(replace(ACCOUNT, mpi=known))).mpi == chosen


class TestConcerns:
    def told(self, found: Answering, site: Site | None = None) -> list[str]:
        before = site or described(Answering(state_=cluster(max_walltime_s=7200, default=True)))
        said = ask(before, Doors({SSH: found}))
        return concerns(before, [each for each in said if isinstance(each, Answer)])

    def test_nothing_where_nothing_has_changed(self) -> None:
        assert self.told(Answering(state_=cluster(max_walltime_s=7200, default=True))) == []

    def test_a_clock_that_is_wrong(self) -> None:
        site = described(Answering(ahead_s=-60))
        (said,) = self.told(Answering(ahead_s=-60), site)
        assert "1 min behind this host's" in said

    def test_a_partition_that_is_gone_and_one_that_is_new(self) -> None:
        said = self.told(Answering(state_=cluster(node(partitions=("big",)), name="big")))
        gone, new = said
        assert gone.startswith("the partition 'gpu' of 20")
        assert gone.endswith(" is gone")
        assert new.startswith("the partition 'big' was not there on 20")

    def test_a_limit_and_accelerators_that_have_changed(self) -> None:
        state = cluster(node(accelerators={"h100": 8}), max_walltime_s=3600, default=True)
        (said,) = self.told(Answering(state_=state))
        assert "time limit 01:00:00 (was 02:00:00)" in said
        assert "h100 x 8 (was h100 x 4)" in said

    def test_an_upgrade(self) -> None:
        state = replace(cluster(max_walltime_s=7200, default=True), version="26.05.5")
        (said,) = self.told(Answering(state_=state))
        assert said.startswith("Slurm is now 26.05.5 (was 24.11.5")

    def test_an_account_or_a_qos_that_was_taken_away(self) -> None:
        site = described(wishes=Wishes("x", account="physics", qos="long"))
        less = replace(ACCOUNT, associations=ACCOUNT.associations[1:])
        assert self.told(Answering(less), site)[0].startswith("'u17' may no longer charge the account 'physics'")
        fewer = replace(ACCOUNT.associations[0], qos=("normal",))
        (said,) = self.told(Answering(replace(ACCOUNT, associations=(fewer,))), site)
        assert said.startswith("'u17' may no longer use the QOS 'long'")

    @pytest.mark.parametrize(("writes", "count"), [(True, 0), (None, 0), (False, 1)])
    def test_a_root_that_cannot_be_written(
        self, writes: bool | None, count: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reach, "writable", lambda door, directory: writes)
        assert len(self.told(Answering(), described())) == count

    def test_a_site_written_by_hand_has_nothing_to_compare(self) -> None:
        assert self.told(Answering(state_=cluster(name="other")), replace(described(), observed=None)) == []
