"""A sale has one definition: the API server and `catraca apply` judge by the same CRD, and judge alike."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.kit.manifest import API_VERSION, crd_file, read_manifests, spec_of, validate
from tests.cluster.plane.api import Api, Json, Refused
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.tools import CommandFailed
from tests.manifests import ACCEPTED, REFUSED, REFUSED_FOR_MANY, edited, edited_often

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
UNKNOWN_FIELD = re.compile(r'unknown field "([^"]+)"')
# What the server adds to say that it looked no further.
NOT_A_FIELD = "<nil>"


def sales(namespace: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/ticketsales"


@pytest.fixture(scope="module")
def path(api: Api, ticket_sales: Json) -> str:
    """Where sales are tried: nothing is stored there."""
    assert ticket_sales["spec"]["names"]["kind"] == "TicketSale"
    return sales("default")


def fields_refused(api: Api, path: str, manifest: Json) -> set[str] | None:
    """The fields for which the API server refuses a manifest, none where it accepts it.

    None where it could not even read it: then it names no field.
    """
    try:
        api.create(path, manifest, dryRun="All", fieldValidation="Strict")
    except Refused as refused:
        unknown = UNKNOWN_FIELD.findall(str(refused))
        if not refused.causes:
            return set(unknown) or None
        return _without_consequences([cause for cause in refused.causes if cause[0] != NOT_A_FIELD])
    return set()


def _without_consequences(causes: list[tuple[str, str]]) -> set[str]:
    # Where a time is written wrongly, the rule that compares it cannot be evaluated either.
    fields = {field for field, _ in causes}
    consequences = {
        field
        for field, message in causes
        if "evaluating rule" in message and any(other.startswith(f"{field}.") for other in fields)
    }
    return fields - consequences


def test_the_crd_is_accepted_as_it_stands(ticket_sales: Json) -> None:
    conditions = {each["type"]: each["status"] for each in ticket_sales["status"]["conditions"]}
    assert conditions["Established"] == "True"
    # What is not structural would neither be pruned nor defaulted.
    assert conditions.get("NonStructuralSchema", "False") == "False"
    ours = yaml.safe_load(crd_file().read_text())["spec"]["versions"][0]["schema"]
    assert ticket_sales["spec"]["versions"][0]["schema"] == ours


@pytest.mark.parametrize(("where", "value"), ACCEPTED)
def test_both_accept(api: Api, path: str, where: list[Any], value: Any) -> None:
    manifest = edited(where, value)
    assert validate(manifest) == []
    assert fields_refused(api, path, manifest) == set()


@pytest.mark.parametrize(("where", "value", "field", "why"), REFUSED)
def test_both_refuse_for_the_same_field(
    api: Api, path: str, where: list[Any], value: Any, field: str, why: str
) -> None:
    manifest = edited(where, value)
    assert {problem.path for problem in validate(manifest)} == {field}
    found = fields_refused(api, path, manifest)
    if where == ["kind"]:
        # Of another kind the server fills in no defaults, and so misses them besides.
        assert found is not None
        assert field in found
    elif where == ["apiVersion"]:
        assert found != set()
    else:
        assert found is None or found == {field}


# A number for a name, and numbers that JSON does not have.
UNREAD = [["metadata", "name"], ["spec", "line", "rate"], ["spec", "line", "rate"]]
# How the API server says what is right, where it says it by itself: by our words, with what they end with.
SERVER_SAYS = {
    "is required": "Required value",
    "must be a mapping": "must be of type object",
    "must be a list": "must be of type array",
    "must be text": "must be of type",
    "must be a whole number": "must be of type int",
    "must be a number": "must be of type number",
    "must be true or false": "must be of type boolean",
    "must be a time like": r"(must be of type date-time|should match '\^2\[0-9\]\{3\}-)",
    "must not be empty": "should (be|have) at least 1 ",
    "must have at least 2": "should be at least 2 ",
    "at least ": "greater than or equal to ",
    "at most ": "(less than or equal to |may not be more than )",
    "given twice": "Duplicate value",
}
LIST = re.compile(r"must be one of (.+)")


def is_said(why: str, text: str) -> bool:
    """Whether a refusal says this, in our words or the server's own."""
    if why in text:
        return True
    if listed := LIST.fullmatch(why):
        return all(f'"{each}"' in text for each in listed[1].split(", "))
    words = next((words for words in SERVER_SAYS if words in why), None)
    if words is None:
        return False
    bound = re.match(r"\d+", why.partition(words)[2]) if words.endswith(" ") else None
    # 10000000 is 1e+07 to the server.
    said = f"({bound[0]}|{float(bound[0]):.0e})\\b" if bound else ""
    return re.search(SERVER_SAYS[words] + said.replace("+", r"\+"), text) is not None


def test_the_server_says_what_is_right_in_words(api: Api, path: str) -> None:
    told: list[tuple[str, str]] = []
    for where, value, field, why in REFUSED:
        with pytest.raises(Refused) as caught:
            api.create(path, edited(where, value), dryRun="All", fieldValidation="Strict")
        causes = caught.value.causes
        text = "; ".join(message for at, message in causes if at == field) or str(caught.value)
        told.append((field, text))
        if where == ["apiVersion"]:
            assert '"v2" cannot be handled' in text
        elif why == "is not a field":
            assert f'unknown field "{field}"' in text
        elif causes or where not in UNREAD:
            assert is_said(why, text), f"{field}: {text}; expected: {why}"
    for field, text in told:
        print(f"{field}: {text}")
    assert len(set(told)) >= 40


def test_only_what_cannot_be_read_is_refused_without_a_field(api: Api, path: str) -> None:
    unread = [row[0] for row in REFUSED if fields_refused(api, path, edited(row[0], row[1])) is None]
    assert unread == UNREAD


@pytest.mark.parametrize(("edits", "fields"), REFUSED_FOR_MANY)
def test_both_tell_every_field(api: Api, path: str, edits: list[Any], fields: set[str]) -> None:
    manifest = edited_often(edits)
    assert {problem.path for problem in validate(manifest)} == fields
    assert fields_refused(api, path, manifest) == fields


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_examples_are_applied(
    api: Api, plane: ControlPlane, namespace: str, ticket_sales: Json, example: Path
) -> None:
    plane.tools.kubectl("--namespace", namespace, "apply", "--server-side", "--filename", str(example))
    (manifest,) = read_manifests(example.read_text())
    stored = api.get(f"{sales(namespace)}/{manifest['metadata']['name']}")
    # Whatever the server fills in is what `catraca apply` fills in too.
    bare = {field: stored[field] for field in ("apiVersion", "kind", "spec")}
    bare["metadata"] = {"name": stored["metadata"]["name"]}
    assert spec_of(bare) == spec_of(manifest)
    assert stored["spec"]["limits"]["holdsPerTurn"] == spec_of(manifest)[1].limits.holds_per_turn


def objects_of(schema: Json, path: str) -> list[tuple[str, Json]]:
    """Every object of a schema below a path as kubectl writes it, with the fields it has."""
    fields = schema.get("items", schema).get("properties", {})
    inner = [objects_of(field, f"{path}.{name}") for name, field in fields.items()]
    return [(path, fields), *(each for found in inner for each in found)] if fields else []


def test_kubectl_explains_every_field(plane: ControlPlane, ticket_sales: Json) -> None:
    schema = ticket_sales["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    objects = objects_of(schema["properties"]["spec"], "ticketsales.spec")
    assert "ticketsales.spec.sections.ticketTypes" in dict(objects)
    for path, fields in objects:
        said = plane.tools.kubectl("explain", path)
        for name, field in fields.items():
            _, _, told = said.partition(f"  {name}\t")
            # Below a name and its type stand its values, where it has some, and what is said of it, wrapped.
            lines = [line for line in told.split("\n")[1:] if not line.startswith("  enum: ")]
            words = field["description"].split()
            assert " ".join(lines).split()[: len(words)] == words, f"{path}.{name}"


def test_kubectl_lists_sales_with_their_columns(
    plane: ControlPlane, namespace: str, ticket_sales: Json
) -> None:
    plane.tools.kubectl("--namespace", namespace, "apply", "--filename", str(EXAMPLES[0]))
    (heads, *_) = plane.tools.kubectl("--namespace", namespace, "get", "tsale").splitlines()
    columns = ["NAME", "PHASE", "OPENS", "CLOSES", "FREE", "SOLD", "WAITING", "READY", "AGE"]
    assert heads.split() == columns


def test_an_unknown_field_is_refused_by_kubectl(
    plane: ControlPlane, namespace: str, ticket_sales: Json
) -> None:
    manifest = yaml.safe_dump(edited(["spec", "price"], 5))
    with pytest.raises(CommandFailed, match=r"spec\.price"):
        plane.tools.kubectl("--namespace", namespace, "apply", "--filename", "-", stdin=manifest)
