"""A resource decoded: the definition for the services, and what is for the operator alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from catraca_operator.spec import Replicas, Scaling, decode, time_ms, time_text

from services.kit.manifest import ManifestInvalid, crd_schema, read_manifests, spec_of

EXAMPLES = Path(__file__).parents[3] / "examples"


def stored(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest as the API server has it, with its defaults."""
    made: dict[str, Any] = crd_schema().with_defaults(copy.deepcopy(manifest))
    made["metadata"] |= {
        "uid": "u", "generation": 3, "resourceVersion": "9", "creationTimestamp": "2026-11-20T10:00:00Z",
    }  # fmt: skip
    return made


def example(name: str, **spec: Any) -> dict[str, Any]:
    (manifest,) = read_manifests((EXAMPLES / f"{name}.yaml").read_text())
    manifest["spec"] |= spec
    return stored(manifest)


def test_the_services_get_what_catraca_apply_gives_them() -> None:
    body = example("stadium-final")
    (manifest,) = read_manifests((EXAMPLES / "stadium-final.yaml").read_text())
    assert (decode(body).name, decode(body).definition) == spec_of(manifest)


def test_what_is_for_the_operator() -> None:
    made = decode(example("stadium-final"))
    assert (made.generation, made.when_ready, made.deleting, made.override) == (3, True, False, None)
    assert made.scaling.services["queue"] == Replicas(6, 20, 60)
    assert (made.scaling.lead_ms, made.scaling.steps, made.scaling.cooldown_ms) == (1_800_000, 4, 1_800_000)
    assert made.scaling.by_forecast
    assert made.schedule.opens_ms - made.schedule.lobby_ms == 7_200_000


def test_a_sale_that_says_nothing_asks_for_nothing() -> None:
    made = decode(example("cinema"))
    assert made.scaling == Scaling()
    assert not made.when_ready
    # Without a line there is nothing to come early for.
    assert made.schedule.lobby_ms == made.schedule.opens_ms


def test_a_lobby_without_a_time_opens_when_the_sale_is_made() -> None:
    body = example("festival")
    del body["spec"]["window"]["lobbyOpensAt"]
    assert decode(body).schedule.lobby_ms == time_ms("2026-11-20T10:00:00Z")


def test_a_persons_word() -> None:
    override = {"until": "2027-01-01T00:00:00Z", "reason": "a rumour", "floors": {"queue": 3}}
    made = decode(example("festival", override=override)).override
    assert made is not None
    assert (made.until_ms, made.reason, made.floors) == (time_ms(override["until"]), "a rumour", {"queue": 3})  # type: ignore[arg-type]


def test_what_is_being_deleted() -> None:
    body = example("festival")
    body["metadata"]["deletionTimestamp"] = "2026-11-20T11:00:00Z"
    assert decode(body).deleting


def test_a_resource_of_another_schema_is_told_with_its_field() -> None:
    with pytest.raises(ManifestInvalid, match=r"spec\.surprise"):
        decode(example("festival", surprise=1))


def test_what_is_being_deleted_needs_no_valid_definition() -> None:
    body = example("festival", surprise=1)
    body["metadata"]["deletionTimestamp"] = "2026-11-20T11:00:00Z"
    made = decode(body)
    assert (made.name, made.deleting, made.scaling) == ("festival-de-verao", True, Scaling())


@pytest.mark.parametrize("ms", [0, 1, 999, 1_700_000_000_123])
def test_a_time_is_the_same_there_and_back(ms: int) -> None:
    assert time_ms(time_text(ms)) == ms


def test_the_role_names_no_verb_that_could_delete_or_make() -> None:
    file = Path(__file__).parents[3] / "charts/catraca/files/operator-rbac.yaml"
    (role,) = [each for each in yaml.safe_load_all(file.read_text()) if each["kind"] == "Role"]
    for rule in role["rules"]:
        allowed = {"get", "list", "watch", "patch"} | (
            {"create"} if rule["resources"] == ["events"] else set()
        )
        assert set(rule["verbs"]) <= allowed
        assert "*" not in rule["apiGroups"] + rule["resources"]
