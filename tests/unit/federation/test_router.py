"""Where a job goes and why: the same choice each time, and a reason for every other site."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from unit.federation.worlds import NOW, catalogue, cluster, figure, full, job, node, site, snapshot, wants
from westward.errors import NoSiteFits, NotFound, Unreachable
from westward.federation.router import chosen_offer, route, route_all
from westward.jobs.template import compose_job
from westward.model.accelerators import ComputeDemand
from westward.model.decision import TERMS, Decision, Policy
from westward.model.job import JobSpec
from westward.model.site import Catalogue, ClusterState, Power, Prices, Site

PLAIN = Policy("plain", dict.fromkeys(TERMS, 1.0), carbon_price_per_kg=0.1, waiting_price_per_h=20.0)
REGION = "yangtze-river-delta"
TWO = catalogue(site("east", rent=10), site("west", rent=8))


def decide(
    spec: JobSpec | None = None,
    known: Catalogue = TWO,
    clusters: dict[str, ClusterState] | None = None,
    silent: dict[str, str] | None = None,
    policy: Policy = PLAIN,
    only_site: str | None = None,
) -> Decision:
    if clusters is None:
        clusters = {name: cluster() for name in known.sites if name not in (silent or {})}
    return route(spec or job(), policy, REGION, known, snapshot(clusters, silent), NOW, only_site)


def shipped(name: str) -> Policy:
    return compose_job("gemm", [f"policy={name}"]).policy


class TestChoice:
    def test_the_cheapest_offer_is_chosen_and_the_rest_is_ranked(self) -> None:
        decision = decide()
        assert [offer.site for offer in decision.offers] == ["west", "east"]
        assert decision.chosen is decision.offers[0]
        assert not decision.overridden

    def test_an_offer_by_hand(self) -> None:
        """One hour of 4 H100 (700 W) and one CPU (10 W) at PUE 1.2: 3.372 kWh."""
        chosen = chosen_offer(decide(known=catalogue(site("west", rent=8))))
        assert (chosen.partition, chosen.chip, chosen.start_in_s, chosen.rtt_ms) == ("gpu", "h100", 0.0, 24.3)
        assert chosen.energy_kwh == pytest.approx(3.372)
        assert chosen.carbon_kg == pytest.approx(3.372 * 0.6)
        assert chosen.cost.compute == pytest.approx(4 * 8 + 0.05)
        assert chosen.cost.energy == pytest.approx(3.372 * 0.5)
        assert chosen.cost.carbon == pytest.approx(3.372 * 0.6 * 0.1)
        assert chosen.cost.total == pytest.approx(sum(getattr(chosen.cost, term) for term in TERMS))

    def test_what_is_priced_is_the_time_limit_that_slurm_will_keep(self) -> None:
        """Slurm rounds a limit up to whole minutes, and so does the script; 61 s cost what 120 s cost."""
        one, two = (chosen_offer(decide(job(walltime_s=seconds))) for seconds in (61, 120))
        assert one.energy_kwh == pytest.approx(two.energy_kwh)
        assert one.cost.total == pytest.approx(two.cost.total)

    def test_equal_costs_go_to_the_earlier_start(self) -> None:
        no_wait = replace(PLAIN, waiting_price_per_h=0.0)
        clusters = {"a": cluster(full("n1"), ends={"n1": 600}), "b": cluster()}
        decision = decide(known=catalogue(site("a"), site("b")), clusters=clusters, policy=no_wait)
        assert [offer.site for offer in decision.offers] == ["b", "a"]

    def test_equal_offers_go_to_the_first_name(self) -> None:
        assert [offer.site for offer in decide(known=catalogue(site("b"), site("a"))).offers] == ["a", "b"]

    @settings(deadline=None, max_examples=40)
    @given(
        order=some.permutations(["a", "b", "c", "d", "e"]),
        rents=some.lists(some.sampled_from([7.0, 8.0]), min_size=5, max_size=5),
    )
    def test_the_order_of_the_sites_decides_nothing(self, order: list[str], rents: list[float]) -> None:
        sites = {name: site(name, rent=rent) for name, rent in zip("abcde", rents, strict=True)}
        clusters = {name: cluster() for name in order}
        shuffled = decide(known=catalogue(*(sites[name] for name in order)), clusters=clusters)
        assert shuffled == decide(known=catalogue(*sites.values()))

    def test_a_site_is_listed_once_with_its_best_partition(self) -> None:
        state = cluster(node("n1"), full("n2", partitions=("slow",)), ends={"n2": 600})
        state = replace(state, partitions=(replace(state.partitions[0], name="slow"), state.partitions[0]))
        decision = decide(known=catalogue(site("west")), clusters={"west": state})
        assert [(offer.site, offer.partition) for offer in decision.offers] == [("west", "gpu")]

    def test_a_site_with_two_chips_makes_two_offers_and_the_policy_ranks_them(self) -> None:
        state = cluster(node("n1", accelerators={"a100": 8}), node("n2"))
        prices = replace(site("west").prices, accelerator_hour={"a100": figure(3), "h100": figure(8)})
        known = catalogue(replace(site("west"), prices=prices), site("east", rent=7))
        decision = decide(job("any:4"), known, {"west": state, "east": cluster()})
        assert [(offer.site, offer.chip) for offer in decision.offers] == [
            ("west", "a100"),
            ("east", "h100"),
            ("west", "h100"),
        ]
        assert decision.chosen is decision.offers[0]
        assert (
            chosen_offer(decide(job("any:4"), known, {"west": state, "east": cluster()}, only_site="west")).chip
            == "a100"
        )

    def test_compute_is_priced_by_what_it_became(self) -> None:
        """2 PFLOPS: 3 H100 at 8 or 7 A100 at 3; the rent of an hour decides, and the energy is that of each board."""
        state = cluster(node("n1", accelerators={"a100": 8}), node("n2"))
        prices = replace(site("west").prices, accelerator_hour={"a100": figure(3), "h100": figure(8)})
        asked = replace(
            job(None), resources=wants(None, compute=ComputeDemand.parse("2PFLOPS@bf16"), nodes_given=False)
        )
        decision = decide(asked, catalogue(replace(site("west"), prices=prices)), {"west": state})
        assert [str(offer.granted) for offer in decision.offers] == [
            "2PFLOPS@bf16 = 7 x a100 (312 TFLOPS each, 2.184 PFLOPS) on 1 node",
            "2PFLOPS@bf16 = 3 x h100 (989.5 TFLOPS each, 2.969 PFLOPS) on 1 node",
        ]
        assert [offer.cost.compute for offer in decision.offers] == pytest.approx([7 * 3 + 0.05, 3 * 8 + 0.05])
        assert [offer.energy_kwh for offer in decision.offers] == pytest.approx(
            [(7 * 400 + 10) / 1000 * 1.2, (3 * 700 + 10) / 1000 * 1.2]
        )

    def test_a_site_without_a_known_peak_says_so(self) -> None:
        asked = replace(
            job(None), resources=wants(None, compute=ComputeDemand.parse("2PFLOPS@bf16"), nodes_given=False)
        )
        decision = decide(
            asked,
            catalogue(site("old"), site("west")),
            {"old": cluster(node(accelerators={"k80": 4})), "west": cluster()},
        )
        assert [offer.site for offer in decision.offers] == ["west"]
        assert [rejection.reason for rejection in decision.rejections] == [
            "gpu: no chip here has a known bf16 peak; it has k80 (unknown)"
        ]

    def test_any_chip_goes_to_one_that_has_a_price(self) -> None:
        """Both kinds of nodes are free; what the site charges for one of them is known."""
        state = cluster(node("n1", accelerators={"b200": 4}), node("n2"))
        assert chosen_offer(decide(job("any:4"), catalogue(site("west")), {"west": state})).chip == "h100"

    def test_any_chip_goes_to_the_one_that_the_policy_prefers(self) -> None:
        both = site("west", rent=5)
        dear = replace(both.prices.accelerator_hour["h100"], value=50.0)
        both = replace(
            both, prices=replace(both.prices, accelerator_hour={**both.prices.accelerator_hour, "a100": dear})
        )
        state = cluster(node("n1", accelerators={"a100": 4}), node("n2"))
        assert chosen_offer(decide(job("any:4"), catalogue(both), {"west": state})).chip == "h100"

    def test_the_decision_says_what_it_rests_on(self) -> None:
        clusters = {"east": replace(cluster(), taken_at=NOW - timedelta(seconds=7)), "west": cluster()}
        decision = decide(clusters=clusters)
        assert decision.snapshot_age_s == 7
        assert decision.catalogue_digest == TWO.digest
        assert (decision.currency, decision.region, decision.decided_at) == ("CNY", REGION, NOW)

    def test_an_unknown_region_has_no_round_trip(self) -> None:
        decision = route(job(), PLAIN, "mars", TWO, snapshot({"east": cluster(), "west": cluster()}), NOW)
        assert {offer.rtt_ms for offer in decision.offers} == {None}


class TestMany:
    def test_each_is_as_if_it_were_alone_and_equals_share_a_decision(self) -> None:
        known = catalogue(site("west"), site("east", rent=1.0))
        state = snapshot({"west": cluster(), "east": cluster(max_walltime_s=7200)})
        jobs = [
            (replace(job(walltime_s=hours * 3600), name=name), shipped(policy), region)
            for name in ("a", "b")
            for hours in (1, 3)
            for policy in ("cheapest", "soonest")
            for region in ("ningxia", "elsewhere")
        ]
        made = route_all(jobs, known, state, NOW)
        assert made == [route(*each, known, state, NOW) for each in jobs]
        assert {one.chosen.site for one in made if one.chosen} == {"west", "east"}
        assert len({id(one) for one in made}) == len(jobs) // 2

    def test_a_site_that_is_named_is_named_for_all(self) -> None:
        known = catalogue(site("west"), site("east"))
        state = snapshot({"west": cluster(), "east": cluster()})
        (made,) = route_all([(job(), shipped("cheapest"), "ningxia")], known, state, NOW, "west")
        assert made.overridden and made.chosen is not None and made.chosen.site == "west"


class TestLatency:
    """A bound on the round trip between the user's region and the site."""

    def test_a_site_that_is_too_far_is_out_with_its_figure(self) -> None:
        spec, state = replace(job(), max_rtt_ms=20.0), snapshot({"west": cluster()})
        decision = route(spec, shipped("cheapest"), "yangtze-river-delta", catalogue(site("west")), state, NOW)
        assert [item.reason for item in decision.rejections] == [
            "its round trip from yangtze-river-delta is 24.3 ms (estimated), at most 20 ms was asked for"
        ]
        near = route(spec, shipped("cheapest"), "ningxia", catalogue(site("west")), state, NOW)
        assert near.chosen is not None and near.chosen.site == "west"

    def test_an_unknown_round_trip_is_too_far(self) -> None:
        spec, state = replace(job(), max_rtt_ms=1e6), snapshot({"west": cluster()})
        decision = route(spec, shipped("cheapest"), "mars", catalogue(site("west")), state, NOW)
        assert "its round trip from mars is unknown" in decision.rejections[0].reason

    def test_jobs_with_another_bound_share_no_decision(self) -> None:
        jobs = [
            (replace(job(), max_rtt_ms=bound), shipped("cheapest"), "yangtze-river-delta")
            for bound in (None, 20.0, 30.0)
        ]
        found = route_all(jobs, catalogue(site("west")), snapshot({"west": cluster()}), NOW)
        assert [bool(decision.chosen) for decision in found] == [True, False, True]


class TestPolicies:
    """One catalogue in which every aim is met by another site."""

    KNOWN = catalogue(
        site("cheap", rent=5, kg=0.9),
        site("green", rent=9, kg=0.05, kwh=0.8),
        site("quick", rent=12, kg=0.8, kwh=0.9),
        site("middle", rent=6.2, kg=0.3),
    )

    @pytest.mark.parametrize(
        ("policy", "winner"),
        [("cheapest", "cheap"), ("greenest", "green"), ("soonest", "quick"), ("balanced", "middle")],
    )
    def test_each_shipped_policy_has_its_own_winner(self, policy: str, winner: str) -> None:
        waits = {"cheap": 7200.0, "green": 7200.0, "middle": 1800.0}
        clusters = {name: cluster(full("n1"), ends={"n1": wait}) for name, wait in waits.items()}
        decision = decide(known=self.KNOWN, clusters={**clusters, "quick": cluster()}, policy=shipped(policy))
        assert decision.policy == policy
        assert chosen_offer(decision).site == winner

    def test_soonest_takes_the_cheapest_of_equal_starts(self) -> None:
        assert chosen_offer(decide(known=self.KNOWN, policy=shipped("soonest"))).site == "cheap"


class TestNamedSite:
    def test_it_is_chosen_though_another_is_better(self) -> None:
        decision = decide(only_site="east")
        assert chosen_offer(decision, "east").site == "east"
        assert decision.overridden
        assert [offer.site for offer in decision.offers] == ["west", "east"], "the ranking stays visible"

    def test_it_is_not_chosen_where_the_job_cannot_run(self) -> None:
        decision = decide(clusters={"east": cluster(up=False), "west": cluster()}, only_site="east")
        assert decision.chosen is None
        with pytest.raises(NoSiteFits, match=r"site 'east'(.|\n)*gpu: is not up") as caught:
            chosen_offer(decision, "east")
        assert "westward site show east" in caught.value.next_step
        assert "--site" in caught.value.next_step

    def test_it_is_known_or_the_known_ones_are_said(self) -> None:
        with pytest.raises(NotFound, match="'north'") as caught:
            decide(only_site="north")
        assert "east, west" in caught.value.next_step


class TestRejections:
    def test_a_silent_site_is_marked_with_what_went_wrong(self) -> None:
        decision = decide(silent={"west": "nobody answers at http://west"})
        assert [(out.site, out.reason, out.reachable) for out in decision.rejections] == [
            ("west", "nobody answers at http://west", False)
        ]
        assert chosen_offer(decision).site == "east"

    def test_where_no_site_fits_every_reason_is_said(self) -> None:
        clusters = {"b": cluster(up=False), "c": cluster(max_walltime_s=60), "d": cluster(max_nodes=0)}
        known = catalogue(*(site(name) for name in "abcd"))
        decision = decide(known=known, clusters=clusters, silent={"a": "no answer"})
        with pytest.raises(NoSiteFits) as caught:
            chosen_offer(decision)
        assert caught.value.exit_code == 3
        for words in ("a: no answer", "b: gpu: is not up", "c: gpu: time limit", "d: gpu: allows 0 nodes"):
            assert words in str(caught.value)
        assert "westward site show b" in caught.value.next_step

    def test_where_all_are_silent_they_are_unreachable(self) -> None:
        with pytest.raises(Unreachable, match=r"(?s)east: gone.*west: gone too") as caught:
            chosen_offer(decide(clusters={}, silent={"east": "gone", "west": "gone too"}))
        assert caught.value.exit_code == 4
        assert caught.value.next_step.endswith("westward site check")

    def test_where_the_one_that_was_named_is_silent_its_doors_are_to_be_looked_at(self) -> None:
        with pytest.raises(Unreachable, match="site 'west' cannot be reached:\n  west: gone") as caught:
            chosen_offer(decide(silent={"west": "gone"}, only_site="west"), "west")
        assert caught.value.next_step.endswith("westward site check west")

    def test_every_partition_s_reason_is_in_it(self) -> None:
        state = cluster(up=False)
        state = replace(state, partitions=(*state.partitions, replace(state.partitions[0], name="long")))
        (rejection,) = decide(known=catalogue(site("west")), clusters={"west": state}).rejections
        assert rejection.reason == "gpu: is not up; long: is not up"

    def test_a_job_on_cpus_needs_no_price_of_a_chip(self) -> None:
        assert chosen_offer(decide(job(None), catalogue(site("west", chip="a100")))).chip is None


def bare(name: str) -> Site:
    """A site as `westward site add` leaves it: nothing is known of its costs."""
    return replace(site(name), prices=Prices(), power=Power())


class TestUnknown:
    """What nobody knows is never taken for zero, and never a reason to refuse a researcher's only cluster."""

    def test_the_only_cluster_is_chosen_though_nothing_is_known_of_its_costs(self) -> None:
        decision = decide(known=replace(catalogue(bare("mine")), currency=None))
        chosen = chosen_offer(decision)
        assert (chosen.site, chosen.start_in_s, chosen.chip) == ("mine", 0.0, "h100")
        assert (chosen.energy_kwh, chosen.carbon_kg, chosen.cost.total) == (None, None, None)
        assert chosen.cost.unknown == ("compute", "energy", "carbon")
        assert decision.currency is None

    def test_an_unknown_cost_comes_after_every_known_one(self) -> None:
        decision = decide(known=catalogue(bare("a"), site("dear", rent=1000), site("cheap", rent=1)))
        assert [offer.site for offer in decision.offers] == ["cheap", "dear", "a"]

    def test_among_unknown_costs_the_earliest_start_then_the_name(self) -> None:
        clusters = {"a": cluster(full("n1"), ends={"n1": 60}), "b": cluster(full("n1")), "c": cluster(), "d": cluster()}
        decision = decide(known=catalogue(*map(bare, "abcd")), clusters=clusters)
        assert [(offer.site, offer.start_in_s) for offer in decision.offers] == [
            ("c", 0.0),
            ("d", 0.0),
            ("a", 60.0),
            ("b", None),
        ]

    @pytest.mark.parametrize(("policy", "known"), [("cheapest", False), ("greenest", True), ("soonest", False)])
    def test_what_has_no_weight_need_not_be_known(self, policy: str, known: bool) -> None:
        """Without a price the greenest site can still be told; without a carbon figure it cannot."""
        unpriced = replace(site("west"), prices=Prices(), power=replace(site("west").power, price_per_kwh=None))
        total = chosen_offer(decide(known=catalogue(unpriced), policy=shipped(policy))).cost.total
        assert (total is not None) is known

    def test_a_chip_without_a_price_makes_the_rent_unknown_and_nothing_else(self) -> None:
        chosen = chosen_offer(decide(job("any:4"), catalogue(site("west", chip="a100"))))
        assert chosen.cost.unknown == ("compute",)
        assert chosen.energy_kwh == pytest.approx(3.372)

    def test_a_chip_that_is_not_in_the_catalogue_has_an_unknown_power(self) -> None:
        state = cluster(node(accelerators={"b9000": 4}))
        chosen = chosen_offer(decide(job("any:4"), catalogue(site("west", chip="b9000")), {"west": state}))
        assert (chosen.chip, chosen.energy_kwh, chosen.carbon_kg) == ("b9000", None, None)
        assert chosen.cost.unknown == ("energy", "carbon")

    def test_nodes_that_are_taken_until_nobody_knows_when_are_waited_for(self) -> None:
        taken = {"a": cluster(full("n1")), "b": cluster(full("n1"), ends={"n1": 100 * 3600})}
        no_wait = replace(PLAIN, waiting_price_per_h=0.0)
        decision = decide(known=catalogue(site("a"), site("b")), clusters=taken, policy=no_wait)
        assert [offer.site for offer in decision.offers] == ["b", "a"]
        assert decision.offers[1].cost.total == decision.offers[0].cost.total, "waiting has no price: it costs nothing"

    def test_where_waiting_has_a_price_an_unknown_start_has_an_unknown_cost(self) -> None:
        chosen = chosen_offer(decide(known=catalogue(site("a")), clusters={"a": cluster(full("n1"))}))
        assert chosen.start_in_s is None
        assert chosen.cost.unknown == ("waiting",)

    def test_of_equal_partitions_the_default_one(self) -> None:
        state = cluster(node(partitions=("debug", "gpu")))
        state = replace(
            state,
            partitions=(
                replace(state.partitions[0], name="debug", default=False),
                replace(state.partitions[0], default=True),
            ),
        )
        for known in (site("west"), bare("west")):
            assert chosen_offer(decide(known=catalogue(known), clusters={"west": state})).partition == "gpu"

    @settings(deadline=None, max_examples=60)
    @given(
        order=some.permutations(["a", "b", "c", "d", "e"]),
        known=some.lists(some.booleans(), min_size=5, max_size=5),
        starts=some.lists(some.sampled_from([0.0, 60.0, None]), min_size=5, max_size=5),
    )
    def test_the_choice_is_the_same_in_any_order(
        self, order: list[str], known: list[bool], starts: list[float | None]
    ) -> None:
        sites = {name: site(name) if is_known else bare(name) for name, is_known in zip("abcde", known, strict=True)}

        def state(start: float | None) -> ClusterState:
            return cluster() if start == 0 else cluster(full("n1"), ends={} if start is None else {"n1": start})

        clusters = {name: state(start) for name, start in zip("abcde", starts, strict=True)}
        decision = decide(known=catalogue(*(sites[name] for name in order)), clusters=clusters)
        assert decision == decide(known=catalogue(*sites.values()), clusters=clusters)
        totals = [offer.cost.total for offer in decision.offers]
        firm = [total for total in totals if total is not None]
        assert firm == sorted(firm)
        assert totals[: len(firm)] == firm, "no known cost after an unknown one"


class TestCurrencies:
    """The policy's own prices are in one currency, what the sites charge in another; nothing here converts."""

    ABROAD = replace(TWO, currency="EUR")
    BUSY = {"east": cluster(full("n1"), ends={"n1": 3600}), "west": cluster()}  # noqa: RUF012

    def test_prices_in_another_currency_are_unknown_and_the_note_says_how_to_set_them(self) -> None:
        decision = decide(known=self.ABROAD, clusters=self.BUSY, policy=shipped("balanced"))
        east = next(offer for offer in decision.offers if offer.site == "east")
        assert east.cost.unknown == ("carbon", "waiting")
        assert decision.currency == "EUR"
        (note,) = decision.notes
        assert "in CNY (carbon_price_per_kg=0.1, waiting_price_per_h=20), the sites charge in EUR" in note
        assert "currency=EUR carbon_price_per_kg=... waiting_price_per_h=..." in note

    def test_once_they_are_set_they_count(self) -> None:
        said = ["policy=balanced", "currency=EUR", "carbon_price_per_kg=0.08", "waiting_price_per_h=3"]
        policy = compose_job("gemm", said).policy
        decision = decide(known=self.ABROAD, clusters=self.BUSY, policy=policy)
        assert [offer.cost.unknown for offer in decision.offers] == [(), ()]
        assert max(offer.cost.waiting or 0.0 for offer in decision.offers) == pytest.approx(3.0)
        assert decision.notes == ()

    def test_what_costs_nothing_costs_nothing_in_any_currency(self) -> None:
        """Both can start now, so that the price of waiting does not matter."""
        decision = decide(known=self.ABROAD, policy=shipped("soonest"))
        assert [offer.cost.unknown for offer in decision.offers] == [(), ()]
        assert decision.notes == ()

    def test_what_has_no_weight_is_not_missed(self) -> None:
        decision = decide(known=self.ABROAD, clusters=self.BUSY, policy=shipped("cheapest"))
        assert [offer.cost.unknown for offer in decision.offers] == [(), ()]
        assert (decision.currency, decision.notes) == ("EUR", ())

    def test_where_nothing_that_a_site_charges_has_weight_costs_are_in_the_policy_s_own(self) -> None:
        green = catalogue(site("east", kg=0.9), site("west", kg=0.1))
        decision = decide(known=replace(green, currency="EUR"), policy=shipped("greenest"))
        assert (decision.currency, decision.notes) == ("CNY", ())
        assert chosen_offer(decision).cost.total == pytest.approx(3.372 * 0.1 * 0.1)

    def test_where_the_sites_charge_in_the_same_nothing_changes(self) -> None:
        decision = decide(clusters=self.BUSY, policy=shipped("balanced"))
        assert (decision.currency, decision.notes) == ("CNY", ())
        assert [offer.cost.unknown for offer in decision.offers] == [(), ()]


def test_the_weights_stand_beside_the_costs() -> None:
    """A term of 0.0 is one without weight there, and no known zero."""
    unknown = replace(site("west"), power=replace(site("west").power, carbon_kg_per_kwh=None))
    decision = decide(known=catalogue(unknown), policy=shipped("cheapest"))
    assert (chosen_offer(decision).cost.carbon, chosen_offer(decision).carbon_kg) == (0.0, None)
    assert decision.weights == {"compute": 1, "energy": 1, "carbon": 0, "transfer": 1, "waiting": 0, "lateness": 1}
