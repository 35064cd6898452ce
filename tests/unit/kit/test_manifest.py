"""What a TicketSale manifest may say, as `catraca apply` judges it: the rows are in tests/manifests.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from catraca.sale.v1 import sale_pb2 as pb

from services.kit.manifest import (
    ManifestInvalid,
    crd_file,
    load_manifest,
    manifest_of,
    read_manifests,
    said_to_operator,
    spec_of,
    spec_to_manifest,
    validate,
)
from services.kit.spec import KUBERNETES_ONLY
from tests.manifests import ACCEPTED, GOOD, REFUSED, REFUSED_FOR_MANY, SECTION, edited, edited_often

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(("path", "value"), ACCEPTED)
def test_accepted(path: list[Any], value: Any) -> None:
    assert validate(edited(path, value)) == []


@pytest.mark.parametrize(("path", "value", "where", "why"), REFUSED)
def test_refused(path: list[Any], value: Any, where: str, why: str) -> None:
    (problem,) = validate(edited(path, value))
    assert problem.path == where
    assert why in problem.problem


@pytest.mark.parametrize(("edits", "fields"), REFUSED_FOR_MANY)
def test_refused_for_more_than_one_reason(edits: list[Any], fields: set[str]) -> None:
    assert {problem.path for problem in validate(edited_often(edits))} == fields


def fields_with_patterns(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if "pattern" in schema:
        yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from fields_with_patterns(field, f"{path}.{name}")
    yield from fields_with_patterns(schema["items"], f"{path}[]") if "items" in schema else ()


def test_every_pattern_is_said_in_words() -> None:
    crd = yaml.safe_load(crd_file().read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = dict(fields_with_patterns(schema["properties"]["spec"]))
    assert ".currency" in found and ".sections[].id" in found
    for path, field in found.items():
        if field.get("format") == "date-time":
            continue
        first = field["x-kubernetes-validations"][0]
        assert first["message"].startswith("must be "), path
        # The API server asks both: they must not differ. Of white space CEL knows less than patterns do.
        matched = f"self.matches(r'{field['pattern']}')"
        assert first["rule"] == matched or (
            path == ".delivery.webhookUrl" and "self.contains" in first["rule"]
        )


def test_every_problem_is_told() -> None:
    manifest = edited([*SECTION, "capacity"], 0)
    manifest["spec"]["window"]["closesAt"] = "2026-01-01T10:00:00Z"
    del manifest["spec"]["currency"]
    assert {problem.path for problem in validate(manifest)} == {
        "spec.currency",
        "spec.sections[0].capacity",
        "spec.window.closesAt",
    }


def test_absent_fields_take_the_schemas_defaults() -> None:
    _, spec = spec_of(GOOD)
    assert spec.line.kind == pb.LINE_KIND_DRAW
    assert spec.line.turn_duration.seconds == 300
    assert spec.limits.per_buyer == 4
    assert spec.limits.holds_per_turn == 20
    assert spec.holds.duration.seconds == 120
    assert spec.payment.window.seconds == 600
    assert spec.payment.grace.seconds == 30
    assert spec.payment.provider == "sandbox"
    assert spec.orders.queue_max.seconds == 120
    assert spec.sections[0].kind == pb.SECTION_KIND_STANDING
    assert not spec.window.HasField("lobby_opens_at")


def test_a_given_field_is_not_defaulted() -> None:
    _, spec = spec_of(edited(["spec", "holds"], {"duration": "30s"}))
    assert spec.holds.duration.seconds == 30


@pytest.mark.parametrize(("path", "value"), ACCEPTED)
def test_a_spec_and_its_manifest_say_the_same(path: list[Any], value: Any) -> None:
    name, spec = spec_of(edited(path, value))
    assert spec_of(manifest_of(name, spec)) == (name, spec)


def test_an_enum_value_that_is_not_known_is_refused() -> None:
    _, spec = spec_of(GOOD)
    spec.line.kind = 77  # type: ignore[assignment]
    (problem,) = validate(manifest_of("show", spec))
    assert problem.path == "spec.line.kind"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_sales(example: Path) -> None:
    name, spec = load_manifest(example.read_text())
    assert name
    assert spec.sections


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [", "is not YAML"),
        ("- a", "is not a mapping"),
        ("title: a\ntitle: b", "'title' is given twice"),
        ("1: a", "is not text"),
        ("", "one manifest is expected, not 0"),
        ("a: 1\n---\nb: 1", "one manifest is expected, not 2"),
    ],
)
def test_texts_that_are_no_manifest(text: str, why: str) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        load_manifest(text)
    assert why in str(refused.value)


def test_times_stay_text_and_documents_may_be_several() -> None:
    first, second = read_manifests("at: 2027-01-01T10:00:00Z\n---\nat: 2027-01-02")
    assert (first["at"], second["at"]) == ("2027-01-01T10:00:00Z", "2027-01-02")


def test_only_a_line_can_be_held_back() -> None:
    manifest = edited(["spec", "line"], {"kind": "None"})
    manifest["spec"]["openPolicy"] = "WhenReady"
    (problem,) = validate(manifest)
    assert problem.path == "spec.openPolicy"


def test_what_only_the_operator_reads_is_named_and_not_in_the_definition() -> None:
    plain = spec_of(GOOD)
    manifest = edited(["spec", "scaling"], {"leadTime": "5m"})
    manifest["spec"]["openPolicy"] = "OnTime"
    assert spec_of(manifest) == plain
    assert said_to_operator(manifest) == ["spec.openPolicy", "spec.scaling"]
    assert said_to_operator(GOOD) == []


# ---- the CRD itself ----


def fields_of(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every field of a schema with its path."""
    found = [(path, schema)]
    for name, field in schema.get("properties", {}).items():
        found += fields_of(field, f"{path}.{name}")
    if "items" in schema:
        found += fields_of(schema["items"], f"{path}[]")
    return found


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    crd = yaml.safe_load(crd_file().read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]  # type: ignore[no-any-return]


def test_every_field_is_structural_bounded_and_described(schema: dict[str, Any]) -> None:
    for path, field in fields_of(schema):
        assert field["type"] in {"object", "array", "string", "integer", "number", "boolean"}, path
        # The API server describes metadata itself, and refuses a CRD that does.
        assert field.get("description", "").endswith(".") != (path == ".metadata"), path
        if field["type"] == "array":
            assert field["maxItems"], path
            assert "items" in field, path
        if field["type"] in {"integer", "number"} and path.startswith(".spec"):
            assert {"minimum", "maximum"} <= field.keys(), path
        if field["type"] == "string" and path.startswith(".spec"):
            assert {"maxLength", "enum"} & field.keys(), path


def test_defaults_keep_the_schema(schema: dict[str, Any]) -> None:
    for path, field in fields_of(schema):
        # A default reaches a field only if everything around it exists: objects default to empty ones.
        if any("default" in inner for inner in field.get("properties", {}).values()) and path != ".spec":
            assert "default" in field or path.endswith("[]"), path


def test_the_schema_has_the_fields_of_the_contract(schema: dict[str, Any]) -> None:
    def names(descriptor: Any, path: str) -> set[str]:
        found = set()
        for field in descriptor.fields:
            name = f"{path}.{field.json_name}" + ("[]" if field.is_repeated else "")
            found.add(name)
            if field.message_type is not None and field.message_type.full_name.startswith("catraca."):
                found |= names(field.message_type, name)
        return found

    in_schema = {
        path for path, field in fields_of(schema["properties"]["spec"]) if path and "items" not in field
    }
    said_to_services = {path for path in in_schema if path.split(".")[1] not in KUBERNETES_ONLY}
    assert said_to_services == names(pb.SaleSpec.DESCRIPTOR, "")
    assert {f".{name}" for name in KUBERNETES_ONLY} <= in_schema


def test_a_spec_with_nothing_said_is_an_empty_mapping() -> None:
    assert spec_to_manifest(pb.SaleSpec()) == {}
