"""The chart's values: each said what it is for, in a closed schema, and nothing of the chart is left over.

What is rendered of them is tested in tests/cluster/chart, where Helm is.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "charts"))
import schema  # noqa: E402

TEMPLATES = {path: path.read_text() for path in sorted((schema.CHART / "templates").rglob("*.*"))}
VALUES: dict[str, Any] = yaml.safe_load(schema.VALUES.read_text())
MADE: dict[str, Any] = json.loads(schema.SCHEMA.read_text())


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The path of each value, groups included."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield f"{path}.{name}".lstrip(".")
            yield from paths(each, f"{path}.{name}".lstrip("."))


def objects(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of an object, with where it is."""
    if isinstance(part, dict):
        if part.get("type") == "object":
            yield path, part
        for name, each in part.items():
            yield from objects(each, f"{path}/{name}")


def test_every_value_has_its_comment() -> None:
    said = schema.comments(schema.VALUES.read_text())
    assert [path for path in paths(VALUES) if path not in said] == []


def test_the_schema_is_made_of_the_values_and_the_settings() -> None:
    assert schema.SCHEMA.read_text() == schema.made()


def test_the_schema_takes_nothing_that_it_does_not_name() -> None:
    found = dict(objects(MADE))
    assert len(found) > 50
    for path, part in found.items():
        free = part["additionalProperties"]
        # Labels and annotations have names of somebody else's.
        assert free is False or free == {"type": "string"}, path


def test_every_shape_is_of_a_value() -> None:
    known = set(paths(VALUES))
    assert set(schema.SHAPES) - known == set()
    assert [end for end in schema.ENDINGS if not any(path.endswith(end) for path in known)] == []


@pytest.mark.parametrize("component", schema.OWNERS)
def test_settings_that_the_chart_says_itself_cannot_be_given(component: str) -> None:
    given = MADE["properties"][component]["properties"]["settings"]["properties"]
    text = "".join(TEMPLATES.values())
    said = {name for name in given if f"CATRACA_{name.upper()}\n" in text}
    assert said == set()
    assert given


def test_every_part_of_a_template_is_used() -> None:
    text = "".join(TEMPLATES.values())
    made = re.findall(r'define "([\w.]+)"', text)
    assert len(set(made)) == len(made)
    assert [name for name in made if f'include "{name}"' not in text] == []


def test_every_file_of_the_chart_is_used() -> None:
    text = "".join(TEMPLATES.values())
    files = {path.name for path in (schema.CHART / "files").iterdir()}
    assert {name for name in files if f'"files/{name}"' not in text} == set()


def test_versions_are_those_of_the_project() -> None:
    chart = yaml.safe_load((schema.CHART / "Chart.yaml").read_text())
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert chart["appVersion"] == version
    assert chart["annotations"]["artifacthub.io/license"] == "Apache-2.0"
