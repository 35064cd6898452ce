"""Users of Redis and NATS as their configuration files have them, made from the one table of rights."""

import hashlib
from typing import Any

from services.kit.rights import NATS, REDIS


def redis_user(name: str, password: str) -> str:
    """The line of an ACL file (after `user`) for a user of `services.kit.rights.REDIS`."""
    return f"{name} on #{_digest(password)} {REDIS[name].acl}"


def redis_owner(name: str, password: str) -> str:
    """The same for who may do everything."""
    return f"{name} on #{_digest(password)} ~* &* +@all"


def nats_user(name: str, password: str) -> dict[str, Any]:
    """The entry in a NATS configuration's list for a user of `services.kit.rights.NATS`."""
    rights = NATS[name]
    permissions = {"publish": {"allow": rights.publish}, "subscribe": {"allow": rights.subscribe(name)}}
    return {"user": name, "password": password, "permissions": permissions}


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
