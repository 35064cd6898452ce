"""Files of certificates that cannot be used, and URLs that do not fit them, stop the start by name."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from local.authority import Authority
from services.checkout.config import Settings as CheckoutSettings
from services.kit import tls
from services.kit.settings import SettingError, load

Variables = dict[str, str]
PASSWORD = "a-password-of-great-length"
PLAIN = {
    "CATRACA_NATS_URL": f"nats://queue:{PASSWORD}@host:4222",
    "CATRACA_REDIS_URL": f"redis://queue:{PASSWORD}@host:6379",
    "CATRACA_POSTGRES_URL": f"postgresql://checkout:{PASSWORD}@host/catraca",
    "CATRACA_JWKS_URL": "http://issuer/jwks.json",
}
CIPHERED = {
    "CATRACA_NATS_URL": f"tls://queue:{PASSWORD}@host:4222,tls://queue:{PASSWORD}@other:4222",
    "CATRACA_REDIS_URL": f"rediss://queue:{PASSWORD}@host:6379",
    "CATRACA_POSTGRES_URL": f"postgresql://checkout:{PASSWORD}@host/catraca?sslmode=verify-full",
    "CATRACA_JWKS_URL": "https://issuer/jwks.json",
}
LINKS: dict[str, Callable[[Any], Any]] = {
    "redis": tls.to_redis,
    "nats": tls.to_nats,
    "postgres": tls.to_postgres,
    "jwks": tls.to_issuer,
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def settings_of(variables: Variables) -> CheckoutSettings:
    """Checkout's settings, as it has every link."""
    others = ("BUYER_HASH_KEY_FILE", "SERVICE_TOKEN_FILE", "ADMISSION_KEY_FILE", "TICKET_KEY_FILE")
    needed = {f"CATRACA_{name}": "/nowhere" for name in (*others, "SANDBOX_KEY_FILE")}
    urls = {f"CATRACA_{name}": "unused" for name in ("INVENTORY_TARGET", "WEBHOOK_URL", "SANDBOX_URL")}
    return load(CheckoutSettings, needed | urls | {"CATRACA_OIDC_ISSUER": "issuer"} | PLAIN | variables)


@pytest.mark.parametrize("link", LINKS)
def test_a_url_says_whether_there_is_tls(link: str, authority: Authority) -> None:
    ca = {f"CATRACA_{link.upper()}_CA_FILE": str(authority.ca)}

    assert LINKS[link](settings_of({})) is None
    assert LINKS[link](settings_of(CIPHERED)).check_hostname
    assert LINKS[link](settings_of(CIPHERED | ca)).check_hostname
    with pytest.raises(
        SettingError, match=f"_URL is a URL without TLS.*CATRACA_{link.upper()}_CA_FILE is set"
    ) as e:
        LINKS[link](settings_of(ca))
    assert PASSWORD not in str(e.value)


def test_a_url_of_nats_among_others_without_tls_is_refused(authority: Authority) -> None:
    mixed = CIPHERED["CATRACA_NATS_URL"] + f",nats://queue:{PASSWORD}@third:4222"
    variables = {"CATRACA_NATS_URL": mixed, "CATRACA_NATS_CA_FILE": str(authority.ca)}

    with pytest.raises(SettingError, match="CATRACA_NATS_URL is a URL without TLS"):
        tls.to_nats(settings_of(variables))


def wrong_files(authority: Authority, folder: Path) -> dict[str, tuple[Variables, str]]:
    """Variables by what is wrong with them, and the beginning of the sentence."""
    good, other = authority.issue("good"), authority.issue("other")
    ended = authority.issue("ended", lives=timedelta(minutes=-1))
    junk = folder / "junk.pem"
    junk.write_text("-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n")
    cert, key, ca = "CATRACA_TLS_CERT_FILE", "CATRACA_TLS_KEY_FILE", "CATRACA_TLS_CA_FILE"
    both = {cert: str(good.cert), key: str(good.key)}
    required = {"CATRACA_TLS_CLIENT_CERT_REQUIRED": "true"}
    return {
        "no key": ({cert: str(good.cert)}, f"{key} is not set"),
        "no certificate": ({key: str(good.key)}, f"{cert} is not set"),
        "another's key": (
            both | {key: str(other.key)},
            f"{key} is '{other.key}', which is the key of another",
        ),
        "no such file": (both | {cert: "/nowhere"}, f"{cert} is '/nowhere' (No such file"),
        "junk for a certificate": (
            both | {cert: str(junk)},
            f"{cert} is '{junk}', whose content does not fit",
        ),
        "junk for a key": (both | {key: str(junk)}, f"{key} is '{junk}', whose content does not fit"),
        "junk for a ca": (both | {ca: str(junk)}, f"{ca} is '{junk}', whose content does not fit"),
        "an ended one": (
            {cert: str(ended.cert), key: str(ended.key)},
            f"{cert} is '{ended.cert}', whose certificate ended on 2",
        ),
        "nobody to believe": (
            both | required,
            f"{ca} is not set; expected a file, as CATRACA_TLS_CLIENT_CERT",
        ),
        "nothing to show": (required | {ca: str(good.ca)}, f"{cert} is not set; expected a file"),
    }


@pytest.mark.parametrize(
    "what",
    [
        *("no key", "no certificate", "another's key", "no such file", "junk for a certificate"),
        *("junk for a key", "junk for a ca", "an ended one", "nobody to believe", "nothing to show"),
    ],
)
def test_files_that_do_not_fit_stop_the_start(what: str, authority: Authority, tmp_path: Path) -> None:
    variables, sentence = wrong_files(authority, tmp_path)[what]

    with pytest.raises(SettingError) as caught:
        settings = settings_of(variables)
        tls.server_credentials(settings)
        tls.ChannelFiles(settings)

    assert str(caught.value).startswith(sentence)
    assert "PRIVATE KEY" not in str(caught.value) and "c2VjcmV0" not in str(caught.value)


def test_without_files_there_is_no_tls() -> None:
    settings = settings_of({})

    assert tls.server_credentials(settings) is None
    assert tls.for_clients(settings) is None
    assert tls.ChannelFiles(settings).credentials() is None


def test_files_that_are_replaced_one_by_one_are_taken_when_they_fit(authority: Authority) -> None:
    good = authority.issue("good")
    settings = settings_of({"CATRACA_TLS_CERT_FILE": str(good.cert), "CATRACA_TLS_KEY_FILE": str(good.key)})
    renewed = tls.Renewed((good.cert, good.key), lambda: tls._identity(settings))
    first, new = renewed.get(), authority.issue("new")

    good.cert.write_bytes(new.cert.read_bytes())
    with capture_logs() as logs:
        assert renewed.get() == first
    assert [log["event"] for log in logs] == ["certificates_not_renewed"]
    good.key.write_bytes(new.key.read_bytes())
    assert renewed.get() == (new.cert.read_bytes(), new.key.read_bytes())
