"""A certificate authority of one machine's own: what the embedded stack, and tests, speak TLS with."""

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.private import write_private

LOOPBACK = ("localhost", "127.0.0.1")
AUTHORITY_LIVES = timedelta(days=3650)
CERTIFICATE_LIVES = timedelta(days=90)
# A clock that is a little behind believes it too.
BEFORE = timedelta(hours=1)


@dataclass(frozen=True)
class Certificate:
    """The files of one that was issued."""

    cert: Path
    key: Path
    ca: Path
    """The authority's own certificate."""


class Authority:
    """An authority whose files lie in a folder: made if there is none, kept from then on."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self._folder = folder
        key_file = folder / "ca.key"
        if not self.ca.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            # Authorities of one name would be taken for each other, and then disbelieved.
            name = _name(f"Catraca on one machine {secrets.token_hex(4)}")
            now = datetime.now(UTC)
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            certificate = (
                _draft(name, name, key, now - BEFORE, now + AUTHORITY_LIVES)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(usage, critical=True)
                .sign(key, hashes.SHA256())
            )
            _write(key_file, self.ca, key, certificate)
        kept = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        assert isinstance(kept, ec.EllipticCurvePrivateKey)
        self._key = kept
        self._own = x509.load_pem_x509_certificate(self.ca.read_bytes())

    def issue(
        self, name: str, hosts: Sequence[str] = LOOPBACK, *, lives: timedelta = CERTIFICATE_LIVES
    ) -> Certificate:
        """A new certificate for these host names and addresses, in place of one of the same name.

        One that `lives` for less than nothing has ended already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        ends = datetime.now(UTC) + lives
        extended = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _draft(_name(name), self._own.subject, key, min(ends, datetime.now(UTC)) - BEFORE, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(extended), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key", self.ca)
        _write(files.key, files.cert, key, certificate)
        return files


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _write(
    key_file: Path, cert_file: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(key_file, pem.decode())
    write_private(cert_file, certificate.public_bytes(serialization.Encoding.PEM).decode())
