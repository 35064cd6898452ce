"""What the chart runs beside the services, as processes with the rights and environment that it gives."""

import base64
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import jwt
import pytest
import redis
from catraca_operator.resources import FINALIZER

from local.cluster import contents, farewell
from local.parts import HttpProcess
from local.private import write_private
from local.servers import binaries, ports
from local.servers.process import Process
from local.stack import Stack
from services.kit.keys import load_ring
from services.kit.manifest import API_VERSION
from services.kit.signing import load_signing_ring
from services.kit.streams import STREAMS, connect_nats
from tests.cluster.chart.charts import RELEASE, environment, example, of_kind, pods
from tests.cluster.chart.release import RIGHTS, Release
from tests.cluster.plane.api import Refused
from tests.cluster.plane.crds import apply_crd
from tests.cluster.plane.waiting import eventually
from tests.cluster.ticketsales.conftest import aside

MADE = ("keys", "redis", "nats", "postgres", "payment", "issuer")


def told(component: str) -> dict[str, str]:
    """The environment of a component's pod."""
    (pod,) = (pod for each, pod in pods(example("trial")) if each == component)
    return environment(pod)


def run(module: str, variables: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """A program of the chart's, to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CATRACA_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", module],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def grant(release: Release, component: str) -> Path:
    """The ServiceAccount and the rights of a component, as the chart renders them; a kubeconfig for it."""
    plurals = {
        "ServiceAccount": ("v1", "serviceaccounts"),
        "Role": (RIGHTS, "roles"),
        "RoleBinding": (RIGHTS, "rolebindings"),
    }
    for kind, (version, plural) in plurals.items():
        # Copies: what was rendered is shared by the tests.
        for body in deepcopy(of_kind(example("trial"), kind, component)):
            for subject in body.get("subjects", []):
                subject["namespace"] = release.namespace
            release.api.apply(release.path(version, plural, body["metadata"]["name"]), body)
    return release.plane.account_kubeconfig(release.namespace, f"{RELEASE}-{component}")


@pytest.fixture
def making(release: Release) -> Mapping[str, str]:
    """What the hook is told, in the test's namespace."""
    return {
        **told("secrets"),
        "CATRACA_NAMESPACE": release.namespace,
        "KUBECONFIG": str(grant(release, "secrets")),
    }


def texts(release: Release, what: str) -> dict[str, str]:
    """What a Secret holds."""
    data = release.secret(what).get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_secrets_are_made_once(release: Release, making: Mapping[str, str], tmp_path: Path) -> None:
    done = run("local.cluster.secrets", making)
    assert done.returncode == 0, done.stderr
    first = {what: release.secret(what) for what in MADE}
    keys = texts(release, "keys")
    # The services can read what was made.
    for name, load in {
        "admission": load_ring,
        "buyer-hash": load_ring,
        "ticket": load_signing_ring,
        "receipt": load_signing_ring,
    }.items():
        file = tmp_path / f"{name}.json"
        file.write_text(keys[f"{name}.json"])
        load(file, f"{name}_key_file")
    # No word of it in a log.
    held = [each for what in MADE for each in texts(release, what).values() if len(each) > 20]
    assert not [each for each in held if each in done.stderr or each in done.stdout]

    done = run("local.cluster.secrets", making)
    assert done.returncode == 0, done.stderr
    assert {what: release.secret(what)["metadata"]["resourceVersion"] for what in MADE} == {
        what: body["metadata"]["resourceVersion"] for what, body in first.items()
    }

    # What follows from the rest is made again where a version has other rights; passwords stay.
    before = texts(release, "redis")
    release.api.merge(
        release.path("v1", "secrets", f"{RELEASE}-redis"), {"stringData": {"users.acl": "user old on"}}
    )
    assert run("local.cluster.secrets", making).returncode == 0
    assert texts(release, "redis") == before


def test_a_ring_of_the_secret_is_rotated(release: Release, making: Mapping[str, str], tmp_path: Path) -> None:
    """As docs/chart.md has it, with kubectl on both ends."""
    assert run("local.cluster.secrets", {**making, "CATRACA_SECRETS_MADE": "keys"}).returncode == 0
    before = texts(release, "keys")
    name, kubectl = f"{RELEASE}-keys", f"kubectl --namespace {release.namespace}"
    rotate = f"{sys.executable} -P -m local.cluster.rotate ticket"
    release.shell(
        f"set -o pipefail; {kubectl} get secret {name} --output json | {rotate} | {kubectl} replace -f -"
    )
    after = texts(release, "keys")
    assert {key for key in before if before[key] != after[key]} == {"ticket.json"}
    old, new = (json.loads(each["ticket.json"]) for each in (before, after))
    assert new[1:] == old and len(new) == 2
    file = tmp_path / "ticket.json"
    file.write_text(after["ticket.json"])
    # The one before signs until every pod has the new one.
    assert load_signing_ring(file, "ticket_key_file").signing.id == old[0]["id"]
    # Another while that one is coming would be one too many.
    with pytest.raises(subprocess.CalledProcessError):
        release.shell(
            f"set -o pipefail; {kubectl} get secret {name} --output json | {rotate} > {tmp_path}/none"
        )
    assert (tmp_path / "none").read_text() == ""


def test_the_hook_reads_no_secret_but_those_it_makes(release: Release, making: Mapping[str, str]) -> None:
    api = release.plane.client(Path(making["KUBECONFIG"]))
    release.api.create(release.path("v1", "secrets"), {"metadata": {"name": "somebody-elses"}})
    for path in (release.path("v1", "secrets", "somebody-elses"), release.path("v1", "secrets")):
        with pytest.raises(Refused, match="forbidden"):
            api.get(path)
    with pytest.raises(Refused, match="forbidden"):
        api.delete(release.path("v1", "secrets", f"{RELEASE}-keys"))


def test_an_unknown_secret_is_refused(making: Mapping[str, str]) -> None:
    done = run("local.cluster.secrets", {**making, "CATRACA_SECRETS_MADE": "keys,crown"})
    assert done.returncode == 2
    assert "crown" in done.stderr


def test_sales_that_stay_are_let_go(release: Release) -> None:
    """Of the operator's hold alone: somebody else's stays."""
    apply_crd(release.api)
    sale = {
        "apiVersion": API_VERSION,
        "kind": "TicketSale",
        "metadata": {"name": "left", "finalizers": [farewell.FINALIZER, "example.com/other"]},
        "spec": {
            "title": "Left",
            "currency": "EUR",
            "window": {"opensAt": "2030-01-01T00:00:00Z", "closesAt": "2030-01-02T00:00:00Z"},
            "sections": [{"id": "floor", "capacity": 4, "ticketTypes": [{"id": "full", "price": 1500}]}],
        },
    }
    path = release.path(API_VERSION, "ticketsales", "left")
    release.api.apply(path, sale)
    assert farewell.FINALIZER == FINALIZER
    told_it = {"CATRACA_NAMESPACE": release.namespace, "KUBECONFIG": str(grant(release, "farewell"))}
    for _ in range(2):
        done = run("local.cluster.farewell", told_it)
        assert done.returncode == 0, done.stderr
        assert release.api.get(path)["metadata"]["finalizers"] == ["example.com/other"]


# ---- servers of a trial take what the hook makes ----


class Server(Process):
    """A server with the configuration of a trial's, at a port of ours."""

    def __init__(self, name: str, folder: Path, port: int, command: list[str], probe: Any) -> None:
        super().__init__(name, folder)
        self._address = f"{ports.HOST}:{port}"
        self._command, self._probe = command, probe

    @property
    def address(self) -> str:
        return self._address

    def command(self) -> list[str]:
        return self._command

    def probe(self) -> None:
        self._probe()


def test_redis_takes_its_users(tmp_path: Path) -> None:
    port = ports.reserve()
    made = contents.redis(contents.Addresses(redis=f"127.0.0.1:{port}"))
    (tmp_path / "users.acl").write_text(made["users.acl"])
    (pod,) = (pod for each, pod in pods(example("trial")) if each == "redis")
    paths = {"/data": str(tmp_path), "/etc/catraca/users.acl": str(tmp_path / "users.acl")}
    arguments = [paths.get(each, each) for each in pod["spec"]["containers"][0]["args"]]

    def probe() -> None:
        assert redis.Redis(port=port, username="probe", password="probe").ping()  # type: ignore[no-untyped-call]

    server = Server(
        "redis", tmp_path, port, [str(binaries.redis_server()), *arguments, "--port", str(port)], probe
    )
    server.start()
    try:
        server.wait_ready(30)
        owner, queue = redis.Redis.from_url(made["owner"]), redis.Redis.from_url(made["queue"])
        assert owner.config_get("appendfsync") == {"appendfsync": "always"}
        assert owner.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        with pytest.raises(redis.exceptions.NoPermissionError):
            queue.flushall()
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis(port=port).set("a", "b")
    finally:
        server.stop()


async def test_stores_are_prepared_with_what_was_made(tmp_path: Path, postgres_url: str) -> None:
    """A NATS with the trial's configuration, and a Postgres: streams, tables, and checkout's own user."""
    port, monitor = ports.reserve(), ports.reserve()
    made = contents.nats(contents.Addresses(nats=f"127.0.0.1:{port}"))
    text = made["nats.conf"].replace(":4222", f":{port}").replace(":8222", f":{monitor}")
    (tmp_path / "nats.conf").write_text(text.replace('"/data"', f'"{tmp_path}/data"'))

    def probe() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/healthz?js-enabled-only=true") as answer:
            assert json.load(answer) == {"status": "ok"}

    server = Server(
        "nats", tmp_path, port, [str(binaries.nats_server()), "--config", str(tmp_path / "nats.conf")], probe
    )
    server.start()
    host, _, database = postgres_url.rpartition("@")[2].partition("/")
    checkout = f"postgresql://checkout:{contents.password()}@{host}/{database}"
    files = {"nats": made["owner"], "postgres": postgres_url, "checkout": checkout}
    for name, url in files.items():
        write_private(tmp_path / "stores" / name, url)
    variables = {
        name: value.replace("/etc/catraca", str(tmp_path)) for name, value in told("prepare").items()
    }
    try:
        server.wait_ready(30)
        for _ in range(2):
            done = await aside(run, "local.cluster.prepare", variables)
            assert done.returncode == 0, done.stderr
        client = await connect_nats(SimpleNamespace(nats_url=made["owner"]), "owner")
        assert {each.config.name for each in await client.jetstream().streams_info()} == {
            each.name for each in STREAMS
        }
        await client.close()
        connection = await asyncpg.connect(checkout)
        assert await connection.fetchval("select count(*) from orders.orders") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("create table orders.mine (a int)")
        await connection.close()

        wrong = {
            **variables,
            "CATRACA_NATS_URL_FILE": "",
            "CATRACA_NATS_URL": f"nats://owner:guess@127.0.0.1:{port}",
        }
        done = await aside(run, "local.cluster.prepare", wrong)
        assert done.returncode == 2
        assert "CATRACA_NATS_URL is refused by its NATS" in done.stderr
        assert "guess" not in done.stderr
    finally:
        server.stop()


# ---- tokens ----


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[HttpProcess]:
    """The development issuer with the clients that the hook makes."""
    folder = tmp_path / "issuer"
    for name, text in contents.issuer(contents.Addresses()).items():
        write_private(folder / name, text)
    process = HttpProcess("issuer", folder, "local.issuer")
    mounted = re.compile("^(/etc/catraca|/data|/tmp)(?=/)")
    variables = {name: mounted.sub(str(folder), value) for name, value in told("issuer").items()}
    process.variables = {**variables, "CATRACA_ISSUER_LISTEN": process.address}
    process.start()
    process.wait_ready(60)
    yield process
    process.stop()


def test_tokens_come_into_their_secret(release: Release, issuer: HttpProcess, tmp_path: Path) -> None:
    (empty,) = of_kind(example("trial"), "Secret", "tokens")
    release.api.create(release.path("v1", "secrets"), empty)
    kubeconfig = grant(release, "tokens")
    keeper = HttpProcess("tokens", tmp_path, "local.cluster.tokens")
    keeper.variables = {
        **told("tokens"),
        "KUBECONFIG": str(kubeconfig),
        "CATRACA_NAMESPACE": release.namespace,
        "CATRACA_TOKEN_URL": f"http://{issuer.address}/token",
        "CATRACA_CLIENTS_FOLDER": str(tmp_path / "issuer"),
        "CATRACA_METRICS_LISTEN": keeper.address,
    }
    keeper.start()
    try:
        keeper.wait_ready(60)
        held = eventually(lambda: texts(release, "tokens"), lambda found: len(found) == 2)
        claims = {name: jwt.decode(text, options={"verify_signature": False}) for name, text in held.items()}
        assert {name: each["roles"] for name, each in claims.items()} == {
            "service": ["service"],
            "organiser": ["organiser"],
        }
        assert {each["aud"] for each in claims.values()} == {"catraca"}
        assert not [text for text in held.values() if text in keeper.log_tail()]
        # It may write this one, and read none.
        with pytest.raises(Refused, match="forbidden"):
            release.plane.client(kubeconfig).get(release.path("v1", "secrets", f"{RELEASE}-tokens"))
    finally:
        keeper.stop()


def test_a_provider_that_gives_none_is_told_and_asked_again(
    release: Release, issuer: HttpProcess, tmp_path: Path
) -> None:
    write_private(tmp_path / "issuer" / "service-client-secret", "wrong")
    (empty,) = of_kind(example("trial"), "Secret", "tokens")
    release.api.create(release.path("v1", "secrets"), empty)
    keeper = HttpProcess("tokens", tmp_path, "local.cluster.tokens")
    keeper.variables = {
        **told("tokens"),
        "KUBECONFIG": str(grant(release, "tokens")),
        "CATRACA_NAMESPACE": release.namespace,
        "CATRACA_TOKEN_URL": f"http://{issuer.address}/token",
        "CATRACA_CLIENTS_FOLDER": str(tmp_path / "issuer"),
        "CATRACA_METRICS_LISTEN": keeper.address,
    }
    keeper.start()
    try:
        eventually(lambda: "invalid_client" in keeper.log_tail(), timeout_s=60)
        assert eventually(lambda: texts(release, "tokens"), lambda found: set(found) == {"organiser"})
        # The other is not there yet, and it says so.
        with pytest.raises(ConnectionError, match="503"):
            keeper.probe()
        secret = json.loads((tmp_path / "issuer" / "clients.json").read_text())
        right = next(each["secret"] for each in secret if each["id"] == "service")
        write_private(tmp_path / "issuer" / "service-client-secret", right)
        eventually(lambda: set(texts(release, "tokens")), lambda found: found == {"service", "organiser"})
        keeper.wait_ready(30)
    finally:
        keeper.stop()


# ---- the chart's test ----


async def test_the_charts_test_buys_a_ticket(stack: Stack, tmp_path: Path) -> None:
    running = stack.running
    write_private(tmp_path / "tokens" / "organiser", running.minter().mint("operator", roles=["organiser"]))
    write_private(tmp_path / "issuer" / "issuer-secret", running.issuer_secret)
    variables = {name: value.replace("/etc/catraca", str(tmp_path)) for name, value in told("test").items()}
    targets = {f"CATRACA_{service.upper()}_TARGET": target for service, target in running.targets.items()}
    here = {**variables, **targets, "CATRACA_TOKEN_URL": f"{running.issuer}/token"}
    done = await aside(run, "local.cluster.check", here)
    assert done.returncode == 0, done.stderr
    assert [line.split(" helm-test")[0] for line in done.stdout.splitlines()] == [
        "defined the sale",
        "was called and entered",
        "paid at the sandbox provider",
        "was told of the ticket",
        "archived the sale",
    ]

    # Without a provider to pay at, by a given buyer; and one who is nobody is told so.
    write_private(tmp_path / "buyer", running.minter().mint("somebody"))
    free = {**here, "CATRACA_PAYS": "false", "CATRACA_BUYER_TOKEN_FILE": str(tmp_path / "buyer")}
    done = await aside(run, "local.cluster.check", free)
    assert done.returncode == 0, done.stderr
    assert "paid" not in done.stdout and "was told of the ticket" in done.stdout
    (tmp_path / "buyer").write_text("nobody")
    done = await aside(run, "local.cluster.check", free)
    assert done.returncode == 1
    assert "FAILED: TOKEN_INVALID" in done.stderr
