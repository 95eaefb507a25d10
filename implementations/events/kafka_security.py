"""How the brokers know us and we know them: TLS and SASL, from the settings to a producer's arguments."""

import ssl
from dataclasses import dataclass, field
from typing import Any

from config import PREFIX, ConfigurationError, EventSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What aiokafka's producer is told; never shown, since the password is in it."""

    arguments: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, settings: EventSettings) -> "Security":
        """Reads the certificates. Raises ConfigurationError."""
        told: dict[str, Any] = {"security_protocol": settings.security_protocol}
        if settings.security_protocol.endswith("SSL"):
            told["ssl_context"] = _ssl_context(settings)
        if settings.security_protocol.startswith("SASL"):
            told["sasl_mechanism"] = settings.sasl_mechanism
            told["sasl_plain_username"] = settings.sasl_username
            told["sasl_plain_password"] = settings.sasl_password and settings.sasl_password.get_secret_value()
        return cls(arguments=told)


def _ssl_context(settings: EventSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_path)
        if settings.ssl_certificate_path is not None:
            context.load_cert_chain(settings.ssl_certificate_path, settings.ssl_key_path)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(f"{PREFIX}KAFKA_SSL_*: the certificates or the key cannot be read.") from None
    return context
