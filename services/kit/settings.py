"""Settings from the environment: one frozen dataclass per service, read and validated once at start."""

import dataclasses
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

PREFIX = "CATRACA_"
REQUIRED = dataclasses.MISSING

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})

S = TypeVar("S")


class SettingError(Exception):
    """A setting that stops the start. Its text is one sentence for the person who set it."""

    def __init__(self, variable: str, found: str, expected: str) -> None:
        super().__init__(f"{variable} is {found}; expected {expected}")
        self.variable = variable
        self.found = found
        self.expected = expected


def setting(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | None = None,
    secret: bool = False,
) -> Any:
    """A field of a settings dataclass.

    `default` may be REQUIRED. `doc` says what it is, its unit and why one would change it. Bounds include
    their ends. What a secret holds appears in no error and no repr.
    """
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices, "secret": secret}
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, repr=not secret, metadata=metadata)
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """What every service is told."""

    listen: str = setting("127.0.0.1:50051", "host:port that gRPC listens on; port 0 takes a free one.")
    nats_url: str = setting(
        REQUIRED, "nats://user:password@host:port of JetStream, or tls:// for TLS.", secret=True
    )
    redis_url: str | None = setting(
        None,
        "redis://user:password@host:port of the service's store, where it has one; rediss:// for TLS. "
        "redis+sentinel://user:password@host:port,…/service asks Sentinels who the master is, "
        "redis+cluster://user:password@host:port,… finds a cluster by any of its nodes.",
        secret=True,
    )
    tls_cert_file: Path | None = setting(
        None,
        "PEM file with the certificate that this service shows, as server and as client, and those between "
        "it and its CA; without it gRPC and HTTP are served without TLS. Read again when it changes.",
    )
    tls_key_file: Path | None = setting(None, "PEM file with the private key of the certificate.")
    tls_ca_file: Path | None = setting(
        None,
        "PEM file with the CAs that certificates of other services come from; without it they are called "
        "without TLS. Servers are believed by it too, unless a file of their own is named.",
    )
    tls_client_cert_required: bool = setting(
        False, "Whether gRPC takes calls only from those who show a certificate of a CA in tls_ca_file."
    )
    redis_ca_file: Path | None = setting(None, "PEM file with the CAs of Redis' certificate.")
    nats_ca_file: Path | None = setting(None, "PEM file with the CAs of NATS' certificate.")
    jwks_ca_file: Path | None = setting(None, "PEM file with the CAs of the issuer's certificate.")
    stores_prepared: bool = setting(
        False,
        "Whether somebody with more rights makes the streams, buckets and tables; then this service waits "
        "for them, and needs no right to make any.",
    )
    stream_replicas: int = setting(
        1, "Servers that keep each stream; 3 in a cluster that shall survive one.", minimum=1, maximum=5
    )
    oidc_issuer: str = setting(REQUIRED, "`iss` of every bearer token.")
    jwks_url: str = setting(REQUIRED, "Where the issuer publishes its public keys.")
    jwks_fresh_s: float = setting(
        300.0,
        "Seconds that the issuer's keys are believed; a key that was withdrawn is taken no longer than this "
        "and the time that a token is remembered.",
        minimum=1,
        maximum=86_400,
    )
    token_remembered_s: float = setting(
        60.0, "Seconds that a verified token is taken without looking at its signature again.", minimum=0
    )
    tokens_remembered: int = setting(
        20_000, "Verified tokens that are remembered, some 500 bytes each.", minimum=1
    )
    audience: str = setting("catraca", "`aud` of every bearer token.")
    buyer_hash_key_file: Path = setting(
        REQUIRED,
        "JSON list of the keys that buyers' ids are made with, newest first; the same in every service, and "
        "read again when the file changes. A sale keeps the key that was newest when it was defined.",
    )
    service_token_file: Path = setting(
        REQUIRED, "The bearer token this service calls others with; read again when the file changes."
    )
    metrics_listen: str | None = setting(
        None, "host:port of the HTTP page /metrics for Prometheus, and /healthz; off when not set."
    )
    otlp_endpoint: str | None = setting(
        None, "URL that takes traces as OTLP over HTTP, with its path /v1/traces; off when not set."
    )
    trace_ratio: float = setting(
        0.05,
        "Share of the traces that begin here which are kept; each costs about 1 ms.",
        minimum=0,
        maximum=1,
    )
    log_level: str = setting(
        "info", "Least level that is logged.", choices=("debug", "info", "warning", "error")
    )
    lame_duck_s: float = setting(
        5.0,
        "Seconds after SIGTERM in which calls are still taken while health says NOT_SERVING, so that "
        "balancers and clients go elsewhere first; longer than they take to ask. 0 for a lone replica.",
        minimum=0,
        maximum=600,
    )
    drain_s: float = setting(
        10.0, "Seconds that running calls have to finish after that.", minimum=0, maximum=600
    )
    connection_age_s: float = setting(
        0.0,
        "Seconds, a tenth more or less, after which a connection takes no new calls; those that run go on. "
        "Callers connect anew and ask for addresses then, and so find new replicas. 0 for never.",
        minimum=0,
        maximum=86_400,
    )
    max_message_bytes: int = setting(
        4 * 1024 * 1024,
        "Bytes of the largest request that is taken; larger ones are refused.",
        minimum=64 * 1024,
        maximum=64 * 1024 * 1024,
    )


@dataclass(frozen=True, kw_only=True)
class RedisStoreSettings(CommonSettings):
    """What a service is told whose sales are in Redis, and are filled in again where they were lost."""

    redis_copies: int = setting(
        0,
        "Replicas of Redis that must have a change before it is answered (WAIT): what was answered is then "
        "also with whoever is promoted. Not for a cluster.",
        minimum=0,
        maximum=10,
    )
    redis_copies_ms: int = setting(
        1000,
        "Milliseconds that a run waits for those replicas, a few times over; then the answer is UNAVAILABLE.",
        minimum=10,
        maximum=4000,
    )
    takeover_s: float = setting(
        30.0,
        "Seconds after which another replica takes over filling a lost store from one that gets no further.",
        minimum=1,
        maximum=3600,
    )


def variable_of(field: str) -> str:
    """The environment variable of a field: CATRACA_ and its name in capitals."""
    return PREFIX + field.upper()


def file_variable_of(field: str) -> str:
    """The variable that may name a file with a secret field's value, in its place."""
    return variable_of(field) + "_FILE"


def load(cls: type[S], environ: Mapping[str, str] = os.environ) -> S:
    """Reads `cls` from the environment; a variable that is empty counts as not set.

    A secret may stand in a file instead, which `<VARIABLE>_FILE` names: the environment of a process is seen
    by more than its files. Raises SettingError for the first field that is missing, malformed, out of bounds
    or given twice.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        text = environ.get(variable_of(field.name), "").strip()
        file = environ.get(file_variable_of(field.name), "").strip()
        if file and field.metadata.get("secret"):
            text = _read_secret(field, hints[field.name], text, file)
        if text:
            values[field.name] = _parse(field, hints[field.name], text)
        elif field.default is REQUIRED and field.default_factory is REQUIRED:
            raise SettingError(variable_of(field.name), "not set", _expected(field, hints[field.name]))
    return cls(**values)


def load_or_exit(cls: type[S], environ: Mapping[str, str] = os.environ) -> S:
    """`load`, but a wrong setting prints its one sentence and ends the process with status 2."""
    try:
        return load(cls, environ)
    except SettingError as error:
        exit_for(error)


def exit_for(error: SettingError) -> typing.NoReturn:
    """Ends the process with the error's sentence on stderr and status 2."""
    sys.stderr.write(f"{error}\n")
    raise SystemExit(2)


def _read_secret(field: "dataclasses.Field[Any]", hint: Any, text: str, file: str) -> str:
    variable = file_variable_of(field.name)
    if text:
        expected = f"not set, as {variable_of(field.name)} is"
        raise SettingError(variable, f"{file!r}", expected)
    expected = f"a file with {_expected(field, hint)}"
    try:
        text = Path(file).read_text("utf-8").strip()
    except OSError as error:
        raise SettingError(variable, f"{file!r} ({error.strerror or 'not readable'})", expected) from None
    except ValueError:
        raise SettingError(variable, f"{file!r}, whose content is no text", expected) from None
    if not text:
        raise SettingError(variable, f"{file!r}, which is empty", expected)
    return text


def _parse(field: "dataclasses.Field[Any]", hint: Any, text: str) -> Any:
    found = "set to something else" if field.metadata.get("secret") else f"{text!r}"
    wrong = SettingError(variable_of(field.name), found, _expected(field, hint))
    try:
        value = _PARSERS[_plain(hint)](text)
    except ValueError:
        raise wrong from None
    minimum, maximum = field.metadata.get("minimum"), field.metadata.get("maximum")
    choices = field.metadata.get("choices")
    if choices is not None and value not in choices:
        raise wrong
    # NaN is on neither side of a bound, so the bounds are asked for, not their breach.
    if minimum is not None and not value >= minimum:
        raise wrong
    if maximum is not None and not value <= maximum:
        raise wrong
    return value


def _plain(hint: Any) -> Any:
    """The type without `| None`."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
    return hint


def _bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


_PARSERS: Mapping[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: _bool,
    Path: Path,
    list[str]: _list,
}

_KINDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    list[str]: "a list separated by commas",
}


def _expected(field: "dataclasses.Field[Any]", hint: Any) -> str:
    minimum, maximum = field.metadata.get("minimum"), field.metadata.get("maximum")
    choices = field.metadata.get("choices")
    kind = f"one of {', '.join(choices)}" if choices else _KINDS[_plain(hint)]
    if minimum is not None and maximum is not None:
        kind += f" from {minimum} to {maximum}"
    elif minimum is not None:
        kind += f" of at least {minimum}"
    elif maximum is not None:
        kind += f" of at most {maximum}"
    doc = field.metadata.get("doc", "")
    return f"{kind} ({doc})" if doc else kind
