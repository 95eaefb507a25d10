"""Parameters and headers shared by several operations."""

from api.openapi.bodies import CORRELATION_ID
from api.openapi.operation import Header, Parameter
from api.openapi.schemas import reference
from api.request_headers import LONGEST_TIMEOUT_MS, TIMEOUT_HEADER
from api.request_scope import CORRELATION_HEADER
from api_models import CacheOutcome, JsonObject, ProviderName, UsagePeriod

TEXT: JsonObject = {"type": "string"}
COUNT: JsonObject = {"type": "integer", "minimum": 0}

CORRELATION_IN = Parameter(
    name=CORRELATION_HEADER,
    where="header",
    description="A UUID that is echoed everywhere, unless the body contains one. Anything else is replaced.",
    schema=TEXT,
    example=str(CORRELATION_ID),
)
CACHE_CONTROL_IN = Parameter(
    name="Cache-Control",
    where="header",
    description="`no-cache` asks the judge again and caches the answer, `no-store` neither reads nor writes the cache, "
    "`only-if-cached` answers only from it, and with one of the others not at all. Every other directive is ignored, "
    "`max-age` too.",
    schema=TEXT,
    example="no-cache",
)
TIMEOUT_IN = Parameter(
    name=TIMEOUT_HEADER,
    where="header",
    description="The caller's timeout in milliseconds; it can only lower the service's own limit.",
    schema={"type": "integer", "format": "int64", "minimum": 1, "maximum": LONGEST_TIMEOUT_MS},
    example=50_000,
)
NONE_MATCH_IN = Parameter(
    name="If-None-Match", where="header", description="A known ETag: an unchanged document gives 304.", schema=TEXT
)
PROVIDER_IN = Parameter(
    name="provider",
    where="path",
    description="The provider.",
    schema=reference(ProviderName),
    example=str(ProviderName.MOCK),
)
DEEP_IN = Parameter(
    name="deep",
    where="query",
    description="Whether to judge a tiny pair, which is billed.",
    schema={"type": "boolean", "default": False},
)
PERIOD_IN = Parameter(
    name="period",
    where="query",
    description="The days to cover, UTC.",
    schema={**reference(UsagePeriod), "default": UsagePeriod.TODAY},
)

CORRELATION = Header(
    name=CORRELATION_HEADER,
    description="The correlation id of this request.",
    schema={"type": "string", "format": "uuid"},
)
CACHE_CONTROL = Header(
    name="Cache-Control",
    description="`no-store`, or `no-cache` for documents that clients revalidate with their ETag.",
    schema=TEXT,
)
RETRY_AFTER = Header(
    name="Retry-After", description="Seconds until a retry is worthwhile, when known.", schema=COUNT, always=False
)
AUTHENTICATE = Header(name="WWW-Authenticate", description="`Bearer`.", schema=TEXT)
X_CACHE = Header(
    name="X-Cache",
    description="`HIT`: from the cache; `MISS`: bought, as the cache had none; `BYPASS`: bought without looking there; "
    "`COALESCED`: bought by an identical concurrent request.",
    schema={"type": "string", "enum": list(CacheOutcome)},
)
AGE = Header(name="Age", description="Age of a cached answer, seconds.", schema=COUNT, always=False)
SERVER_TIMING = Header(
    name="Server-Timing", description="Durations `total`, `cache`, `queue` and `upstream`, milliseconds.", schema=TEXT
)
ETAG = Header(name="ETag", description="Identifies this version.", schema=TEXT)
ALLOW = Header(name="Allow", description="The methods that this path supports.", schema=TEXT)
