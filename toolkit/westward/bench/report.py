"""One HTML page that needs nothing beside it: for each job the decision, the result table, the plots (SVG) and the provenance."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.figure import Figure

import westward
from westward.errors import InputError
from westward.model.decision import TERMS
from westward.store.ledger import Job
from westward_bench.record import Record

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Section:
    """One job in the report. `plots` are SVG elements."""

    job: Job
    record: Record
    plots: Sequence[str]

    @property
    def terms(self) -> list[str]:
        """The cost terms that any offer has, known or not."""
        return [term for term in TERMS if any(offer["cost"][term] != 0 for offer in self.job.decision["offers"])]

    def total(self, offer: Mapping[str, Any]) -> float | None:
        """The sum of an offer's cost terms; None where one of them is unknown."""
        costs = list(offer["cost"].values())
        return None if None in costs else float(sum(costs))


def read_record(file: Path) -> Record:
    """A benchmark's record.

    Raises:
        InputError: the file is not there or holds none.
    """
    try:
        return Record.from_json(file.read_text())
    except (OSError, ValueError) as error:  # RecordError and text in another encoding among them
        raise InputError(f"'{file}' is no benchmark record: {error}") from error


def section(job: Job, record: Record) -> Section:
    """A job with the plots that fit its benchmark."""
    draw = _PLOTS.get(record.benchmark.partition(".")[0], ())
    return Section(job, record, [_svg(plot(record.rows)) for plot, numbers in draw if _drawable(record.rows, numbers)])


def _drawable(rows: Sequence[Mapping[str, Any]], numbers: Sequence[str]) -> bool:
    """Whether every row has these numbers. A record of another version, or of a run that failed, is shown as a table alone."""
    return bool(rows) and all(isinstance(row.get(name), int | float) for row in rows for name in numbers)


def build(sections: Sequence[Section]) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["quantity"] = _quantity
    made_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template("report.html.j2").render(
        sections=sections, made_at=made_at, version=westward.__version__
    )


def _figure(value: Any) -> str:
    """A number to four significant digits; everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _quantity(value: float | None, unit: str = "") -> str:
    """What an offer says, or `?` where it is unknown: never a dash, which would be nothing."""
    return "?" if value is None else f"{_figure(value)} {unit}".rstrip()


def _axes(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(True, which="major", alpha=0.3)
    return figure, axes


def _latency(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure, axes = _axes("latency of one call", "message size (bytes)", "µs")
    sizes = [row["bytes"] for row in rows]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.plot(sizes, [row["latency_p50"] for row in rows], "o-", label="p50", color="#1f6feb")
    axes.plot(sizes, [row["latency_p99"] for row in rows], "s--", label="p99", color="#d1690e")
    axes.legend()
    return figure


def _bandwidth(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure, axes = _axes("bus bandwidth", "message size (bytes)", "GB/s")
    axes.semilogx([row["bytes"] for row in rows], [row["busbw"] for row in rows], "o-", base=2, color="#1a7f37")
    axes.set_ylim(bottom=0)
    return figure


def _rates(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure, axes = _axes("rate of matrix multiplication, median", "", "GFLOP/s")
    names = [f"{row.get('kernel')}\n{row.get('dtype')}, n = {row['size']}".replace("$", r"\$") for row in rows]
    colours = ["#1f6feb" if row.get("kernel") == "westward" else "#8c959f" for row in rows]
    bars = axes.bar(names, [row["median"] for row in rows], color=colours, width=0.6)
    axes.bar_label(bars, fmt="%.1f")
    axes.margins(y=0.15)
    return figure


_PLOTS: Mapping[str, Any] = {
    "collectives": ((_latency, ("bytes", "latency_p50", "latency_p99")), (_bandwidth, ("bytes", "busbw"))),
    "gemm": ((_rates, ("size", "median")),),
}


def _svg(figure: Figure) -> str:
    """The figure as an SVG element, without the XML prologue and with text as text."""
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "westward"}):
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
