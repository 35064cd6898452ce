"""The development grant: any token at all for whoever knows the stack's secret; for tests."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from local.issuer.ring import LONGEST_TTL_S
from local.issuer.tokens import DEFAULT_NAMESPACE, DEFAULT_TTL_S, ROLES

MAX_SUBJECT_LENGTH = 256
NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TTL = re.compile(r"[0-9]{1,9}")


class InvalidRequest(Exception):
    """A field of the token request is wrong; the message names it and says what is expected."""


@dataclass(frozen=True)
class Grant:
    """What a token request asks for."""

    subject: str
    namespace: str
    roles: list[str]
    ttl_s: int


def read_grant(form: Mapping[str, str]) -> Grant:
    """The grant in a form with subject, namespace, roles (separated by spaces) and ttl (seconds)."""
    subject = form.get("subject", "")
    if not 1 <= len(subject) <= MAX_SUBJECT_LENGTH or "\0" in subject:
        raise InvalidRequest(f"subject: 1 to {MAX_SUBJECT_LENGTH} characters")
    namespace = form.get("namespace", DEFAULT_NAMESPACE)
    if not NAMESPACE.fullmatch(namespace):
        raise InvalidRequest("namespace: a DNS label")
    roles = form.get("roles", "buyer").split()
    if not roles or not set(roles) <= set(ROLES):
        raise InvalidRequest(f"roles: some of {', '.join(ROLES)}, separated by spaces")
    ttl = form.get("ttl", str(DEFAULT_TTL_S))
    if not (TTL.fullmatch(ttl) and 1 <= int(ttl) <= LONGEST_TTL_S):
        raise InvalidRequest(f"ttl: 1 to {LONGEST_TTL_S} seconds")
    return Grant(subject, namespace, roles, int(ttl))
