"""The report: one page that needs nothing beside it, and shows what a job says without believing it."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from unit.federation.worlds import NOW, catalogue, cluster, job, site, snapshot
from westward.bench.report import Section, build, read_record, section
from westward.errors import InputError
from westward.federation.router import route
from westward.model.decision import TERMS, Policy
from westward.model.job import JobState, JobStatus, Submission
from westward.store.ledger import Intent, Job, Ledger
from westward_bench.record import Column, Provenance, Record, Verification

HOSTILE = "<script>alert('x')</script>\"><img src=http://evil/x onerror=y> $\\frac{$ ]]> --> &amp;"
PROVENANCE = Provenance(
    started="2026-01-01T00:00:00+00:00", finished="2026-01-01T00:00:05+00:00", command=("python3", "-m", "westward_bench.x"),
    hosts=("west-n1", "west-n2"), cpu_model="A CPU", cores_visible=8, versions={"python": "3.13.5"}, slurm_job_id="7",
)  # fmt: skip
ALLREDUCE = Record(
    benchmark="collectives.allreduce",
    status="ok",
    parameters={"dtype": "f32"},
    provenance=PROVENANCE,
    columns=(Column("bytes", "B"), Column("latency_p50", "us"), Column("latency_p99", "us"), Column("busbw", "GB/s"), Column("wrong")),
    rows=(
        {"bytes": 8, "latency_p50": 11.125, "latency_p99": 19.5, "busbw": 0.0007, "wrong": 0},
        {"bytes": 1048576, "latency_p50": 512.25, "latency_p99": 777.75, "busbw": 2.0469, "wrong": 0},
    ),
    samples=((1.1e-5,), (5.1e-4,)),
    verification=Verification(262146, 0, "every element against the sum"),
)  # fmt: skip
GEMM = Record(
    benchmark="gemm",
    status="ok",
    parameters={"size": 1024},
    provenance=PROVENANCE,
    columns=(
        Column("kernel"),
        Column("dtype"),
        Column("size"),
        Column("median", "GFLOP/s"),
        Column("ratio", "to BLAS"),
    ),
    rows=(
        {"kernel": "westward", "dtype": "f64", "size": 1024, "median": 43.217, "ratio": 0.9123},
        {"kernel": "OpenBLAS", "dtype": "f64", "size": 1024, "median": 47.371, "ratio": 1.0},
    ),
    samples=((0.1,), (0.1,)),
)


class Page(HTMLParser):
    """The elements and references of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
                self.references.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def ended(name: str = "allreduce", **decision: Any) -> Job:
    """A job of the ledger that was routed over two sites and a silent one, and has ended."""
    policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
    known = catalogue(site("east", rent=10), site("west", rent=8), site("north"))
    routed = route(
        job(), policy, "ningxia", known, snapshot({"east": cluster(), "west": cluster()}, {"north": "no answer"}), NOW
    )
    told = {**asdict(routed), "decided_at": "2026-01-01", **decision}
    submission = Submission(
        name="job~aaaaaaaaaaaa", partition="gpu", account=None, qos=None, nodes=1, ntasks=1, ntasks_per_node=1,
        cpus_per_task=1, mem_per_node_mib=None, gres=None, walltime_s=60, root="/s", directory="/s/j", stdout="/s/j.out",
        environment={}, script="",
    )  # fmt: skip
    ledger = Ledger()
    ledger.add([Intent("a" * 12, name, "allreduce", "west", submission, ("result.json",), told)])
    ledger.handles({"a" * 12: 7})
    ledger.released(["a" * 12])
    ledger.seen({"a" * 12: JobStatus(7, submission.name, JobState.COMPLETED)}, ended={"a" * 12})
    made = ledger.get("a" * 12)
    ledger.close()
    return made


def page_of(*sections: Section) -> tuple[str, Page]:
    text = build(sections)
    return text, Page(text)


@pytest.mark.parametrize("record", [ALLREDUCE, GEMM], ids=lambda record: record.benchmark)
def test_the_page_refers_to_nothing_outside_itself(record: Record) -> None:
    text, page = page_of(section(ended(), record))
    assert [reference for reference in page.references if not reference.startswith("#")] == []
    assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
    assert not re.search(r"url\(\s*['\"]?(?!#)|@import", text)
    assert "svg" in page.tags


def test_values_plots_and_decision_are_on_it() -> None:
    made = ended()
    _, page = page_of(section(made, ALLREDUCE), section(replace(made, key="b" * 12), GEMM))
    words = " ".join(page.words)
    for value in ("1048576", "11.12", "512.2", "777.8", "2.047", "43.22", "47.37", "0.9123"):
        assert value in words, value
    for value in ("GB/s", "GFLOP/s", "west-n1, west-n2", "262146 values, 0 wrong", "no answer", "north", "east", "CNY"):
        assert value in words, value
    assert page.tags.count("svg") == 3, "two plots of allreduce, one of gemm"


def test_what_jobs_and_sites_say_is_shown_and_never_run() -> None:
    record = replace(
        GEMM,
        status="failed",
        message=HOSTILE,
        parameters={HOSTILE: HOSTILE},
        provenance=replace(
            PROVENANCE, hosts=(HOSTILE,), cpu_model=HOSTILE, command=(HOSTILE,), versions={HOSTILE: HOSTILE}
        ),
    )
    made = ended(HOSTILE, policy=HOSTILE, rejections=[{"site": HOSTILE, "reason": HOSTILE}])
    _, page = page_of(section(made, record))
    assert not {"script", "img"} & set(page.tags)
    assert page.handlers == []
    assert HOSTILE in " ".join(page.words)


def test_what_a_job_says_is_harmless_in_a_plot_too() -> None:
    """Matplotlib reads $…$ as mathematics, and stops at what is none."""
    rows = tuple({**row, "kernel": HOSTILE} for row in GEMM.rows)
    _, page = page_of(section(ended(), replace(GEMM, rows=rows)))
    assert not {"script", "img"} & set(page.tags)
    assert page.tags.count("svg") == 1


@pytest.mark.parametrize(
    "record",
    [
        replace(GEMM, columns=(Column("other"),), rows=({"other": 1},), samples=((0.1,),)),
        replace(GEMM, rows=tuple({**row, "median": None} for row in GEMM.rows)),
        replace(ALLREDUCE, rows=tuple({**row, "bytes": "many"} for row in ALLREDUCE.rows)),
        replace(GEMM, columns=(), rows=(), samples=(), status="failed", message="out of memory"),
        replace(GEMM, benchmark="of-somebody-else"),
    ],
    ids=["other columns", "no values", "text for a number", "failed before the first row", "unknown benchmark"],
)
def test_a_record_that_cannot_be_drawn_is_still_reported(record: Record) -> None:
    text, _ = page_of(section(ended(), record))
    assert "west-n1" in text


def test_no_job_at_all_is_a_page_too() -> None:
    assert "0 jobs" in build([])


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"[]", b"\xff\xfe", b'{"schema": "westward-result/9"}'], ids=repr
)
def test_what_is_no_record_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "result.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"result\.json"):
        read_record(file)


def test_a_record_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(GEMM.to_json())
    assert read_record(tmp_path / "result.json") == GEMM


def test_what_is_unknown_of_an_offer_is_a_question_mark() -> None:
    """A cluster as `westward site add` leaves it, whose nodes are taken until nobody knows when."""
    job = ended(currency=None)
    offers = [
        {**offer, "start_in_s": None, "energy_kwh": None, "cost": {**offer["cost"], "compute": None}}
        if offer["site"] == "west"
        else offer
        for offer in job.decision["offers"]
    ]
    text, page = page_of(section(replace(job, decision={**job.decision, "offers": offers}), GEMM))
    row = text[text.index("west (chosen)") :].split("</tr>")[0]
    assert row.count(">?</td>") == 4, "start, energy, compute and total"
    assert "None" not in " ".join(page.words)
