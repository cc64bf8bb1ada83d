"""What people see: whatever a user, a job or a site says is shown, and neither taken for markup nor for commands to a terminal."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from unit.federation.worlds import NOW, catalogue, cluster, figure, full, job, node, site, snapshot
from westward.cli.show import (
    decision_facts,
    decision_table,
    granted_text,
    printable,
    reason,
    record_table,
    say_error,
    tell_notes,
)
from westward.errors import InputError
from westward.federation.router import route
from westward.jobs.template import compose_job
from westward.model.decision import TERMS, Decision, Policy, Rejection
from westward.model.site import ClusterState, Power, Prices, Site

MARKUP = "[bold red]x[/] [/nope] [link=http://evil]y"
ESCAPES = "a\x1b[31mred\x1b]0;title\x07\x9b5m\r\nb\u202ec"


def shown(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=300, force_terminal=False, color_system=None).print(table)
    return out.getvalue()


def decided(**more: object) -> Decision:
    policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
    known = catalogue(site("east", rent=10), site("west", rent=8))
    made = route(job(), policy, "ningxia", known, snapshot({"east": cluster(), "west": cluster()}), NOW)
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["plain", "größe 训练", "it's [bold]", "a b"])
def test_ordinary_text_is_printed_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "harmless"),
    [("\x1b[31mred", r"\x1b[31mred"), ("two\nlines", r"two\nlines"), ("bell\x07", r"bell\x07"), ("\u202etxt", r"\u202etxt"), ("\x9b", r"\x9b"), ("\udcff", r"\udcff")],
)  # fmt: skip
def test_control_characters_are_spelt_out(text: str, harmless: str) -> None:
    assert printable(text) == harmless
    assert printable(text).isprintable()


class TestDecisionTable:
    def test_offers_with_their_terms_and_verdicts(self) -> None:
        text = shown(decision_table(decided(), "allreduce"))
        assert "allreduce: offers by policy 'plain', for the whole time limit" in text
        for words in (
            "west",
            "east",
            "h100",
            "now",
            "0.5 ms",
            "3.372 kWh",
            "compute CNY",
            "energy CNY",
            "carbon CNY",
            "chosen",
        ):
            assert words in text
        assert "most by compute (+8.000)" in text
        assert "transfer" not in text, "a term that no offer has is left out"

    def test_rejections_with_their_reasons(self) -> None:
        text = shown(decision_table(decided(rejections=(Rejection("north", "gpu: is not up"),)), "job"))
        assert "out: gpu: is not up" in text

    @pytest.mark.parametrize("part", ["job", "site", "reason", "policy"])
    def test_markup_is_shown_literally(self, part: str) -> None:
        rejection = Rejection(MARKUP if part == "site" else "north", MARKUP if part == "reason" else "because")
        decision = decided(rejections=(rejection,), policy=MARKUP if part == "policy" else "plain")
        assert MARKUP in shown(decision_table(decision, MARKUP if part == "job" else "job"))

    @pytest.mark.parametrize("part", ["job", "site", "reason", "partition"])
    def test_no_control_character_gets_through(self, part: str) -> None:
        """A node's drain reason is written by anybody who may drain it, a job's name by anybody."""
        rejection = Rejection(ESCAPES if part == "site" else "north", ESCAPES if part == "reason" else "because")
        decision = decided(rejections=(rejection,))
        if part == "partition":
            decision = replace(decision, offers=tuple(replace(offer, partition=ESCAPES) for offer in decision.offers))
        text = shown(decision_table(decision, ESCAPES if part == "job" else "job"))
        assert all(char.isprintable() or char == "\n" for char in text)

    def test_the_site_that_was_named_is_marked(self) -> None:
        decision = decided(overridden=True)
        assert "chosen (named by --site)" in shown(decision_table(decision, "job"))
        assert reason(decision) == "named by --site"


class TestGranted:
    """What the request became, for every site, in the table and for machines; and what the ledger keeps of it."""

    def decided(self) -> Decision:
        policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
        known = catalogue(site("east", rent=3, chip="a100"), site("west", rent=8))
        there = {"east": cluster(node(accelerators={"a100": 8})), "west": cluster()}
        asked = replace(job(None), resources=compose_job("gemm", ["compute=2PFLOPS@bf16"]).spec.resources)
        return route(asked, policy, "ningxia", known, snapshot(there), NOW)

    def test_the_table_has_a_line_for_each_offer(self) -> None:
        text = shown(decision_table(self.decided(), "job"))
        assert "east/gpu: 2PFLOPS@bf16 = 7 x a100 (312 TFLOPS each, 2.184 PFLOPS) on 1 node" in text
        assert "west/gpu: 2PFLOPS@bf16 = 3 x h100 (989.5 TFLOPS each, 2.969 PFLOPS) on 1 node" in text

    def test_machines_get_the_numbers_and_the_sentence(self) -> None:
        facts = decision_facts(self.decided())
        assert facts["chosen"]["granted"] == {
            "asked": "2PFLOPS@bf16", "chip": "a100", "per_node": 7, "nodes": 1, "count": 7, "precision": "bf16", "peak_flops": 312e12,
            "estimated": False, "vendor": "NVIDIA", "text": "2PFLOPS@bf16 = 7 x a100 (312 TFLOPS each, 2.184 PFLOPS) on 1 node",
        }  # fmt: skip
        assert [offer["granted"]["chip"] for offer in facts["offers"]] == ["a100", "h100"]
        json.dumps(facts, default=str)

    def test_a_job_without_accelerators_has_none(self) -> None:
        policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
        decision = route(job(None), policy, "ningxia", catalogue(site("west")), snapshot({"west": cluster()}), NOW)
        assert decision_facts(decision)["chosen"]["granted"] is None

    def test_of_two_chips_at_one_site_the_reason_names_the_chip(self) -> None:
        policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
        state = cluster(node("n1", accelerators={"a100": 8}), node("n2"))
        prices = replace(site("west").prices, accelerator_hour={"a100": figure(3), "h100": figure(8)})
        known = catalogue(replace(site("west"), prices=prices))
        decision = route(job("any:4"), policy, "ningxia", known, snapshot({"west": state}), NOW)
        assert ", with h100 " in reason(decision)

    def test_the_ledger_s_decision_gives_it_back(self) -> None:
        decision = self.decided()
        kept = json.loads(json.dumps({**asdict(decision), "decided_at": ""}))
        job = SimpleNamespace(decision=kept)
        assert granted_text(job) == str(decision.chosen and decision.chosen.granted)  # type: ignore[arg-type]
        for old in ({}, {"chosen": None}, {"chosen": {"chip": "h100"}}):
            assert granted_text(SimpleNamespace(decision=old)) == ""  # type: ignore[arg-type]


class TestRecordTable:
    RECORD = {  # noqa: RUF012
        "columns": [{"name": "bytes", "unit": "B"}, {"name": "kernel", "unit": ""}],
        "rows": [{"bytes": 8, "kernel": "ours"}, {"bytes": 16, "kernel": None}],
    }

    def test_columns_with_units_and_rows(self) -> None:
        text = shown(record_table("gemm", self.RECORD))
        assert "bytes (B)" in text
        assert "ours" in text
        assert text.splitlines()[-2].split()[-1] == "-" or "-" in text

    def test_markup_of_a_job_is_shown_literally(self) -> None:
        record = {"columns": [{"name": MARKUP, "unit": MARKUP}], "rows": [{MARKUP: MARKUP}]}
        assert shown(record_table("gemm", record)).count(MARKUP) >= 2

    def test_no_control_character_of_a_job_gets_through(self) -> None:
        record = {"columns": [{"name": ESCAPES, "unit": ""}], "rows": [{ESCAPES: ESCAPES}]}
        assert all(char.isprintable() or char == "\n" for char in shown(record_table("gemm", record)))


def test_an_error_shows_its_next_step_and_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    say_error(InputError(f"site 'west' refuses: {MARKUP}\x1b]0;title\x07", "do this"))
    told = capsys.readouterr().err
    assert MARKUP in told
    assert "next:  do this" in told
    assert "\x1b" not in told


class TestUnknown:
    """A `?`, never a zero, and never a missing row."""

    BARE = replace(site("mine"), prices=Prices(), power=Power())

    def decided(self, *more: Site, state: ClusterState | None = None) -> Decision:
        policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
        known = catalogue(self.BARE, *more)
        clusters = {name: state or cluster() for name in known.sites}
        return route(job(), policy, "ningxia", known, snapshot(clusters), NOW)

    def test_the_only_cluster_is_chosen_and_its_cost_is_a_question_mark(self) -> None:
        decision = replace(self.decided(), currency=None)
        row = next(line for line in shown(decision_table(decision, "job")).splitlines() if line.startswith(" mine"))
        assert row.split()[:4] == ["mine", "gpu", "h100", "now"]
        assert row.count("?") == 3, (
            "energy, CO2e and the total; a term that no offer knows is left out, the verdict names it"
        )
        assert "chosen (cost unknown: compute, energy, carbon)" in row
        assert "None" not in shown(decision_table(decision, "job"))
        assert reason(decision) == "the only site that fits"

    def test_beside_a_site_whose_cost_is_known(self) -> None:
        decision = self.decided(site("west", rent=8))
        text = shown(decision_table(decision, "job"))
        assert decision.chosen and decision.chosen.site == "west"
        assert "cost unknown: compute, energy, carbon" in text
        assert "westward site show" in text
        assert reason(decision).endswith("mine unknown")

    def test_where_no_cost_is_known_the_reason_says_so(self) -> None:
        decision = self.decided(replace(self.BARE, name="other"))
        assert "every cost is unknown" in reason(decision)
        assert "lost by start or name" in shown(decision_table(decision, "job"))

    def test_an_unknown_start(self) -> None:
        decision = self.decided(state=cluster(full("n1")))
        assert " ? " in shown(decision_table(decision, "job")).splitlines()[4]

    def test_what_to_know_of_the_costs_stands_below_them_and_is_told_where_they_are_not_shown(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        decision = replace(self.decided(), notes=(f"the cost of waiting is unknown {MARKUP}\x1b[0m",))
        for text in (shown(decision_table(decision, "job")), (tell_notes(decision), capsys.readouterr().err)[1]):
            assert f"note: the cost of waiting is unknown {MARKUP}" in text
            assert "\x1b" not in text
        assert decision_facts(decision)["notes"] == decision.notes

    def test_the_weights_are_told_to_machines(self) -> None:
        assert decision_facts(self.decided())["weights"] == dict.fromkeys(TERMS, 1.0)

    def test_for_machines_it_is_null_and_named(self) -> None:
        facts = decision_facts(self.decided())
        assert facts["chosen"]["energy_kwh"] is None
        assert facts["chosen"]["cost"]["total"] is None
        assert facts["offers"][0]["cost"]["unknown"] == ("compute", "energy", "carbon")
        assert facts["offers"][0]["cost"]["waiting"] == 0
