"""Every operation of the service, one row each. A test fails for each route without a row."""

from api.openapi import bodies, failures, parts
from api.openapi.administration import ADMINISTRATION
from api.openapi.operation import Operation, Response, Tag
from exceptions import InvalidQueryError, ServiceStoppingError, TestedTooOftenError, UnsupportedContentTypeError

HTML = "text/html"
PROMETHEUS = ("text/plain", "application/openmetrics-text")
UNCHANGED = Response(status=304, description="Not modified.", example=None, headers=(parts.ETAG,))

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/api/v1/comparison",
        name="compare",
        summary="Judge one pair of essays",
        description="Repeated questions are answered from the cache: independent judgements of one pair need a "
        "`replicate` each, or `Cache-Control: no-store`. Identical concurrent questions are bought once.",
        tag=Tag.JUDGING,
        request_examples={"A plain question": bodies.QUESTION, "A question in full": bodies.QUESTION_IN_FULL},
        parameters=(parts.CORRELATION_IN, parts.CACHE_CONTROL_IN, parts.TIMEOUT_IN),
        responses=(
            Response(
                description="The verdict.",
                example=bodies.VERDICT,
                headers=(parts.X_CACHE, parts.AGE, parts.SERVER_TIMING),
            ),
        ),
        errors=failures.JUDGING,
    ),
    Operation(
        method="GET",
        path="/api/v1/providers",
        name="list_providers",
        summary="List every provider and its current state",
        tag=Tag.PROVIDERS,
        responses=(Response(description="In priority order.", example=bodies.PROVIDERS),),
    ),
    Operation(
        method="POST",
        path="/api/v1/providers/{provider}/test",
        name="test_provider",
        summary="Test one provider",
        description="By its free probe, or with `deep=true` by one paid verdict, once a minute. It answers within ten "
        "seconds, with 200 whether the test passed or failed.",
        tag=Tag.PROVIDERS,
        parameters=(parts.PROVIDER_IN, parts.DEEP_IN),
        responses=(Response(description="The result.", example=bodies.TESTED),),
        errors=(InvalidQueryError, UnsupportedContentTypeError, TestedTooOftenError, ServiceStoppingError),
    ),
    Operation(
        method="GET",
        path="/api/v1/models",
        name="list_models",
        summary="List every known model: what it accepts, what it costs today",
        tag=Tag.PROVIDERS,
        responses=(Response(description="Grouped by provider.", example=bodies.MODELS),),
    ),
    Operation(
        method="GET",
        path="/api/v1/usage/summary",
        name="summarize_usage",
        summary="Calls, tokens, cost and savings by provider and model",
        tag=Tag.FIGURES,
        parameters=(parts.PERIOD_IN,),
        responses=(Response(description="The figures of the period.", example=bodies.USAGE),),
        errors=(InvalidQueryError,),
    ),
    Operation(
        method="GET",
        path="/api/v1/cache/stats",
        name="show_cache",
        summary="Cache statistics of this process",
        tag=Tag.FIGURES,
        responses=(Response(description="The statistics since the start.", example=bodies.CACHE),),
    ),
    Operation(
        method="GET",
        path="/api/v1/operations",
        name="show_operations",
        summary="What this process is doing, and what is degraded",
        description="Traffic, latency, recent errors, saturation, events and money, without any I/O.",
        tag=Tag.FIGURES,
        responses=(Response(description="The current state.", example=bodies.OPERATING),),
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="scrape",
        summary="Metrics for Prometheus",
        description="In OpenMetrics format when the Accept header asks for it.",
        tag=Tag.FIGURES,
        responses=(Response(description="All metrics.", example=bodies.SCRAPED, types=PROMETHEUS),),
    ),
    Operation(
        method="GET",
        path="/healthz",
        name="show_health",
        summary="Whether the service can serve, and what is wrong",
        tag=Tag.HEALTH,
        responses=(
            Response(description="It serves; see `status`.", example=bodies.HEALTHY),
            Response(
                status=503,
                description="It is stopping, or no provider is enabled and configured.",
                example=bodies.UNHEALTHY,
            ),
        ),
    ),
    Operation(
        method="GET",
        path="/livez",
        name="show_life",
        summary="Whether the event loop is running",
        tag=Tag.HEALTH,
        responses=(Response(description="It is running.", example=bodies.ALIVE),),
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="show_readiness",
        summary="Whether the service accepts new work",
        tag=Tag.HEALTH,
        responses=(
            Response(description="It does.", example=bodies.READY),
            Response(status=503, description="It does not.", example=bodies.NOT_READY),
        ),
    ),
    *ADMINISTRATION,
    Operation(
        method="GET",
        path="/openapi.json",
        name="describe",
        summary="This document",
        tag=Tag.DOCUMENTATION,
        parameters=(parts.NONE_MATCH_IN,),
        responses=(Response(description="OpenAPI 3.1.", example={}, headers=(parts.ETAG,)), UNCHANGED),
    ),
    Operation(
        method="GET",
        path="/docs",
        name="show_documentation",
        summary="This document as a page",
        tag=Tag.DOCUMENTATION,
        parameters=(parts.NONE_MATCH_IN,),
        responses=(
            Response(
                description="An HTML page that displays /openapi.json.",
                example="<!doctype html>",
                types=(HTML,),
                headers=(parts.ETAG,),
            ),
            UNCHANGED,
        ),
    ),
    Operation(
        method="GET",
        path="/",
        name="show_page",
        summary="The operations page",
        description="Shows these figures in a browser.",
        tag=Tag.FIGURES,
        parameters=(parts.NONE_MATCH_IN,),
        responses=(
            Response(description="HTML.", example="<!doctype html>", types=(HTML,), headers=(parts.ETAG,)),
            UNCHANGED,
        ),
    ),
)
