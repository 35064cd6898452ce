"""The documents name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What is written relative to `services/`, for short, in the page that follows a buyer through the tree.
BASES = [ROOT, ROOT / "services", ROOT / "services" / "inventory", ROOT / "services" / "checkout"]
PATH = re.compile(r"`([a-z_./]+/[a-z0-9_./*-]+\.(?:py|lua|sql|proto|yaml|md))`")
LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_names_only_files_that_exist(document: Path) -> None:
    text = document.read_text()
    named = PATH.findall(text)
    missing = [path for path in named if not any(list(base.glob(path)) for base in BASES)]
    links = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    assert not missing and not links


def test_the_readme_names_the_files_a_newcomer_looks_for() -> None:
    text = (ROOT / "README.md").read_text()
    for wish in ("an inventory rule", "a queue policy", "a payment provider", "a sale field"):
        row = next(line for line in text.splitlines() if f"**{wish}**" in line)
        assert "`" in row.split("|")[2]
