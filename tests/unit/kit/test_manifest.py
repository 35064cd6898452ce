"""What a TicketSale manifest may say: each row breaks, or keeps, one rule of the CRD."""

import copy
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

EXAMPLES = Path(__file__).parents[3] / "examples"

DROP = object()
GOOD: dict[str, Any] = {
    "apiVersion": "catraca.dev/v1alpha1",
    "kind": "TicketSale",
    "metadata": {"name": "show"},
    "spec": {
        "title": "A show",
        "currency": "BRL",
        "sections": [
            {"id": "floor", "capacity": 100, "ticketTypes": [{"id": "full", "price": 5000}]},
            {"id": "balcony", "capacity": 50, "ticketTypes": [{"id": "full", "price": 3000}]},
        ],
        "window": {"opensAt": "2027-01-01T10:00:00Z", "closesAt": "2027-01-02T10:00:00Z"},
    },
}


def edited(path: list[Any], value: Any) -> dict[str, Any]:
    """GOOD with the value at `path` replaced, added, or dropped."""
    manifest = copy.deepcopy(GOOD)
    holder: Any = manifest
    for step in path[:-1]:
        if isinstance(holder, dict):
            holder.setdefault(step, {})
        holder = holder[step]
    if value is DROP:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return manifest


OVERRIDE = {"until": "2027-01-01T12:00:00Z", "reason": "more came", "floors": {"queue": 0}}
SECTION = ["spec", "sections", 0]
TICKET = [*SECTION, "ticketTypes", 0]
WINDOW = ["spec", "window"]
QUEUE = ["spec", "scaling", "services", "queue"]

ACCEPTED = [
    (["spec", "title"], "x" * 200),
    (["metadata", "name"], "a"),
    (["metadata", "name"], "x" * 63),
    (["metadata", "labels"], {"team": "events"}),
    (["status"], {"phase": "Open"}),
    ([*SECTION, "capacity"], 1_000_000),
    ([*TICKET, "price"], 0),
    ([*TICKET, "price"], 1_000_000_000),
    ([*TICKET, "quota"], 100),
    ([*WINDOW, "lobbyOpensAt"], "2027-01-01T10:00:00Z"),
    ([*WINDOW, "lobbyOpensAt"], "2027-01-01T07:00:00-03:00"),
    ([*WINDOW, "opensAt"], "2027-01-01T10:00:00.250Z"),
    (["spec", "line"], {"kind": "None"}),
    (["spec", "line"], None),
    (["spec", "line", "turnDuration"], "1s"),
    (["spec", "line", "turnDuration"], "24h"),
    (["spec", "line", "turnDuration"], "1h30m5s250ms"),
    (["spec", "line", "rate"], 0.5),
    (["spec", "line", "rate"], 200),
    (["spec", "holds", "duration"], "5s"),
    (["spec", "limits", "perBuyer"], 100),
    (["spec", "delivery", "webhookUrl"], "https://organiser.example/hooks?a=b"),
    (["spec", "refunds"], {"allowed": True, "until": "2027-01-03T10:00:00Z"}),
    (["spec", "openPolicy"], "WhenReady"),
    (["spec", "scaling"], {"leadTime": "1s", "cooldown": "24h", "warmUpSteps": 20, "raiseByForecast": True}),
    (["spec", "scaling", "services"], {"queue": {"floor": 0, "peak": 0, "max": 0}}),
    (["spec", "scaling", "services"], {"notifier": {"floor": 2, "peak": 2, "max": 1000}}),
    (["spec", "override"], OVERRIDE),
]


@pytest.mark.parametrize(("path", "value"), ACCEPTED)
def test_accepted(path: list[Any], value: Any) -> None:
    assert validate(edited(path, value)) == []


REFUSED = [
    (["apiVersion"], "catraca.dev/v2", "apiVersion", "must be catraca.dev/v1alpha1"),
    (["kind"], "Sale", "kind", "must be TicketSale"),
    (["metadata"], DROP, "metadata.name", "is required"),
    (["metadata", "name"], DROP, "metadata.name", "is required"),
    (["metadata", "name"], "Show", "metadata.name", "is not of the form"),
    (["metadata", "name"], "show\n", "metadata.name", "is not of the form"),
    (["metadata", "name"], "-show", "metadata.name", "is not of the form"),
    (["metadata", "name"], "x" * 64, "metadata.name", "at most 63 characters"),
    (["metadata", "name"], 7, "metadata.name", "must be text"),
    (["spec"], DROP, "spec", "is required"),
    (["spec"], [], "spec", "must be a mapping"),
    (["spec", "title"], DROP, "spec.title", "is required"),
    (["spec", "title"], "", "spec.title", "must not be empty"),
    (["spec", "title"], "x" * 201, "spec.title", "at most 200 characters"),
    (["spec", "currency"], "brl", "spec.currency", "is not of the form"),
    (["spec", "currency"], "BR", "spec.currency", "is not of the form"),
    (["spec", "sections"], DROP, "spec.sections", "exactly one of sections and seatingPlan"),
    (["spec", "sections"], [], "spec.sections", "must not be empty"),
    (["spec", "seatingPlan"], {"digest": "a" * 64}, "spec.sections", "exactly one of"),
    (["spec", "seatingPlan"], {"digest": "A" * 64}, "spec.seatingPlan.digest", "is not of the form"),
    (["spec", "price"], 5, "spec.price", "is not a field"),
    ([*SECTION, "seats"], 5, "spec.sections[0].seats", "is not a field"),
    ([*SECTION, "id"], "Floor A", "spec.sections[0].id", "is not of the form"),
    (["spec", "sections", 1, "id"], "floor", "spec.sections[1].id", "'floor' is given twice"),
    ([*SECTION, "capacity"], DROP, "spec.sections[0].capacity", "is required"),
    ([*SECTION, "capacity"], 0, "spec.sections[0].capacity", "must be at least 1"),
    ([*SECTION, "capacity"], 1_000_001, "spec.sections[0].capacity", "must be at most 1000000"),
    ([*SECTION, "capacity"], "100", "spec.sections[0].capacity", "must be a whole number"),
    ([*SECTION, "capacity"], 1.5, "spec.sections[0].capacity", "must be a whole number"),
    ([*SECTION, "capacity"], True, "spec.sections[0].capacity", "must be a whole number"),
    ([*SECTION, "kind"], "Seated", "spec.sections[0].kind", "come from a seatingPlan"),
    ([*SECTION, "kind"], "Sitting", "spec.sections[0].kind", "must be one of Standing, Seated"),
    ([*SECTION, "ticketTypes"], [], "spec.sections[0].ticketTypes", "must not be empty"),
    ([*TICKET, "price"], DROP, "spec.sections[0].ticketTypes[0].price", "is required"),
    ([*TICKET, "price"], -1, "spec.sections[0].ticketTypes[0].price", "must be at least 0"),
    ([*TICKET, "price"], 10.5, "spec.sections[0].ticketTypes[0].price", "must be a whole number"),
    ([*TICKET, "quota"], 101, "spec.sections[0].ticketTypes", "no quota may be above"),
    (
        [*SECTION, "ticketTypes"],
        [{"id": "full", "price": 1}, {"id": "full", "price": 2}],
        "spec.sections[0].ticketTypes[1].id",
        "'full' is given twice",
    ),
    ([*WINDOW, "opensAt"], DROP, "spec.window.opensAt", "is required"),
    ([*WINDOW, "opensAt"], "tomorrow", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "opensAt"], "2027-01-01T10:00:00", "spec.window.opensAt", "must be a time like"),
    ([*WINDOW, "closesAt"], "2027-01-01T10:00:00Z", "spec.window.closesAt", "must be after opensAt"),
    ([*WINDOW, "lobbyOpensAt"], "2027-01-01T10:00:01Z", "spec.window.lobbyOpensAt", "not be after opensAt"),
    (["spec", "line", "kind"], "Lottery", "spec.line.kind", "must be one of Draw, None"),
    (["spec", "line", "turnDuration"], "5 minutes", "spec.line.turnDuration", "is not of the form"),
    (["spec", "line", "turnDuration"], "", "spec.line.turnDuration", "must have at least 2"),
    (["spec", "line", "turnDuration"], "999ms", "spec.line.turnDuration", "must be from 1s to 24h"),
    (["spec", "line", "turnDuration"], "24h1s", "spec.line.turnDuration", "must be from 1s to 24h"),
    (["spec", "line", "rate"], -0.5, "spec.line.rate", "must be at least 0"),
    (["spec", "line", "rate"], float("nan"), "spec.line.rate", "must be at least 0"),
    (["spec", "line", "rate"], float("inf"), "spec.line.rate", "must be at most 1000000"),
    (["spec", "line", "concurrency"], -1, "spec.line.concurrency", "must be at least 0"),
    (["spec", "limits", "perBuyer"], 0, "spec.limits.perBuyer", "must be at least 1"),
    (["spec", "limits", "perBuyer"], 101, "spec.limits.perBuyer", "must be at most 100"),
    (["spec", "holds", "duration"], "4s", "spec.holds.duration", "must be from 5s to 24h"),
    (["spec", "payment", "window"], "4s", "spec.payment.window", "must be from 5s to 72h"),
    (["spec", "payment", "grace"], "2h", "spec.payment.grace", "must be from 1s to 1h"),
    (["spec", "orders", "queueMax"], "0s", "spec.orders.queueMax", "must be from 1s to 24h"),
    (["spec", "paused"], "no", "spec.paused", "must be true or false"),
    (["spec", "delivery", "webhookUrl"], "ftp://a", "spec.delivery.webhookUrl", "is not of the form"),
    (["spec", "refunds"], {"until": "2027-01-03T10:00:00Z"}, "spec.refunds.until", "needs allowed"),
    (["spec", "openPolicy"], "Never", "spec.openPolicy", "must be one of OnTime, WhenReady"),
    (["spec", "scaling"], {"leadTime": "0s"}, "spec.scaling.leadTime", "must be from 1s to 24h"),
    (["spec", "scaling"], {"cooldown": "25h"}, "spec.scaling.cooldown", "must be from 1s to 24h"),
    (["spec", "scaling"], {"warmUpSteps": 0}, "spec.scaling.warmUpSteps", "must be at least 1"),
    (["spec", "scaling"], {"warmUpSteps": 21}, "spec.scaling.warmUpSteps", "must be at most 20"),
    (["spec", "scaling", "services"], {"edge": {}}, "spec.scaling.services.edge", "is not a field"),
    (QUEUE, {"floor": 2, "peak": 1, "max": 3}, "spec.scaling.services.queue.peak", "not be below floor"),
    (QUEUE, {"floor": 1, "peak": 3, "max": 2}, "spec.scaling.services.queue.max", "not be below peak"),
    (QUEUE, {"floor": 1, "peak": 3}, "spec.scaling.services.queue.max", "is required"),
    (QUEUE, {"floor": -1, "peak": 3, "max": 3}, "spec.scaling.services.queue.floor", "at least 0"),
    (QUEUE, {"floor": 1, "peak": 3, "max": 1001}, "spec.scaling.services.queue.max", "at most 1000"),
    (["spec", "override"], {**OVERRIDE, "reason": ""}, "spec.override.reason", "must not be empty"),
    (["spec", "override"], {**OVERRIDE, "until": "soon"}, "spec.override.until", "must be a time like"),
    (["spec", "override"], {**OVERRIDE, "floors": {}}, "spec.override.floors", "must name a service"),
    (["spec", "override"], {"reason": "x", "floors": {"queue": 1}}, "spec.override.until", "is required"),
]


@pytest.mark.parametrize(("path", "value", "where", "why"), REFUSED)
def test_refused(path: list[Any], value: Any, where: str, why: str) -> None:
    (problem,) = validate(edited(path, value))
    assert problem.path == where
    assert why in problem.problem


def test_only_a_line_can_be_held_back() -> None:
    manifest = edited(["spec", "line"], {"kind": "None"})
    manifest["spec"]["openPolicy"] = "WhenReady"
    (problem,) = validate(manifest)
    assert problem.path == "spec.openPolicy"


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
        assert field["description"].endswith("."), path
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
