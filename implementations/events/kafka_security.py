"""TLS and SASL: from the settings to a producer's arguments."""

import ssl
from dataclasses import dataclass, field
from typing import Any

from addresses import NO_PASSWORD
from config import EventSettings
from environment import PREFIX, ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Arguments of aiokafka's producer; not in the repr, because they contain the password."""

    arguments: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, settings: EventSettings) -> "Security":
        """Read the certificates. Raises ConfigurationError, also if a setting is missing or would be ignored."""
        arguments: dict[str, Any] = {"security_protocol": settings.security_protocol}
        if settings.security_protocol.endswith("SSL"):
            arguments["ssl_context"] = _ssl_context(settings)
        elif settings.ssl_ca_path or settings.ssl_certificate_path or settings.ssl_key_path:
            raise _ignored("KAFKA_SSL_*", settings)
        if settings.security_protocol.startswith("SASL"):
            if not settings.sasl_username or not settings.sasl_password:
                raise ConfigurationError(
                    f"{PREFIX}KAFKA_SECURITY_PROTOCOL: {settings.security_protocol} needs KAFKA_SASL_USERNAME and "
                    "KAFKA_SASL_PASSWORD."
                )
            arguments["sasl_mechanism"] = settings.sasl_mechanism
            arguments["sasl_plain_username"] = settings.sasl_username
            arguments["sasl_plain_password"] = settings.sasl_password.get_secret_value()
        elif settings.sasl_username or settings.sasl_password or settings.sasl_mechanism != "PLAIN":  # the default
            raise _ignored("KAFKA_SASL_*", settings)
        return cls(arguments=arguments)


def _ignored(names: str, settings: EventSettings) -> ConfigurationError:
    """Events would leave in clear text, or without a login, although the operator means them not to."""
    return ConfigurationError(
        f"{PREFIX}{names}: not used while KAFKA_SECURITY_PROTOCOL is {settings.security_protocol}."
    )


def _ssl_context(settings: EventSettings) -> ssl.SSLContext:
    if settings.ssl_key_path is not None and settings.ssl_certificate_path is None:
        raise ConfigurationError(f"{PREFIX}KAFKA_SSL_KEY_PATH: not used without KAFKA_SSL_CERTIFICATE_PATH.")
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_path)
        if settings.ssl_certificate_path is not None:
            context.load_cert_chain(settings.ssl_certificate_path, settings.ssl_key_path, password=NO_PASSWORD)
    except OSError:
        raise ConfigurationError(f"{PREFIX}KAFKA_SSL_*: the certificates or the key cannot be read.") from None
    return context
