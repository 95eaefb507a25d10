"""What several operations share: parameters and headers."""

from enum import StrEnum

from api.openapi.bodies import CORRELATION_ID
from api.openapi.operation import Header, Parameter
from api.request_headers import LONGEST_TIMEOUT_MS, TIMEOUT_HEADER
from api.request_scope import CORRELATION_HEADER
from api_models import CacheOutcome, JsonObject, ProviderName, UsagePeriod


def one_of(values: type[StrEnum]) -> JsonObject:
    """The schema of a word from this list."""
    return {"type": "string", "enum": list(values)}


TEXT: JsonObject = {"type": "string"}
COUNT: JsonObject = {"type": "integer", "minimum": 0}

CORRELATION_IN = Parameter(
    name=CORRELATION_HEADER,
    where="header",
    says="A UUID that comes back everywhere, unless the body holds one. Anything else is replaced.",
    schema=TEXT,
    example=str(CORRELATION_ID),
)
CACHE_CONTROL_IN = Parameter(
    name="Cache-Control",
    where="header",
    says="`no-cache` asks the judge anew and keeps the answer, `no-store` neither reads nor keeps, "
    "`only-if-cached` never buys.",
    schema=TEXT,
    example="no-cache",
)
TIMEOUT_IN = Parameter(
    name=TIMEOUT_HEADER,
    where="header",
    says="How long the caller waits, in milliseconds; it can only lower the service's own limit.",
    schema={"type": "integer", "minimum": 1, "maximum": LONGEST_TIMEOUT_MS},
    example=50_000,
)
NONE_MATCH_IN = Parameter(
    name="If-None-Match", where="header", says="An ETag: what did not change is not sent again.", schema=TEXT
)
PROVIDER_IN = Parameter(
    name="provider", where="path", says="Who is meant.", schema=one_of(ProviderName), example=str(ProviderName.MOCK)
)
DEEP_IN = Parameter(
    name="deep",
    where="query",
    says="Whether a tiny pair is judged, which is billed.",
    schema={"type": "boolean", "default": False},
)
PERIOD_IN = Parameter(
    name="period",
    where="query",
    says="The days, UTC.",
    schema={**one_of(UsagePeriod), "default": UsagePeriod.TODAY},
)

CORRELATION = Header(
    name=CORRELATION_HEADER, says="The one of this request.", schema={"type": "string", "format": "uuid"}
)
CACHE_CONTROL = Header(
    name="Cache-Control",
    says="`no-store`, but for what may be kept and asked for again with its ETag.",
    schema=TEXT,
)
RETRY_AFTER = Header(
    name="Retry-After", says="Seconds until it is worth trying again, when they are known.", schema=COUNT, always=False
)
AUTHENTICATE = Header(name="WWW-Authenticate", says="`Bearer`.", schema=TEXT)
X_CACHE = Header(name="X-Cache", says="What the cache did.", schema=one_of(CacheOutcome))
AGE = Header(name="Age", says="The age of a cached answer in seconds.", schema=COUNT, always=False)
SERVER_TIMING = Header(
    name="Server-Timing", says="Milliseconds: `total`, `cache`, `queue` and `upstream`.", schema=TEXT
)
ETAG = Header(name="ETag", says="Names this version.", schema=TEXT)
ALLOW = Header(name="Allow", says="The methods of this path.", schema=TEXT)
