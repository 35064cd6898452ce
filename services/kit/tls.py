"""Certificates: what this process shows and whom it believes, from files read again when they change.

Certificates end after weeks, and who renews them replaces the files. So nothing here keeps what it once read:
each handshake looks whether a file is another one. Where the new files do not fit (one of two is replaced
already), the former ones serve until they do.
"""

import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.kit.logs import get_logger
from services.kit.settings import CommonSettings, SettingError, variable_of

CHAIN = "a PEM file with a certificate that is valid now, and those between it and its CA"
KEY = "a PEM file with the private key of the certificate in CATRACA_TLS_CERT_FILE, without a password"
CA = "a PEM file with the certificates of CAs"

# A call must not look at files each time: it looks whether they changed once in this time.
LOOK_AGAIN_S = 2.0

T = TypeVar("T")

_log = get_logger("tls")


class CallerSettings(Protocol):
    """The part of a process' settings that names its files."""

    @property
    def tls_cert_file(self) -> Path | None: ...
    @property
    def tls_key_file(self) -> Path | None: ...
    @property
    def tls_ca_file(self) -> Path | None: ...


class TlsSettings(CallerSettings, Protocol):
    """The same of one that serves."""

    @property
    def tls_client_cert_required(self) -> bool: ...


class PostgresSettings(TlsSettings, Protocol):
    """The part that says where Postgres is."""

    @property
    def postgres_url(self) -> str: ...
    @property
    def postgres_ca_file(self) -> Path | None: ...


class Renewed(Generic[T]):
    """What is made of files, and made anew when one of them changes."""

    def __init__(self, files: Sequence[Path | None], make: Callable[[], T]) -> None:
        """Raises what `make` raises, now; later that is logged, and what was made before stands."""
        self._files = [file for file in files if file is not None]
        self._make = make
        self._seen = self._stamps()
        self._made = make()

    @property
    def last(self) -> T:
        """What they said when they were last looked at."""
        return self._made

    def get(self) -> T:
        """What the files say now."""
        stamps = self._stamps()
        if stamps != self._seen:
            try:
                self._made = self._make()
            except SettingError as problem:
                _log.warning("certificates_not_renewed", problem=str(problem))
            else:
                self._seen = stamps
                _log.info("certificates_renewed", files=[str(file) for file in self._files])
        return self._made

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        """What tells a file from the one that stood there before: a link may have been turned to another."""
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


# ---- contexts: Redis, NATS, Postgres and HTTP ----


class Context(ssl.SSLContext):
    """A context that does each handshake with the files as they are then."""

    _renewed: Renewed[ssl.SSLContext]

    @classmethod
    def of(cls, renewed: Renewed[ssl.SSLContext], protocol: int) -> Self:
        """A context that stands for what `renewed` makes."""
        context = cls(protocol)
        context._renewed = renewed
        return context

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """As of any context: event loops begin their handshakes here."""
        return self._renewed.get().wrap_bio(*arguments, **options)


def to_server(settings: TlsSettings, ca_setting: str, ca_file: Path | None) -> ssl.SSLContext:
    """What a connection to another server is made with.

    It believes the CAs of `ca_file` (given by the setting of that name), else those of `tls_ca_file`, else
    the machine's; it checks the server's name; and shows this service's certificate to a server that asks.
    Raises SettingError for files that cannot be used.
    """
    if ca_file is None:
        ca_setting, ca_file = "tls_ca_file", settings.tls_ca_file

    def make() -> ssl.SSLContext:
        authorities = None if ca_file is None else _authorities(ca_file, ca_setting).decode()
        context = ssl.create_default_context(cadata=authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _show(context, settings)
        return context

    files = (settings.tls_cert_file, settings.tls_key_file, ca_file)
    return Context.of(Renewed(files, make), ssl.PROTOCOL_TLS_CLIENT)


def for_clients(settings: TlsSettings) -> ssl.SSLContext | None:
    """What plain HTTP beside gRPC is served with; None where this service has no certificate.

    No client is asked for one: webhooks are signed, and the standing of a sale is for everyone.
    """
    if settings.tls_cert_file is None:
        _identity(settings)
        return None

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _show(context, settings)
        return context

    files = (settings.tls_cert_file, settings.tls_key_file)
    return Context.of(Renewed(files, make), ssl.PROTOCOL_TLS_SERVER)


def _show(context: ssl.SSLContext, settings: CallerSettings) -> None:
    # Checked first: what is wrong with the files is said by name, which the library does not.
    if _identity(settings) is not None and settings.tls_cert_file is not None:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)


def to_redis(settings: CommonSettings) -> ssl.SSLContext | None:
    """What Redis is connected with; None for a URL without TLS. Raises SettingError."""
    asked = (settings.redis_url or "").startswith(("rediss://", "rediss+"))
    return _if_asked(settings, asked, "redis", "redis_url", "a URL of rediss://")


def to_nats(settings: CommonSettings) -> ssl.SSLContext | None:
    """What NATS is connected with; None for URLs without TLS. Raises SettingError."""
    asked = all(url.strip().startswith("tls://") for url in settings.nats_url.split(","))
    return _if_asked(settings, asked, "nats", "nats_url", "URLs of tls://")


def to_issuer(settings: CommonSettings) -> ssl.SSLContext | None:
    """What the issuer's keys are read with; None for a URL without TLS. Raises SettingError."""
    asked = settings.jwks_url.startswith("https://")
    return _if_asked(settings, asked, "jwks", "jwks_url", "a URL of https://")


def to_postgres(settings: PostgresSettings) -> ssl.SSLContext | None:
    """What Postgres is connected with; None for a URL without sslmode=verify-full. Raises SettingError."""
    query = parse_qs(urlsplit(settings.postgres_url).query)
    asked = query.get("sslmode", [""])[-1] == "verify-full" and "sslrootcert" not in query
    expected = "a URL with sslmode=verify-full and no sslrootcert"
    return _if_asked(settings, asked, "postgres", "postgres_url", expected)


def _if_asked(
    settings: TlsSettings, asked: bool, server: str, url_setting: str, expected: str
) -> ssl.SSLContext | None:
    """The context for a server whose URL asks for TLS. A CA file beside one that does not is a mistake."""
    ca_setting = f"{server}_ca_file"
    ca_file: Path | None = getattr(settings, ca_setting)
    if asked:
        return to_server(settings, ca_setting, ca_file)
    if ca_file is not None:
        expected = f"{expected}, as {variable_of(ca_setting)} is set"
        raise SettingError(variable_of(url_setting), "a URL without TLS", expected)
    return None


def distrust(error: BaseException | None) -> str | None:
    """Why a server's certificate was not believed, if that is what the error, or one behind it, says."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message or "it does not verify"
        error = error.__cause__ or error.__context__
    return None


def distrusted(url_setting: str, ca_setting: str, why: str) -> SettingError:
    """The sentence for a server whose certificate does not verify."""
    return SettingError(
        variable_of(url_setting),
        f"a server whose certificate is not believed ({why})",
        f"one whose certificate is valid, bears the name in the URL, and comes from a CA of "
        f"{variable_of(ca_setting)} (CATRACA_TLS_CA_FILE where that is not set)",
    )


# ---- gRPC ----


def server_credentials(settings: TlsSettings) -> grpc.ServerCredentials | None:
    """What gRPC is served with; None where this service has no certificate. Raises SettingError."""
    required = settings.tls_client_cert_required
    if required and (settings.tls_cert_file is None or settings.tls_ca_file is None):
        missing = "tls_cert_file" if settings.tls_cert_file is None else "tls_ca_file"
        expected = "a file, as CATRACA_TLS_CLIENT_CERT_REQUIRED is set"
        raise SettingError(variable_of(missing), "not set", expected)
    if settings.tls_cert_file is None:
        _identity(settings)
        return None

    def make() -> Any:
        identity = _identity(settings)
        assert identity is not None
        chain, key = identity
        believed = None
        if required and settings.tls_ca_file is not None:
            believed = _authorities(settings.tls_ca_file, "tls_ca_file")
        return grpc.ssl_server_certificate_configuration([(key, chain)], believed)

    renewed = Renewed((settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_file), make)
    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        renewed.get(), renewed.get, require_client_authentication=required
    )
    return credentials


class ChannelFiles:
    """What channels to other services are made with; `credentials` is None for plain channels."""

    def __init__(self, settings: CallerSettings) -> None:
        """Raises SettingError for files that cannot be used."""
        self._settings = settings
        files = (settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_file)
        self._renewed = Renewed(files, self._make)
        self._look_at = time.monotonic() + LOOK_AGAIN_S

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Another object than before once a file has changed."""
        now = time.monotonic()
        if now < self._look_at:
            return self._renewed.last
        self._look_at = now + LOOK_AGAIN_S
        return self._renewed.get()

    def _make(self) -> grpc.ChannelCredentials | None:
        identity = _identity(self._settings)
        if self._settings.tls_ca_file is None:
            return None
        chain, key = identity or (None, None)
        believed = _authorities(self._settings.tls_ca_file, "tls_ca_file")
        return grpc.ssl_channel_credentials(believed, key, chain)


# ---- files ----


def _identity(settings: CallerSettings) -> tuple[bytes, bytes] | None:
    """Chain and key in PEM. Raises SettingError for one without the other, or that do not fit."""
    chain_file, key_file = settings.tls_cert_file, settings.tls_key_file
    if chain_file is None and key_file is None:
        return None
    if chain_file is None:
        raise SettingError(
            variable_of("tls_cert_file"), "not set", f"{CHAIN}, as CATRACA_TLS_KEY_FILE is set"
        )
    if key_file is None:
        raise SettingError(variable_of("tls_key_file"), "not set", f"{KEY}, as CATRACA_TLS_CERT_FILE is set")
    chain, key = _read(chain_file, "tls_cert_file", CHAIN), _read(key_file, "tls_key_file", KEY)
    certificate = _certificates(chain, chain_file, "tls_cert_file", CHAIN)[0]
    try:
        public = serialization.load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError):
        raise _wrong(key_file, "tls_key_file", "whose content does not fit", KEY) from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise _wrong(key_file, "tls_key_file", "which is the key of another certificate", KEY)
    ended = certificate.not_valid_after_utc
    if ended <= datetime.now(UTC):
        raise _wrong(
            chain_file, "tls_cert_file", f"whose certificate ended on {ended:%Y-%m-%d %H:%M} UTC", CHAIN
        )
    return chain, key


def _authorities(file: Path, setting: str) -> bytes:
    pem = _read(file, setting, CA)
    _certificates(pem, file, setting, CA)
    return pem


def _certificates(pem: bytes, file: Path, setting: str, expected: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise _wrong(file, setting, "whose content does not fit", expected) from None


def _read(file: Path, setting: str, expected: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        reason = error.strerror or "not readable"
        raise SettingError(variable_of(setting), f"{str(file)!r} ({reason})", expected) from None


def _wrong(file: Path, setting: str, problem: str, expected: str) -> SettingError:
    return SettingError(variable_of(setting), f"{str(file)!r}, {problem}", expected)
