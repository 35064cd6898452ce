"""The page for the platform team has every alert, every condition and every reason, and nothing else."""

import re
from pathlib import Path

import pytest
import yaml
from catraca_operator.status import CONDITIONS

from services.kit.reasons import WORDS
from services.kit.streams import STREAMS
from services.queue.states import Phase

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()
STATUS = (ROOT / "operator/catraca_operator/status.py").read_text()
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "charts/catraca/files/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]


def rows(heading: str) -> list[list[str]]:
    """The cells of each row of the section's table."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def reasons() -> set[str]:
    """Every reason of a condition: what the judgements give, phases, and what services refuse with."""
    given = set(re.findall(r'(?:TRUE|FALSE|UNKNOWN), "(\w+)"', STATUS))
    return given | {phase.value.title() for phase in Phase} | {"Archived"}


def test_every_alert_has_a_row_with_its_severity() -> None:
    listed = {name: severity for name, severity, _ in rows("Alerts")}
    assert listed == {rule["alert"]: rule["labels"]["severity"] for rule in ALERTS}


def test_every_condition_and_every_reason_has_a_row() -> None:
    first = [row[0] for row in rows("Conditions")]
    conditions = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    listed = {
        word.strip() for cell in first if ":" in cell for word in cell.partition(": ")[2].split(",") if word
    }

    assert conditions == {"Ready", *CONDITIONS}
    assert reasons() - listed == set()
    assert listed - reasons() - WORDS == set()


@pytest.mark.parametrize("heading", ["Alerts", "Conditions"])
def test_every_row_says_what_to_do(heading: str) -> None:
    assert [row for row in rows(heading) if not row[-1]] == []


def test_a_backup_is_of_every_stream() -> None:
    backup = PAGE.split("### A backup")[1].split("###")[0]
    assert [stream.name for stream in STREAMS if not re.search(rf"\b{stream.name}\b", backup)] == []


def test_alerts_that_the_page_names_exist() -> None:
    named = set(re.findall(r"\b(Catraca[A-Z][A-Za-z]+)\b", PAGE))
    assert named - {rule["alert"] for rule in ALERTS} == set()


def test_files_of_ours_that_it_names_exist() -> None:
    named = re.findall(r"(?:--filename|-f|<) ((?:examples|charts)/\S+)", PAGE)
    assert named and [name for name in named if not (ROOT / name.rstrip("`")).exists()] == []
