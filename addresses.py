"""What an address in a setting must look like: URLs, proxies, brokers, networks, and where Redis is."""

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator

MAX_PORT = 65535
NO_PASSWORD = ""  # of a private key; without it OpenSSL asks for that of an encrypted one on the terminal, and waits
# Printable ASCII only; no user info, query, fragment or backslash (which some clients treat as a slash).
BASE_URL = re.compile(
    r"(?i:https?)://(?:[a-zA-Z0-9_][\w-]{0,62}(?:\.[\w-]{1,63})*\.?|\[(?P<ipv6>[0-9a-fA-F:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[!-~]*)?",
    re.ASCII,
)
REDIS_URL_FORM = (
    "must be redis://user:password@host:port/db, rediss:// likewise, unix:///path, "
    "redis+sentinel://user:password@host:port,host:port/primary/db or redis+cluster://user:password@host:port,host:port"
)
SENTINEL_PORT = 26_379
REDIS_URL_OPTIONS: Mapping[str, frozenset[str]] = {
    "redis": frozenset({"db"}),
    "rediss": frozenset({"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}),
    "unix": frozenset({"db"}),
}
KAFKA_SERVER = re.compile(
    r"(?:[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})"
)
MAPPED_BITS = 96


def _base_url(text: str) -> str:
    match = BASE_URL.fullmatch(text)
    if (
        match is None
        or set(text) & set("?#\\")
        or not 1 <= int(match["port"] or 1) <= MAX_PORT
        or not _is_ipv6(match["ipv6"] or "::")
    ):
        raise ValueError("must be an http or https URL with a host, without user, password, query and fragment")
    return text.rstrip("/")


def _is_ipv6(text: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


# A URL is shown in tables and logs, so it must not contain credentials; paths are appended to it.
BaseUrl = Annotated[str, AfterValidator(_base_url)]


def is_proxy(text: str) -> bool:
    """Whether the HTTP client can use it; it skips other schemes or fails at each call."""
    try:
        url = urlsplit(text)
        user, password = (unquote(part or "") for part in (url.username, url.password))
        f"{user}{password}".encode("latin-1")  # in which a login is sent
        has_address = url.scheme == "http" and _is_host(url.hostname) and url.port != 0
    except ValueError:
        return False
    return has_address and ":" not in user and "\\" not in text


def _is_host(text: str | None) -> bool:
    """Whether it can be a name or an address; `${REDIS_HOST}` cannot."""
    try:
        return bool(re.fullmatch(rb"[\w.-]+|.*:.*", (text or "").encode("idna")))  # with a colon it stood in brackets
    except UnicodeError:  # a part of the name is empty or too long
        return False


def _kafka_server(text: str) -> str:
    match = KAFKA_SERVER.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= MAX_PORT:
        raise ValueError("must be host:port, comma-separated")
    return text


KafkaServer = Annotated[str, AfterValidator(_kafka_server)]


IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: object) -> IPNetwork:
    """An address is a network of one; IPv4-mapped IPv6 (`::ffff:10.0.0.0/104`) is IPv4."""
    try:
        network = ipaddress.ip_network(str(text))
    except ValueError:
        raise ValueError("must be addresses or networks like 10.0.0.0/8, without host bits") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None:  # the prefix of another one is MAPPED_BITS or more: with less it would have host bits
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - MAPPED_BITS))


Network = Annotated[IPNetwork, BeforeValidator(_network)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is, as URLs that redis-py reads.

    witnesses: Sentinels, or nodes of a Cluster, that may know host and port of the primary; without them url has these.
    primary: its name at the Sentinels; None at a Cluster.
    """

    url: str
    witnesses: tuple[str, ...] = ()
    primary: str | None = None

    @property
    def is_cluster(self) -> bool:
        """Whether the witnesses are nodes of a Cluster."""
        return bool(self.witnesses) and self.primary is None


def redis_address(text: str, *, sentinel_password: str = "") -> RedisAddress:
    """Raises ValueError for what redis-py could not use, so that a wrong URL fails the start, not the first request."""
    form, _, rest = text.partition("://")
    scheme, _, kind = form.partition("+")
    place, mark, options = rest.partition("?")
    authority, _, path = place.partition("/")
    login, at, hosts = authority.rpartition("@")
    primary, _, database = path.partition("/")
    if not kind:
        address = RedisAddress(url=text)
    elif kind == "sentinel" and primary and "db=" not in options:
        own_login = f":{quote(sentinel_password, safe='')}@" if sentinel_password else ""
        asked = (host if re.search(":[0-9]*$", host) else f"{host}:{SENTINEL_PORT}" for host in hosts.split(","))
        address = RedisAddress(
            url=f"{scheme}://{login}{at}{primary}/{database}{mark}{options}",
            witnesses=tuple(f"{scheme}://{own_login}{host}{mark}{options}" for host in asked),
            primary=primary,
        )
    elif kind == "cluster" and path in {"", "0"} and "db=" not in options:
        nodes = tuple(f"{scheme}://{login}{at}{host}{mark}{options}" for host in hosts.split(","))
        address = RedisAddress(url=nodes[0], witnesses=nodes)
    else:
        raise ValueError(REDIS_URL_FORM)
    for url in (address.url, *address.witnesses):
        _check_redis_url(url)
    return address


def _check_redis_url(text: str) -> None:
    """Check everything that redis-py reads from it."""
    try:
        url = urlsplit(text)
        options = parse_qs(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        is_socket, has_port = url.scheme == "unix", url.port != 0
    except ValueError:
        raise ValueError(REDIS_URL_FORM) from None
    is_whole = bool(url.path.strip("/") if is_socket else _is_host(url.hostname)) and has_port and not url.fragment
    databases = [*options.get("db", []), "" if is_socket else url.path.removeprefix("/")]
    if not is_whole or url.scheme not in REDIS_URL_OPTIONS or not all(re.fullmatch("[0-9]*", db) for db in databases):
        raise ValueError(REDIS_URL_FORM)
    if not set(options) <= REDIS_URL_OPTIONS[url.scheme]:
        raise ValueError(
            "accepts only the options db, with one server, and ssl_ca_certs, ssl_certfile and ssl_keyfile, with rediss"
        )
    try:
        _read_tls_files(**{name: Path(files[0]) for name, files in options.items() if name != "db"})
    except (OSError, ValueError):
        raise ValueError("names a file that cannot be read as what it is named for") from None


def _read_tls_files(
    *, ssl_ca_certs: Path | None = None, ssl_certfile: Path | None = None, ssl_keyfile: Path | None = None
) -> None:
    """Read them as redis-py will. Raises OSError or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ssl_ca_certs is not None:
        context.load_verify_locations(ssl_ca_certs)
    if ssl_keyfile is not None or ssl_certfile is not None:
        context.load_cert_chain(ssl_certfile or "", ssl_keyfile, password=NO_PASSWORD)
