"""Every operation of the service, one row each. A route without its row here fails a test that names it."""

from api.openapi import bodies, failures, parts
from api.openapi.administration import ADMINISTRATION
from api.openapi.operation import Answer, Operation, Tag
from exceptions import InvalidQueryError, ServiceStoppingError, TestedTooOftenError

HTML = "text/html"
PROMETHEUS = ("text/plain", "application/openmetrics-text")
UNCHANGED = Answer(status=304, says="It did not change.", example=None, headers=(parts.ETAG,))

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/api/v1/comparison",
        name="compare",
        summary="Judge one pair of essays",
        says="The same question is answered from the cache: independent judgements of one pair need a `replicate` "
        "each, or `Cache-Control: no-store`. Identical questions that run at the same time are bought once.",
        tag=Tag.JUDGING,
        asked={"A plain question": bodies.QUESTION, "A question in full": bodies.QUESTION_IN_FULL},
        parameters=(parts.CORRELATION_IN, parts.CACHE_CONTROL_IN, parts.TIMEOUT_IN),
        answers=(
            Answer(
                says="The verdict.",
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
        summary="Every provider as it is now",
        tag=Tag.PROVIDERS,
        answers=(Answer(says="In priority order.", example=bodies.PROVIDERS),),
    ),
    Operation(
        method="POST",
        path="/api/v1/providers/{provider}/test",
        name="test_provider",
        summary="Try one provider",
        says="By its free look-up, or with `deep=true` by one paid verdict, once a minute. It answers within ten "
        "seconds, and 200 whether the provider did well or not.",
        tag=Tag.PROVIDERS,
        parameters=(parts.PROVIDER_IN, parts.DEEP_IN),
        answers=(Answer(says="What happened.", example=bodies.TESTED),),
        errors=(InvalidQueryError, TestedTooOftenError, ServiceStoppingError),
    ),
    Operation(
        method="GET",
        path="/api/v1/models",
        name="list_models",
        summary="Every known model: what it takes, what it costs today",
        tag=Tag.PROVIDERS,
        answers=(Answer(says="In priority order of the providers.", example=bodies.MODELS),),
    ),
    Operation(
        method="GET",
        path="/api/v1/usage/summary",
        name="summarize_usage",
        summary="Calls, tokens, cost and savings by provider and model",
        tag=Tag.FIGURES,
        parameters=(parts.PERIOD_IN,),
        answers=(Answer(says="The figures of the period.", example=bodies.USAGE),),
        errors=(InvalidQueryError,),
    ),
    Operation(
        method="GET",
        path="/api/v1/cache/stats",
        name="show_cache",
        summary="What the cache of this process did",
        tag=Tag.FIGURES,
        answers=(Answer(says="Since the start.", example=bodies.CACHE),),
    ),
    Operation(
        method="GET",
        path="/api/v1/operations",
        name="show_operations",
        summary="What this process is doing, and what is degraded",
        says="Traffic, latency, recent errors, saturation, events and money, from known state.",
        tag=Tag.FIGURES,
        answers=(Answer(says="As it is now.", example=bodies.OPERATING),),
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="scrape",
        summary="Metrics for Prometheus",
        says="OpenMetrics when the header Accept asks for it.",
        tag=Tag.FIGURES,
        answers=(Answer(says="All metrics.", example=bodies.SCRAPED, types=PROMETHEUS),),
    ),
    Operation(
        method="GET",
        path="/healthz",
        name="show_health",
        summary="Whether the service can serve, and what is not well",
        tag=Tag.HEALTH,
        answers=(
            Answer(says="It serves, perhaps degraded.", example=bodies.HEALTHY),
            Answer(status=503, says="It is stopping, or no provider can be asked.", example=bodies.UNHEALTHY),
        ),
    ),
    Operation(
        method="GET",
        path="/livez",
        name="show_life",
        summary="Whether the event loop turns",
        tag=Tag.HEALTH,
        answers=(Answer(says="It turns.", example=bodies.ALIVE),),
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="show_readiness",
        summary="Whether new work is welcome",
        tag=Tag.HEALTH,
        answers=(
            Answer(says="It is.", example=bodies.READY),
            Answer(status=503, says="It is not.", example=bodies.NOT_READY),
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
        answers=(Answer(says="OpenAPI 3.1.", example={}, headers=(parts.ETAG,)), UNCHANGED),
    ),
    Operation(
        method="GET",
        path="/docs",
        name="show_documentation",
        summary="This document as a page",
        tag=Tag.DOCUMENTATION,
        parameters=(parts.NONE_MATCH_IN,),
        answers=(
            Answer(
                says="HTML that reads /openapi.json.", example="<!doctype html>", types=(HTML,), headers=(parts.ETAG,)
            ),
            UNCHANGED,
        ),
    ),
    Operation(
        method="GET",
        path="/",
        name="show_page",
        summary="The operations page",
        says="It shows these figures to people.",
        tag=Tag.FIGURES,
        parameters=(parts.NONE_MATCH_IN,),
        answers=(
            Answer(says="HTML.", example="<!doctype html>", types=(HTML,), headers=(parts.ETAG,)),
            UNCHANGED,
        ),
    ),
)
