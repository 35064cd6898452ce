"""The report as one HTML page that needs nothing beside it: steps, knee, curves, CPU, profile, audit."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from tests.load import curves
from tests.load.knee import ACHIEVED_SHARE, IDLE_MULTIPLE
from tests.load.usage import DISK, ELSEWHERE

Report = Mapping[str, Any]

PERCENTILES = {"p50_ms": "p50", "p90_ms": "p90", "p99_ms": "p99", "p999_ms": "p99.9"}
CORES = ("generator", "system", ELSEWHERE, DISK)
"""Who takes how many of the machine's cores."""
TITLES = {
    "grpc": "gRPC, directly to the services",
    "grpc-web": "gRPC-web, through the edge",
    "bff": "BFF batches on gRPC streams (items)",
}
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1000px; color: #222; }
table { border-collapse: collapse; margin: .6em 0 1.2em; } th, td { padding: .15em .7em; text-align: right; }
th { border-bottom: 1px solid #999; font-weight: 600; } td:first-child, th:first-child { text-align: left; }
tr.knee { background: #e7f4e4; } .bad { color: #b00020; font-weight: 600; } .good { color: #15701c; }
.side { display: flex; flex-wrap: wrap; gap: 1em; } svg text { font: 10px system-ui, sans-serif; fill: #333; }
svg .title { font-size: 12px; font-weight: 600; } svg .frame { fill: none; stroke: #999; }
svg .grid { stroke: #e4e4e4; } svg .mark { stroke: #15701c; stroke-dasharray: 4 3; }
"""


def page(report: Report) -> str:
    """The whole page."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Catraca under load</title>",
        f"<style>{STYLE}</style><h1>Catraca under load</h1>",
        _verdict(report),
        _how(report),
        _side_by_side(report),
    ]
    for name, series in report["series"].items():
        parts += [f"<h2>{escape(TITLES[name])}</h2>", _knee(series), _steps(series), _cpu(name, series)]
        parts += [_confirmed(series), _profile(series), _refusals(series), _audit(series)]
        parts.append(f'<p>Locust\'s own report: <a href="locust-{name}.html">locust-{name}.html</a></p>')
    return "\n".join([*parts, "</html>\n"])


def _verdict(report: Report) -> str:
    failures = report["failures"]
    if not failures:
        return '<p class="good">PASSED: audits hold, no answer was INTERNAL or UNKNOWN, no process died.</p>'
    return f'<p class="bad">FAILED</p><ul>{"".join(f"<li>{escape(each)}" for each in failures)}</ul>'


def _how(report: Report) -> str:
    settings = report["settings"]
    return (
        f"<p>One machine with {report['cores']} cores runs everything, the generator too: what it takes, "
        f"the services lack. {settings['workers']} process(es) sent, each with at most {settings['lanes']} "
        "calls under way. The offered rate does not wait for answers; latencies count from when a call was "
        "due. The knee "
        f"is the highest step that served at least {ACHIEVED_SHARE:.0%} of what was offered, with a 99th "
        f"percentile of at most {IDLE_MULTIPLE:g} times that of the first step, which is idle.</p>"
    )


def _side_by_side(report: Report) -> str:
    """Latency by rate, all series on the same scale."""
    values = [
        step[key]
        for series in report["series"].values()
        for step in series["steps"]
        for key in PERCENTILES
        if step[key] > 0
    ]
    if not values:
        return ""
    y_range = (10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values) * 1.01)))
    charts = [
        curves.lines(
            TITLES[name],
            {
                label: [(step["offered"], max(step[key], y_range[0])) for step in series["steps"]]
                for key, label in PERCENTILES.items()
            },
            x_name="offered per second",
            y_name="latency, ms",
            y_range=y_range,
            mark=series["knee"]["offered"] if series["knee"] else None,
        )
        for name, series in report["series"].items()
    ]
    return f'<h2>Latency by offered rate</h2><div class="side">{"".join(charts)}</div>'


def _knee(series: Report) -> str:
    at = series["knee"]
    if at is None:
        return '<p class="bad">No knee: not even the idle step was served.</p>'
    return f"<p>Knee: <b>{at['offered']:g}</b> per second offered, {at['achieved']:.0f} achieved.</p>"


def _steps(series: Report) -> str:
    knee = series["knee"]["offered"] if series["knee"] else None
    return _measured(series["steps"], knee)


def _measured(steps: Sequence[Report], knee: float | None = None) -> str:
    head = ("offered/s", "achieved/s", *(f"{label} ms" for label in PERCENTILES.values()), "not sent", *CORES)
    rows = []
    for step in steps:
        cells = [f"{step['offered']:g}", f"{step['achieved']:.0f}"]
        cells += [f"{step[key]:.1f}" for key in PERCENTILES]
        cells += [str(step["unsent"]), *(f"{used:.2f}" for used in shares(step["cpu"]))]
        rows.append(_row(cells, "knee" if step["offered"] == knee else ""))
    return f"<table>{_head(head)}{''.join(rows)}</table>"


def shares(cpu: Mapping[str, float]) -> tuple[float, float, float, float]:
    """The cores that the generator took, the system under load, what runs beside them, and the disk."""
    generator = sum(used for name, used in cpu.items() if name.startswith("locust"))
    elsewhere, disk = cpu[ELSEWHERE], cpu[DISK]
    return generator, sum(cpu.values()) - generator - elsewhere - disk, elsewhere, disk


def _cpu(name: str, series: Report) -> str:
    steps = series["steps"]
    totals: dict[str, float] = {}
    for step in steps:
        for process, used in step["cpu"].items():
            totals[process] = totals.get(process, 0.0) + used
    ours = [process for process in totals if process not in (ELSEWHERE, DISK)]
    # The largest at the bottom, what is not ours on top, what hardly shows not at all.
    names = [*sorted(ours, key=lambda process: -totals[process])[:8], ELSEWHERE, DISK]
    most = max((sum(step["cpu"].values()) for step in steps), default=1.0)
    columns = [(f"{step['offered']:g}", step["cpu"]) for step in steps]
    return curves.bars(f"CPU by process, {name}", columns, names, max(math.ceil(most), 1))


def _confirmed(series: Report) -> str:
    if not series["confirmed"]:
        return ""
    note = "; a service was sampled during the second" if series["profile"] else ""
    return f"<h3>Once more at half the knee and at the knee{note}</h3>{_measured(series['confirmed'])}"


def _profile(series: Report) -> str:
    profile = series["profile"]
    if not profile:
        return ""
    if profile["problem"]:
        return (
            f"<h3>Profile of {escape(profile['service'])}</h3><p class=bad>{escape(profile['problem'])}</p>"
        )
    file = profile["file"]
    rows = "".join(
        _row([function, f"{own:.1%}", f"{whole:.1%}"]) for function, own, whole in profile["functions"]
    )
    return (
        f"<h3>Profile of {escape(profile['service'])}, the busiest service, at the knee</h3>"
        f'<p>{profile["samples"]} samples that found it at work; <a href="{file}">{file}</a> '
        "opens in speedscope.</p>"
        f"<table>{_head(('function', 'own', 'with callees'))}{rows}</table>"
    )


def refusals(steps: Iterable[Report]) -> dict[str, int]:
    """All steps' refusals by call and word."""
    counted: dict[str, int] = {}
    for step in steps:
        for name, count in step["refusals"].items():
            counted[name] = counted.get(name, 0) + count
    return dict(sorted(counted.items()))


def _refusals(series: Report) -> str:
    counted = refusals([*series["steps"], *series["confirmed"]])
    if not counted:
        return "<p>No call was refused.</p>"
    rows = "".join(_row([name, str(count)]) for name, count in counted.items())
    return f"<h3>Refusals</h3><table>{_head(('call and word', 'times'))}{rows}</table>"


def _audit(series: Report) -> str:
    audit = series["audit"]
    rows = "".join(
        _row(
            [
                f"{found['invariant']} {found['title']}",
                "ok" if found["ok"] else f"{len(found['violations'])} violated",
            ]
        )
        for found in audit["findings"]
    )
    return f"<h3>Audit of {escape(audit['sale'])}</h3><table>{_head(('invariant', ''))}{rows}</table>"


def _head(names: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<th>{escape(name)}' for name in names)}</tr>"


def _row(cells: Iterable[str], kind: str = "") -> str:
    return f'<tr class="{kind}">{"".join(f"<td>{escape(cell)}" for cell in cells)}</tr>'
