"""Every setting of the service: grouped, typed, frozen, read once.

Each field of a group names its environment variable, so the groups *are* the table of settings: reading, the
"did you mean", `.env.example` and `docs/settings.md` all follow from it. A secret also has a `*_FILE` twin.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.request import getproxies

from pydantic import BaseModel, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from addresses import MAX_PORT, BaseUrl, IPNetwork, KafkaServer, Network, RedisAddress, is_proxy, redis_address
from api_models import ModelId, ProviderName, RoutingRule, SelectionStrategy, UnknownPrice
from caller_keys import CallerDigests, caller_digests
from environment import ConfigurationError, Group, Setting, complaints, declared_in, setting, values_found

VERSION: str = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["project"]["version"]
MIB = 1024 * 1024
# Copies of a question's texts in memory during a call: as received, laid out, joined, encoded, being built. Measured.
COPIES_IN_MEMORY = 6
# Four bytes a character, divided by the share of the memory that queries may use.
MEMORY_OF_BODY = COPIES_IN_MEMORY * 4 * 4 // 3
LEAST_USD = 1e-6  # amounts are kept in whole micro-dollars: less is nothing
MOST_USD = 1e9  # keeps all arithmetic far from overflow
LONGEST_TTL_S = 366 * 86_400.0
SHORTEST_ADMIN_KEY = 24
CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # which no header can hold
BUILD = "^[0-9A-Za-z_.-]*$"  # what the tag of an image may hold
HASH_TAG = re.compile(r"[^{]*\{[^}]+\}")  # the part of a key by which a Cluster chooses the node
SHORTEST_PREFIX = 7  # of a private network: fc00::/7; of IPv4 10.0.0.0/8 is the widest

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Environment = Literal["development", "testing", "staging", "production"]
AuthMode = Literal["none", "api_key"]
KafkaSecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
KafkaSaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class PriceOverride(Group, strict=True):
    """One row of the operator's price table; cached_input and cache_write default to the input price."""

    input: float = Field(ge=0, le=MOST_USD)
    output: float = Field(ge=0, le=MOST_USD)
    cached_input: float | None = Field(None, ge=0, le=MOST_USD)
    cache_write: float | None = Field(None, ge=0, le=MOST_USD)


class ServiceSettings(Group):
    """The process and its HTTP listener."""

    name: str = setting("SERVICE_NAME", "llm-provider-service", "name in logs, events and health", min_length=1)
    revision: str = setting(
        "REVISION", "", "name of the build, such as its commit; shown after the version", max_length=64, pattern=BUILD
    )
    log_level: LogLevel = setting("LOG_LEVEL", "INFO", "lowest level that is logged", changeable=True)
    environment: Environment = setting("ENVIRONMENT", "development", "development logs plain text, the others JSON")
    host: str = setting("HOST", "0.0.0.0", "address to listen on; `::` is any of IPv6 and IPv4", min_length=1)  # noqa: S104  a container listens on all
    port: int = setting("PORT", 8080, "port to listen on", ge=1, le=MAX_PORT)
    max_request_bytes: int = setting("MAX_REQUEST_BYTES", 2 * MIB, "largest request body, bytes", ge=1024)
    max_memory_mb: int = setting(
        "MAX_REQUEST_MEMORY_MB",
        128,
        "memory for all requests in flight, MiB; a request that would exceed it gets 503",
        ge=1,
        validate_default=True,
    )
    body_timeout_s: float = setting("BODY_TIMEOUT_S", 15.0, "longest wait for a request body, seconds", gt=0)
    drain_delay_s: float = setting(
        "DRAIN_DELAY_S",
        0.0,
        "seconds after SIGTERM during which /readyz is 503 but requests are still served, so that load balancers "
        "notice",
        ge=0,
    )
    drain_grace_s: float = setting("DRAIN_GRACE_S", 60.0, "longest wait for running requests, seconds", ge=0)

    @property
    def version(self) -> str:
        """That of the project, and the revision if it is known."""
        return f"{VERSION}+{self.revision}" if self.revision else VERSION

    @property
    def reading_bytes(self) -> int:
        """Memory for bodies being read: a quarter, so that slow senders cannot block the queries."""
        return self.max_memory_mb * MIB // 4

    @property
    def answering_bytes(self) -> int:
        """Memory for queries in progress: the rest."""
        return self.max_memory_mb * MIB - self.reading_bytes

    @field_validator("max_memory_mb")
    @classmethod
    def _fits_one(cls, memory_mb: int, info: ValidationInfo) -> int:
        largest_bytes = info.data.get("max_request_bytes", 0)
        if MIB * memory_mb < MEMORY_OF_BODY * largest_bytes:
            raise ValueError(f"must be at least {MEMORY_OF_BODY} times MAX_REQUEST_BYTES, so that the largest fits")
        return memory_mb


class SelectionSettings(Group):
    """Which provider is asked when the request names none."""

    strategy: SelectionStrategy = setting(
        "PROVIDER_SELECTION_STRATEGY", SelectionStrategy.PRIORITY, "how usable providers are ranked", changeable=True
    )
    priority_order: tuple[ProviderName, ...] = setting(
        "PROVIDER_PRIORITY_ORDER",
        tuple(name for name in ProviderName if name is not ProviderName.MOCK),
        "providers, first choice first; comma-separated or JSON",
        min_length=1,
        changeable=True,
    )
    routing_rules: tuple[RoutingRule, ...] = setting(
        "ROUTING_RULES",
        (),
        "preferred provider when the request names none; the first matching rule applies; JSON: "
        '`[{"metadata": {"tier": "gold"}, "min_characters": 20000, "provider": "anthropic"}]`',
        changeable=True,
    )
    probe_interval_s: float = setting(
        "PROVIDER_PROBE_INTERVAL_S", 60.0, "interval of the free probes of idle or failing providers, seconds", ge=1
    )
    default_provider: ProviderName | None = setting(
        "DEFAULT_LLM_PROVIDER", None, "asked before the priority order; default: its first", changeable=True
    )

    @field_validator("priority_order")
    @classmethod
    def _distinct(cls, order: tuple[ProviderName, ...]) -> tuple[ProviderName, ...]:
        if len(set(order)) != len(order):
            raise ValueError("names a provider twice")
        return order

    @field_validator("priority_order", "default_provider")
    @classmethod
    def _real(cls, named: tuple[ProviderName, ...] | ProviderName | None) -> object:
        if named == ProviderName.MOCK or (isinstance(named, tuple) and ProviderName.MOCK in named):
            raise ValueError("the mock judges only under USE_MOCK_LLM and must not be listed here")
        return named

    @field_validator("routing_rules")
    @classmethod
    def _that_may_apply(cls, rules: tuple[RoutingRule, ...]) -> tuple[RoutingRule, ...]:
        cls._real(tuple(rule.provider for rule in rules))
        if any(rule.max_characters is not None and (rule.min_characters or 0) > rule.max_characters for rule in rules):
            raise ValueError("a rule whose min_characters exceed its max_characters applies to nothing")
        return rules


class JudgingSettings(Group):
    """The limits of one comparison."""

    use_mock: bool = setting("USE_MOCK_LLM", False, "the mock judges instead of every provider")
    request_timeout_s: float = setting("LLM_REQUEST_TIMEOUT", 55.0, "longest time for a whole request, seconds", gt=0)
    attempt_timeout_s: float = setting("LLM_ATTEMPT_TIMEOUT", 30.0, "longest time for one provider call, seconds", gt=0)
    max_in_flight: int = setting(
        "MAX_IN_FLIGHT_REQUESTS", 200, "concurrent comparisons; as many queue", ge=1, le=10_000
    )
    max_concurrent: int = setting("LLM_MAX_CONCURRENT_REQUESTS", 32, "concurrent calls per provider", ge=1, le=10_000)
    default_max_tokens: int = setting(
        "LLM_DEFAULT_MAX_TOKENS", 4096, "output limit, tokens, reasoning included", gt=0, le=10_000_000, changeable=True
    )
    default_temperature: float | None = setting(
        "LLM_DEFAULT_TEMPERATURE", None, "sent when set and accepted by the model", ge=0, le=2, changeable=True
    )


class CircuitSettings(Group):
    """When calls to a failing provider are suspended."""

    enabled: bool = setting("CIRCUIT_BREAKER_ENABLED", True, "suspend calls to failing providers")
    failure_threshold: int = setting(
        "LLM_CIRCUIT_BREAKER_FAILURE_THRESHOLD",
        5,
        "consecutive failures that open the circuit, without those of calls that a later, successful one overtook; "
        "so does the failure of half of 5 calls or more within a minute",
        ge=1,
    )
    recovery_s: float = setting(
        "LLM_CIRCUIT_BREAKER_RECOVERY_TIMEOUT",
        30.0,
        "initial open time, seconds, half of it jitter; doubles up to 300",
        gt=0,
        le=300,
    )
    success_threshold: int = setting(
        "LLM_CIRCUIT_BREAKER_SUCCESS_THRESHOLD", 2, "successful probes that close it", ge=1
    )


class ModelSettings(Group):
    """The operator's corrections to models and prices."""

    catalog_path: Path | None = setting(
        "MODEL_CATALOG_PATH", None, "JSON file that adds to or corrects the bundled model catalogue"
    )
    price_overrides: Mapping[str, PriceOverride] = setting(
        "PRICE_OVERRIDES",
        {},
        'US dollars per million tokens, where the provider reports no cost; JSON: `{"openai/gpt-6-luna": '
        '{"input": 0.1, "cached_input": 0.01, "cache_write": 0.125, "output": 0.5}}`',
    )

    @field_validator("price_overrides")
    @classmethod
    def _of_providers(cls, overrides: Mapping[str, PriceOverride]) -> Mapping[str, PriceOverride]:
        for key in overrides:
            provider, _, model = key.partition("/")
            if provider not in set(ProviderName) or not model:
                raise ValueError('each key must be "provider/model"')
        return overrides


class OutboundSettings(Group):
    """Outbound connections to the providers."""

    trusts_environment: bool = setting(
        "OUTBOUND_PROXY_FROM_ENVIRONMENT",
        False,
        "honour HTTPS_PROXY, HTTP_PROXY (http://host:port, http://user:password@host:port) and NO_PROXY (hosts and "
        "their endings; no networks, no ports), but no .netrc",
    )

    @field_validator("trusts_environment")
    @classmethod
    def _names_usable_proxies(cls, trusts: bool) -> bool:  # noqa: FBT001  pydantic passes it by position
        if trusts and not all(is_proxy(url) for scheme, url in getproxies().items() if scheme in {"http", "https"}):
            raise ValueError(
                "HTTP_PROXY and HTTPS_PROXY must be http://host:port, with a login in Latin-1 if any, \\ in it as %5C"
            )
        return trusts


class CacheSettings(Group):
    """The answer cache."""

    enabled: bool = setting("LLM_CACHE_ENABLED", True, "cache answers", changeable=True)
    ttl_s: float = setting(
        "LLM_CACHE_TTL",
        3600.0,
        "lifetime of a cached answer, seconds; locally at most LOCAL_CACHE_TTL_SECONDS",
        gt=0,
        le=LONGEST_TTL_S,
        changeable=True,
    )
    redis_url: SecretStr | None = setting(
        "REDIS_URL",
        None,
        "Redis shared by the replicas, rediss:// for TLS, redis+sentinel:// and redis+cluster:// for several servers; "
        "without it each caches on its own",
    )
    redis_sentinel_password: SecretStr | None = setting(
        "REDIS_SENTINEL_PASSWORD", None, "password of the Sentinels that REDIS_URL names; default: they ask for none"
    )
    key_prefix: str = setting(
        "CACHE_KEY_PREFIX", "llm_cache", "prefix of every key in Redis", pattern=r"^[A-Za-z0-9_.:{}-]{1,64}$"
    )
    near_ttl_s: float = setting(
        "NEAR_CACHE_TTL_SECONDS", 2.0, "seconds during which a local answer is served without asking Redis", ge=0
    )
    local_size_mb: int = setting("LOCAL_CACHE_SIZE_MB", 100, "size of the local cache, MiB", ge=1, le=1_048_576)
    local_ttl_s: float = setting("LOCAL_CACHE_TTL_SECONDS", 300.0, "maximum lifetime of a local answer, seconds", gt=0)
    local_max_entries: int = setting(
        "LOCAL_CACHE_MAX_ENTRIES", 1000, "answers in the local cache", ge=1, le=100_000_000
    )

    @field_validator("redis_url")
    @classmethod
    def _usable(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            redis_address(url.get_secret_value())
        return url

    @property
    def redis(self) -> RedisAddress | None:
        """Where Redis is."""
        if self.redis_url is None:
            return None
        password = self.redis_sentinel_password
        return redis_address(
            self.redis_url.get_secret_value(), sentinel_password=password.get_secret_value() if password else ""
        )

    @property
    def prefix(self) -> str:
        """The prefix in force: in braces at a Cluster, which then keeps all keys on one node, as our commands need."""
        if self.redis is None or not self.redis.is_cluster or HASH_TAG.match(self.key_prefix):
            return self.key_prefix
        return f"{{{self.key_prefix}}}"


class CostSettings(Group):
    """Spending limits and alerts."""

    limit_usd_per_day: float | None = setting(
        "COST_LIMIT_USD_PER_DAY",
        None,
        "spending limit per day (UTC) for all replicas together",
        ge=0,
        le=MOST_USD,
        changeable=True,
    )
    limit_usd_per_month: float | None = setting(
        "COST_LIMIT_USD_PER_MONTH", None, "spending limit per month (UTC), likewise", ge=0, le=MOST_USD, changeable=True
    )
    replicas: int = setting(
        "REPLICAS", 1, "replicas that share the limits; without Redis each keeps to its share", ge=1
    )
    alert_threshold_usd: float = setting(
        "COST_ALERT_THRESHOLD_USD",
        100.0,
        "one alert when a day's cost reaches it",
        ge=LEAST_USD,
        le=MOST_USD,
        changeable=True,
    )
    alert_levels: tuple[Annotated[float, Field(gt=0, le=1)], ...] = setting(
        "COST_ALERT_LEVELS",
        (0.8, 1.0),
        "shares of a limit at which an alert is sent; comma-separated or JSON",
        changeable=True,
    )
    unknown_price: UnknownPrice = setting(
        "COST_UNKNOWN_PRICE",
        UnknownPrice.CHARGE,
        "`charge`: a call to a model of unknown price counts as COST_UNKNOWN_CEILING_USD; `refuse`: it is refused "
        "with 402",
        changeable=True,
    )
    unknown_ceiling_usd: float = setting(
        "COST_UNKNOWN_CEILING_USD",
        0.1,
        "amount that a call of unknown price counts against the limits",
        gt=0,
        le=MOST_USD,
        changeable=True,
    )


class EventSettings(Group):
    """Events to the platform, through Kafka."""

    enabled: bool = setting("PUBLISH_LLM_USAGE_EVENTS", True, "publish events")
    kafka_servers: tuple[KafkaServer, ...] = setting(
        "KAFKA_BOOTSTRAP_SERVERS",
        (),
        "Kafka brokers, host:port, comma-separated or JSON; without them events are only counted",
    )
    queue_size: int = setting(
        "KAFKA_FALLBACK_QUEUE_SIZE", 10_000, "events buffered while Kafka is away (64 MiB at most)", ge=1, le=10_000_000
    )
    max_age_s: float = setting("EVENT_MAX_AGE_S", 3600.0, "age at which an undelivered event is dropped, seconds", gt=0)
    spool_path: Path | None = setting(
        "EVENT_SPOOL_PATH", None, "SQLite file in which buffered events survive a restart; used with Kafka only"
    )
    analytics_window_s: float = setting("USAGE_ANALYTICS_WINDOW_S", 60.0, "interval of the usage events, seconds", ge=1)
    circuit_failure_threshold: int = setting(
        "KAFKA_CIRCUIT_BREAKER_FAILURE_THRESHOLD",
        10,
        "consecutive failures that open Kafka's circuit; so do as many calls within a minute, if half of them fail",
        ge=1,
    )
    circuit_recovery_s: float = setting(
        "KAFKA_CIRCUIT_BREAKER_RECOVERY_TIMEOUT", 30.0, "open time, seconds, half of it jitter", gt=0, le=300
    )
    circuit_success_threshold: int = setting(
        "KAFKA_CIRCUIT_BREAKER_SUCCESS_THRESHOLD", 3, "successes that close it", ge=1
    )
    security_protocol: KafkaSecurityProtocol = setting("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "security protocol")
    sasl_mechanism: KafkaSaslMechanism = setting("KAFKA_SASL_MECHANISM", "PLAIN", "SASL mechanism")
    sasl_username: str | None = setting("KAFKA_SASL_USERNAME", None, "SASL user name")
    sasl_password: SecretStr | None = setting("KAFKA_SASL_PASSWORD", None, "SASL password")
    ssl_ca_path: Path | None = setting("KAFKA_SSL_CA_PATH", None, "CA certificates (PEM); default: the system's")
    ssl_certificate_path: Path | None = setting("KAFKA_SSL_CERTIFICATE_PATH", None, "client certificate (PEM)")
    ssl_key_path: Path | None = setting("KAFKA_SSL_KEY_PATH", None, "its private key (PEM); default: in the same file")

    @property
    def go_to_kafka(self) -> bool:
        """Whether events leave the process."""
        return self.enabled and bool(self.kafka_servers)


class TracingSettings(Group):
    """Export of trace spans."""

    otlp_endpoint: BaseUrl | None = setting(
        "OTLP_ENDPOINT",
        None,
        "OTLP/HTTP collector for the spans: `http://jaeger:4318`, or with `/v1/traces`; without it none are recorded",
    )
    sample_ratio: float = setting(
        "TRACE_SAMPLE_RATIO",
        1.0,
        "share of the traces begun here that are sampled; a caller's trace keeps its own decision",
        ge=0,
        le=1,
    )


class AdminSettings(Group):
    """Who may change the running service."""

    enabled: bool = setting("ADMIN_API_ENABLED", True, "offer the admin routes to holders of the key")
    api_key: SecretStr | None = setting(
        "ADMIN_API_KEY",
        None,
        f"administrator's key, {SHORTEST_ADMIN_KEY} characters or more; without it the admin routes are not registered",
        bare=("LLM_ADMIN_API_KEY",),
    )

    @field_validator("api_key")
    @classmethod
    def _can_be_sent(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and CONTROLS.search(key.get_secret_value()):
            raise ValueError("must be one line without control characters, else nobody could send it")
        return key

    @property
    def key_in_force(self) -> SecretStr | None:
        """None when the admin routes are not registered."""
        long_enough = self.api_key is not None and len(self.api_key.get_secret_value()) >= SHORTEST_ADMIN_KEY
        return self.api_key if self.enabled and long_enough else None


class AccessSettings(Group):
    """Who may call the service, and from where."""

    caller_keys: SecretStr | None = setting(
        "CALLER_API_KEYS",
        None,
        "callers and the SHA-256 digests of their keys; `python -m tools.caller_key NAME` makes one; JSON: "
        '`{"cj-assessment": ["9f86d0..."]}`',
    )
    mode: AuthMode = setting(
        "AUTH_MODE", "none", "`api_key`: every caller needs a key of CALLER_API_KEYS; `none`: no key is required"
    )
    trusted_proxies: tuple[Network, ...] = setting(
        "TRUSTED_PROXIES",
        (),
        "proxies whose X-Forwarded-For or Forwarded header is trusted; addresses and networks",
    )
    admin_allowed_ips: tuple[Network, ...] = setting(
        "ADMIN_ALLOWED_IPS", (), "addresses and networks that administrators may connect from; empty: any address"
    )

    @property
    def callers(self) -> CallerDigests:
        """The callers whose keys are accepted; empty unless keys are required."""
        return caller_digests(self.caller_keys.get_secret_value()) if self.caller_keys and self.asks_for_keys else {}

    @property
    def asks_for_keys(self) -> bool:
        """Whether every caller needs a key."""
        return self.mode == "api_key"

    @field_validator("caller_keys")
    @classmethod
    def _readable(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            caller_digests(keys.get_secret_value())
        return keys

    @field_validator("mode")
    @classmethod
    def _has_keys(cls, mode: AuthMode, info: ValidationInfo) -> AuthMode:
        if mode == "api_key" and info.data.get("caller_keys", ...) is None:
            raise ValueError("api_key needs CALLER_API_KEYS, else every caller is refused")
        return mode

    @field_validator("trusted_proxies")
    @classmethod
    def _not_everybody(cls, networks: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
        if any(network.prefixlen < SHORTEST_PREFIX for network in networks):
            raise ValueError(f"must not trust networks wider than /{SHORTEST_PREFIX}: callers could forge theirs")
        return networks


class MockSettings(Group):
    """How the mock judge behaves."""

    seed: int = setting("MOCK_SEED", 42, "the same request and seed give the same verdict", ge=-(2**63), lt=2**63)
    error_rate: float = setting("MOCK_ERROR_RATE", 0.05, "share of calls that fail", ge=0, le=1)
    latency_ms: int = setting("MOCK_LATENCY_MS", 0, "duration of a call, milliseconds", ge=0, le=600_000)
    latency_jitter_ms: int = setting(
        "MOCK_LATENCY_JITTER_MS", 0, "maximum random addition to it, milliseconds", ge=0, le=600_000
    )
    position_bias: float = setting(
        "MOCK_POSITION_BIAS",
        0.1,
        "share of verdicts decided by the order, none where one essay is far better",
        ge=0,
        le=1,
    )


class ProviderSettings(Group):
    """The settings that every provider has."""

    provider: ClassVar[ProviderName]

    enabled: bool
    api_key: SecretStr | None
    base_url: BaseUrl | None
    default_model: ModelId

    @field_validator("api_key")
    @classmethod
    def _fits_into_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
            raise ValueError("must be one line of ASCII characters")
        return key

    @property
    def is_configured(self) -> bool:
        """Whether the operator has set what a call needs: a key, unless a group says otherwise."""
        return self.api_key is not None


class KeyedProviderSettings(ProviderSettings):
    """A vendor. Its base URL is the one its own SDK uses."""

    base_url: BaseUrl


class AnthropicSettings(KeyedProviderSettings):
    """Anthropic Messages API."""

    provider = ProviderName.ANTHROPIC

    enabled: bool = setting("ANTHROPIC_ENABLED", True, "enable the provider", changeable=True)
    api_key: SecretStr | None = setting("ANTHROPIC_API_KEY", None, "API key", bare=("ANTHROPIC_API_KEY",))
    base_url: BaseUrl = setting("ANTHROPIC_BASE_URL", "https://api.anthropic.com", "base URL")
    default_model: ModelId = setting("ANTHROPIC_DEFAULT_MODEL", "claude-haiku-5-5", "default model", changeable=True)


class OpenAISettings(KeyedProviderSettings):
    """OpenAI chat completions."""

    provider = ProviderName.OPENAI

    enabled: bool = setting("OPENAI_ENABLED", True, "enable the provider", changeable=True)
    api_key: SecretStr | None = setting("OPENAI_API_KEY", None, "API key", bare=("OPENAI_API_KEY",))
    base_url: BaseUrl = setting("OPENAI_BASE_URL", "https://api.openai.com/v1", "base URL")
    default_model: ModelId = setting("OPENAI_DEFAULT_MODEL", "gpt-6-luna", "default model", changeable=True)
    org_id: str | None = setting(
        "OPENAI_ORG_ID", None, "organization that is billed", pattern=r"^[A-Za-z0-9._-]{1,128}$"
    )


class GoogleSettings(KeyedProviderSettings):
    """Google Gemini, Developer API."""

    provider = ProviderName.GOOGLE

    enabled: bool = setting("GOOGLE_ENABLED", True, "enable the provider", changeable=True)
    api_key: SecretStr | None = setting("GOOGLE_API_KEY", None, "API key", bare=("GOOGLE_API_KEY", "GEMINI_API_KEY"))
    base_url: BaseUrl = setting("GOOGLE_BASE_URL", "https://generativelanguage.googleapis.com", "base URL")
    default_model: ModelId = setting("GOOGLE_DEFAULT_MODEL", "gemini-3.5-flash-lite", "default model", changeable=True)


class OpenRouterSettings(KeyedProviderSettings):
    """OpenRouter."""

    provider = ProviderName.OPENROUTER

    enabled: bool = setting("OPENROUTER_ENABLED", True, "enable the provider", changeable=True)
    api_key: SecretStr | None = setting("OPENROUTER_API_KEY", None, "API key", bare=("OPENROUTER_API_KEY",))
    base_url: BaseUrl = setting("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1", "base URL")
    default_model: ModelId = setting(
        "OPENROUTER_DEFAULT_MODEL", "anthropic/claude-haiku-5.5", "default model", changeable=True
    )


class InternalModelSettings(ProviderSettings):
    """A self-hosted, OpenAI-compatible server. It is configured once it has a base URL."""

    provider = ProviderName.INTERNAL

    enabled: bool = setting("INTERNAL_MODEL_ENABLED", False, "enable the provider", changeable=True)
    api_key: SecretStr | None = setting("INTERNAL_MODEL_API_KEY", None, "API key, if the server requires one")
    base_url: BaseUrl | None = setting("INTERNAL_MODEL_BASE_URL", None, "base URL, /v1 included")
    default_model: ModelId = setting("INTERNAL_MODEL_NAME", "internal", "default model", changeable=True)

    @property
    def is_configured(self) -> bool:
        """Whether a URL is set."""
        return self.base_url is not None


class EnvironmentTable(PydanticBaseSettingsSource):
    """Reads the process environment according to the table of settings."""

    def __call__(self) -> dict[str, Any]:
        """The values found, by group and field."""
        return values_found(settings_table())

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  the base's
        """Required by the base class; unused, because `__call__` reads whole groups."""
        return None, field_name, False


class Settings(BaseSettings):
    """The whole configuration, read by `from_environment`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    service: ServiceSettings = ServiceSettings()
    selection: SelectionSettings = SelectionSettings()
    judging: JudgingSettings = JudgingSettings()
    circuit: CircuitSettings = CircuitSettings()
    models: ModelSettings = ModelSettings()
    outbound: OutboundSettings = OutboundSettings()
    cache: CacheSettings = CacheSettings()
    cost: CostSettings = CostSettings()
    events: EventSettings = EventSettings()
    tracing: TracingSettings = TracingSettings()
    admin: AdminSettings = AdminSettings()
    access: AccessSettings = AccessSettings()
    mock: MockSettings = MockSettings()
    anthropic: AnthropicSettings = AnthropicSettings()
    openai: OpenAISettings = OpenAISettings()
    google: GoogleSettings = GoogleSettings()
    openrouter: OpenRouterSettings = OpenRouterSettings()
    internal: InternalModelSettings = InternalModelSettings()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: PydanticBaseSettingsSource, **__: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Make the environment, read through our table, the only source."""
        return (EnvironmentTable(settings_cls),)

    def provider_groups(self) -> Mapping[ProviderName, ProviderSettings]:
        """The group of each real provider."""
        groups = (getattr(self, name) for name in type(self).model_fields)
        return {group.provider: group for group in groups if isinstance(group, ProviderSettings)}

    def base_urls(self) -> Mapping[ProviderName, str | None]:
        """The base URL of each real provider."""
        return {name: group.base_url for name, group in self.provider_groups().items()}

    def configured_providers(self) -> frozenset[ProviderName]:
        """The providers with a key or, for a self-hosted model, a URL."""
        return frozenset(name for name, group in self.provider_groups().items() if group.is_configured)

    def usable_providers(self) -> frozenset[ProviderName]:
        """The providers that are configured and enabled at the start."""
        return frozenset(name for name in self.configured_providers() if self.provider_groups()[name].enabled)

    def with_groups(self, groups: Mapping[str, object]) -> Self:
        """A copy with some groups replaced, validated as a whole. Raises ValidationError."""
        changed = type(self).__new__(type(self))
        # Not the constructor of BaseSettings, which would read the environment again.
        BaseModel.__init__(changed, **{**dict(self), **groups})
        return changed

    @classmethod
    def from_environment(cls) -> Self:
        """Read and validate everything. Raises ConfigurationError with one message for all mistakes."""
        try:
            return cls()
        except ValidationError as error:
            raise ConfigurationError("\n".join(complaints(error, settings_table()))) from None


@cache
def settings_table() -> tuple[Setting, ...]:
    """Every setting, in the order of the groups."""
    return tuple(declared_in(Settings))


def secret_file(group: str, field: str) -> Path | None:
    """The file that a secret was read from, for reloading it; None when it came from elsewhere."""
    (setting,) = (row for row in settings_table() if (row.group, row.field) == (group, field))
    return setting.file_in_force()
