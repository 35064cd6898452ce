"""The operator's rights are exactly those of its Role: each rule that is taken away breaks something."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import yaml

from local.parts import HttpProcess
from tests.cluster.estate import ACCOUNT, BASE, RBAC, Estate, manifest
from tests.cluster.keda import Keda
from tests.cluster.plane.api import Refused
from tests.cluster.plane.audit import Right, rights_used
from tests.cluster.plane.waiting import eventually
from tests.cluster.ticketsales.conftest import aside

pytestmark = pytest.mark.timeout(240)
SOON = {"lobby_s": 3600.0, "opens_s": 3700.0, "closes_s": 3800.0}
# Floors from the beginning, so that nothing has to be waited for; KEDA scales the notifier.
OVERRIDE = {
    "until": "2999-01-01T00:00:00Z",
    "reason": "a test",
    "floors": {"queue": 5, "notifier": 4},
}
FASTER = 20
"""Changes of somebody else's, one after the other, while the operator writes its status."""


@pytest.fixture(autouse=True)
def scaled_by_keda(estate: Estate, keda: Keda) -> Iterator[None]:
    """Three services by HPAs, and the notifier by a ScaledObject."""
    estate.scale_by_keda("notifier")
    with keda.playing(estate.namespace, "catraca_notifier_buyers"):
        yield


@dataclass(frozen=True)
class Work:
    """What a sale that is looked after shows; each of them needs a right."""

    estate: Estate
    name: str
    operator: HttpProcess

    def is_reconciled(self) -> bool:
        """The finalizer is there, and so the resource was read and written."""
        return bool(self.estate.sale(self.name)["metadata"].get("finalizers"))

    def is_told(self) -> bool:
        """The status says that the services hold it."""
        return self.estate.condition(self.name, "SpecValid").get("status") == "True"

    def has_floor(self) -> bool:
        """minReplicas was raised."""
        return self.estate.least("queue") == 5

    def has_floor_by_keda(self) -> bool:
        """minReplicaCount was raised."""
        return self.estate.least_by_keda("notifier") == 4

    def sees_replicas(self) -> bool:
        """Ready replicas are known of."""
        return self.estate.condition(self.name, "Prewarmed").get("reason") == "FloorsReady"

    def posts(self) -> bool:
        """People were told."""
        return bool(self.estate.events(self.name))


WORKS: dict[str, Callable[[Work], bool]] = {
    "ticketsales": Work.is_reconciled,
    "ticketsales/status": Work.is_told,
    "horizontalpodautoscalers": Work.has_floor,
    "scaledobjects": Work.has_floor_by_keda,
    "deployments": Work.sees_replicas,
    "events": Work.posts,
}


def rules() -> list[str]:
    """What each rule is about, in its order."""
    (role,) = [each for each in yaml.safe_load_all(RBAC.read_text()) if each["kind"] == "Role"]
    return [rule["resources"][0] for rule in role["rules"]]


def rights() -> set[Right]:
    """Everything that the rules allow, one by one."""
    (role,) = [each for each in yaml.safe_load_all(RBAC.read_text()) if each["kind"] == "Role"]
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_every_rule_has_its_work() -> None:
    assert set(rules()) == set(WORKS)


async def test_with_all_rules_everything_works(estate: Estate, name: str) -> None:
    with estate.operated() as operator:
        work = Work(estate, name, operator)
        await aside(estate.apply, manifest(name, **SOON, override=OVERRIDE))
        for works in WORKS.values():
            await aside(eventually, lambda works=works: works(work))
        assert "Forbidden" not in operator.log_tail()

        # It makes use of every right: the last, to read a sale, where somebody else was faster to change it.
        def used() -> set[Right]:
            estate.api.merge(estate.sale_path(name), {"spec": {"title": secrets.token_hex(4)}})
            for _ in range(FASTER):
                estate.api.merge(
                    estate.sale_path(name), {"metadata": {"labels": {"at": secrets.token_hex(4)}}}
                )
            return rights_used(estate.plane.api.audit_log, estate.namespace, ACCOUNT)

        assert await aside(eventually, used, lambda found: found == rights()) == rights()
        # It may do nothing else: not even read what it has no use for.
        account = estate.plane.client(estate.plane.account_kubeconfig(estate.namespace, ACCOUNT))
        for path in (
            f"/api/v1/namespaces/{estate.namespace}/secrets",
            f"/api/v1/namespaces/{estate.namespace}/pods",
            "/apis/catraca.dev/v1alpha1/ticketsales",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        ):
            with pytest.raises(Refused, match="forbidden"):
                account.get(path)


@pytest.mark.parametrize("without", range(len(rules())), ids=rules())
async def test_without_a_rule_its_work_is_not_done(estate: Estate, name: str, without: int) -> None:
    resource = rules()[without]
    estate.grant(without=without)
    operator = estate.operator()
    operator.start()
    work = Work(estate, name, operator)
    await aside(estate.apply, manifest(name, **SOON, override=OVERRIDE))
    # It says what it lacks, in words that name the resource.
    await aside(eventually, lambda: resource.partition("/")[0] in refused_words(operator), bool)
    assert not WORKS[resource](work)
    if resource == "events":
        # A missed Event is no reason to stop.
        await aside(eventually, work.is_told)
        assert not work.posts()
    # Once it has the right, it goes on by itself, or after the restart that Kubernetes gives it.
    estate.grant()
    if not operator.running:
        operator.start()
    if resource != "events":
        await aside(eventually, lambda: WORKS[resource](work))


def refused_words(operator: HttpProcess) -> str:
    """The operator's log, where it was refused something."""
    text = operator.log_path.read_text() if operator.log_path.exists() else ""
    return "\n".join(line for line in text.splitlines() if "orbidden" in line or "403" in line)


def test_at_rest_the_floor_is_the_charts(estate: Estate) -> None:
    with estate.operated():
        assert eventually(lambda: estate.least("queue"), lambda least: least == BASE)
