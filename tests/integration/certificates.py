"""Certificates for servers and clients of the tests, made when they are needed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = x509.IPAddress(IPv4Address("127.0.0.1"))
NOW = datetime.now(UTC)
NEXT_WEEK, YESTERDAY = NOW + timedelta(days=7), NOW - timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Files in PEM: what others trust, its key, and both in one."""

    trusted: Path
    key: Path
    whole: Path


def certificate(folder: Path, name: str, *, host: x509.GeneralName = HERE, until: datetime = NEXT_WEEK) -> Certificate:
    """One that signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = Certificate(trusted=folder / f"{name}.pem", key=folder / f"{name}.key", whole=folder / f"{name}.whole.pem")
    signed = _signed(name, key, host=host, until=until).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.trusted.write_bytes(signed)
    files.key.write_bytes(secret)
    files.whole.write_bytes(secret + signed)
    return files


def _signed(name: str, key: ec.EllipticCurvePrivateKey, *, host: x509.GeneralName, until: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=10))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
