"""What the Secrets hold that the chart makes where none was given: key rings, passwords, clients. Pure."""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from local.issuer.clients import development_clients
from local.prepare import GRANTS
from local.private import SECRET_BYTES, new_signing, new_symmetric
from local.server_users import nats_user, redis_owner, redis_user
from services.kit.rights import NATS, REDIS

OWNER = "owner"
DATABASE = "catraca"
Texts = dict[str, str]

NATS_CONFIG = """\
server_name: "catraca"
listen: "0.0.0.0:4222"
http: "0.0.0.0:8222"
max_payload: 8MB
authorization {{ users: {users} }}
jetstream {{
  store_dir: "/data"
  # A lone server has no replica to fall back on: what it has acknowledged is on disk.
  sync_interval: always
}}
"""


@dataclass(frozen=True)
class Addresses:
    """Where the servers are that passwords are made for, host:port each; empty where none is made for it."""

    redis: str = ""
    nats: str = ""
    postgres: str = ""


@dataclass(frozen=True)
class Maker:
    """How one Secret comes about."""

    new: Callable[[Addresses], Texts]
    """Everything that is in it, made anew."""
    derived: Callable[[Texts], Texts] = lambda _: {}
    """Of that, what follows from the rest, and is made again with each version of the chart."""


def keys(_: Addresses) -> Texts:
    """A ring of one key for each purpose, named as docs/keys.md has it."""
    now = time.time()
    rings = {
        "admission": new_symmetric(now),
        "buyer-hash": new_symmetric(now),
        "ticket": new_signing(now),
        "receipt": new_signing(now),
    }
    return {f"{purpose}.json": json.dumps([entry], indent=1) for purpose, entry in rings.items()}


def redis(at: Addresses) -> Texts:
    """A URL per user of Redis, and the file of users that Redis reads."""
    users = [OWNER, *REDIS]
    texts = {user: f"redis://{user}:{password()}@{at.redis}/0" for user in users}
    return texts | redis_files(texts)


def redis_files(texts: Texts) -> Texts:
    """Users with the rights that this version has. Nobody comes in without a password but to be told PONG."""
    lines = [
        "default off",
        "probe on nopass resetchannels -@all +ping",
        redis_owner(OWNER, password_of(texts[OWNER])),
        *(redis_user(user, password_of(texts[user])) for user in REDIS),
    ]
    return {"users.acl": "".join(f"user {line}\n" for line in lines)}


def nats(at: Addresses) -> Texts:
    """A URL per user of NATS, and the server's configuration."""
    texts = {user: f"nats://{user}:{password()}@{at.nats}" for user in (OWNER, *NATS)}
    return texts | nats_files(texts)


def nats_files(texts: Texts) -> Texts:
    """The configuration, with users that have the rights that this version has."""
    users = [
        {"user": OWNER, "password": password_of(texts[OWNER])},
        *(nats_user(user, password_of(texts[user])) for user in NATS),
    ]
    # JSON is what this file format understands too.
    return {"nats.conf": NATS_CONFIG.format(users=json.dumps(users))}


def postgres(at: Addresses) -> Texts:
    """A URL per user of Postgres; the owner's password also by itself, for a server that is new."""
    owner = password()
    texts = {user: f"postgresql://{user}:{password()}@{at.postgres}/{DATABASE}" for user in GRANTS}
    return texts | {
        OWNER: f"postgresql://{DATABASE}:{owner}@{at.postgres}/{DATABASE}",
        "owner-password": owner,
    }


def payment(_: Addresses) -> Texts:
    """What checkout and the sandbox provider share."""
    return {"sandbox.json": json.dumps({"api_key": password(), "webhook_secret": password()})}


def issuer(_: Addresses) -> Texts:
    """The development issuer's clients, and what the services' and the operator's tokens are asked with."""
    operator = {"id": "operator", "roles": ["organiser"], "secret": password()}
    clients = [*development_clients(), operator]
    secret_of = {client["id"]: client.get("secret", "") for client in clients}
    return {
        "clients.json": json.dumps(clients, indent=1),
        "issuer-secret": password(),
        "service-client-id": "service",
        "service-client-secret": secret_of["service"],
        "organiser-client-id": "operator",
        "organiser-client-secret": secret_of["operator"],
    }


MAKERS: Mapping[str, Maker] = {
    "keys": Maker(keys),
    "redis": Maker(redis, redis_files),
    "nats": Maker(nats, nats_files),
    "postgres": Maker(postgres),
    "payment": Maker(payment),
    "issuer": Maker(issuer),
}


def password() -> str:
    """A new one: hexadecimal, so it needs no quoting anywhere."""
    return secrets.token_hex(SECRET_BYTES)


def password_of(url: str) -> str:
    """The password in a URL."""
    return urlsplit(url).password or ""
