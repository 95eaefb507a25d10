"""The published description is valid, complete and true to the routes, the failures and the models."""

import ast
import asyncio
import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no py.typed
import orjson
import pytest
from openapi_spec_validator import validate
from quart import Quart
from quart.typing import TestClientProtocol as Client

import exceptions
from api import documentation_routes
from api.caller_gate import ADMIN_ROUTES, needs_no_caller
from api.documentation_routes import routes_of
from api.error_rendering import body_of
from api.openapi import failures
from api.openapi.bodies import CORRELATION_ID, MODELS, QUESTION, QUESTION_IN_FULL, VERDICT
from api.openapi.document import Route, document
from api.openapi.operation import Operation
from api.openapi.operations import OPERATIONS
from api.openapi.schemas import ANY_JSON, as_json, reference
from api_models import ComparisonRequest, ErrorBody, JsonObject, LLMConfigOverrides, RoutingRule
from config import Settings
from startup_setup import create_app
from tests.openapi import Answered, Described

KEY = "kanarienvogel-0123456789-key"
DOCUMENT = document([(row.method, row.path) for row in OPERATIONS])
DESCRIBED = Described(DOCUMENT)


def application(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Quart:
    for name, value in {"LLM_PROVIDER_SERVICE_USE_MOCK_LLM": "true", **variables}.items():
        monkeypatch.setenv(name, value)
    return create_app(Settings.from_environment())


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Quart:
    """Everything is registered, and every secret is set."""
    keys = dict.fromkeys(("LLM_ADMIN_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"), KEY)
    return application(monkeypatch, **keys)


@pytest.fixture
async def client(app: Quart) -> AsyncIterator[Client]:
    async with app.test_app() as running:
        yield running.test_client()


async def served(app: Quart) -> JsonObject:
    async with app.test_app() as running:
        response = await running.test_client().get("/openapi.json")
        found: JsonObject = orjson.loads(await response.get_data(as_text=False))
        return found


def operations(found: JsonObject) -> set[tuple[str, str]]:
    return {(method, path) for method, path, _ in Described(found).operations()}


def contents() -> Iterator[tuple[str, JsonObject]]:
    """Every body that is described, with a name for it."""
    for method, path, operation in DESCRIBED.operations():
        if "requestBody" in operation:
            yield f"{method} {path}", operation["requestBody"]["content"]["application/json"]
        for status, response in operation["responses"].items():
            for content in DESCRIBED.resolved(response).get("content", {}).values():
                yield f"{method} {path} {status}", content
    for status, response in DOCUMENT["components"]["responses"].items():
        yield f"any path {status}", response["content"]["application/json"]


def examples(content: JsonObject) -> Iterable[object]:
    return [content["example"]] if "example" in content else [one["value"] for one in content["examples"].values()]


def objects(value: object) -> Iterator[JsonObject]:
    """The object, and those within it."""
    if isinstance(value, dict):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield from chain.from_iterable(map(objects, parts))


# --- The document -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variables", [{}, {"LLM_ADMIN_API_KEY": KEY}], ids=["without admin key", "with admin key"])
async def test_the_document_is_valid_openapi(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    found = await served(application(monkeypatch, **variables))
    assert found["openapi"] == "3.1.0"
    validate(found)


async def test_every_route_has_its_row_and_every_row_its_route(app: Quart) -> None:
    rows = {(row.method, row.path) for row in OPERATIONS}
    assert routes_of(app) - rows == set(), "these routes have no row in api/openapi/operations.py"
    assert rows - routes_of(app) == set(), "these rows have no route"
    assert operations(await served(app)) == rows


async def test_without_a_key_in_force_nothing_is_said_of_administration(monkeypatch: pytest.MonkeyPatch) -> None:
    app = application(monkeypatch)
    found = await served(app)
    assert operations(found) == routes_of(app)
    assert "admin" not in orjson.dumps(found["paths"]).decode()
    assert set(found["components"]["securitySchemes"]) == {"CallerBearer", "CallerHeader"}


async def test_what_the_gate_asks_a_key_for_is_described_with_it_and_nothing_else(app: Quart) -> None:
    for path, item in (await served(app))["paths"].items():
        for operation in item.values():
            asks = {} in operation["security"]
            assert asks is not needs_no_caller(path)
            assert ("401" in operation["responses"]) is (asks or path.startswith(ADMIN_ROUTES))


def test_the_document_does_not_depend_on_the_order_of_the_routes() -> None:
    backwards = document([(row.method, row.path) for row in reversed(OPERATIONS)])
    assert orjson.dumps(backwards) == orjson.dumps(DOCUMENT)


@pytest.mark.parametrize(
    ("name", "content"), list(contents()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_example_fits_its_schema(name: str, content: JsonObject) -> None:
    found = list(examples(content))
    assert found, name
    for example in found:
        DESCRIBED.validate(example, content["schema"])


def test_the_example_of_a_question_in_full_has_every_field() -> None:
    assert QUESTION_IN_FULL.model_fields_set == ComparisonRequest.model_fields.keys(), "api/openapi/bodies.py"


def test_every_example_of_a_parameter_fits_its_schema() -> None:
    parameters = [one for *_, operation in DESCRIBED.operations() for one in operation.get("parameters", [])]
    with_example = [one for one in parameters if "example" in one]
    assert with_example
    for one in with_example:
        DESCRIBED.validate(one["example"], one["schema"])
    assert all("example" in one for one in parameters if one["required"]), "the page writes a curl with them"


def test_a_parameter_of_a_published_enum_refers_to_it() -> None:
    """Else clients get one enum more for each operation, which takes none of the values that they were answered."""
    published = [schema["enum"] for schema in DOCUMENT["components"]["schemas"].values() if "enum" in schema]
    parameters = [one for *_, operation in DESCRIBED.operations() for one in operation.get("parameters", [])]
    assert [one["name"] for one in parameters if one["schema"].get("enum") in published] == []
    assert {"$ref": "#/components/schemas/ProviderName"} in [one["schema"] for one in parameters]


def test_every_field_is_described() -> None:
    silent = [
        f"{model}.{name}"
        for model, schema in DOCUMENT["components"]["schemas"].items()
        for name, field in schema.get("properties", {}).items()
        if not field.get("description")
    ]
    assert silent == [], "write what they are below them in api_models.py"


@pytest.mark.parametrize(("kind", "size"), [("integer", "int64"), ("number", "double")])
def test_every_number_of_a_body_is_one_of_64_bits_for_every_client(kind: str, size: str) -> None:
    """Generators take one of no format for 32 bits, and do not compile the bound of an integer beyond 64."""
    numbers = [part for part in objects(DOCUMENT["components"]["schemas"]) if part.get("type") == kind]
    assert numbers
    assert {part.get("format") for part in numbers} == {size}
    assert all(part.get("maximum", 0) < 2**63 for part in numbers)


def test_unknown_fields_of_a_comparison_are_accepted_but_not_offered_to_its_clients() -> None:
    """With `additionalProperties` a misspelt override compiles in TypeScript, and is then ignored."""
    asked = DESCRIBED.resolved(reference(ComparisonRequest)), DESCRIBED.resolved(reference(LLMConfigOverrides))
    assert all("additionalProperties" not in schema for schema in asked)
    DESCRIBED.validate({**as_json(QUESTION, as_sent=True), "unknown": 1}, reference(ComparisonRequest))
    with pytest.raises(jsonschema.ValidationError):
        DESCRIBED.validate({**as_json(QUESTION, as_sent=True), "unknown": "\0"}, reference(ComparisonRequest))


def test_no_title_repeats_a_name() -> None:
    assert [name for name, schema in DOCUMENT["components"]["schemas"].items() if "title" in schema] == []


def test_a_default_is_published_where_it_is_not_null() -> None:
    """TypeScript's generator demands a field that has one; pydantic's sends null for a field that has none."""
    with_default = {
        f"{model}.{name}": field["default"]
        for model, schema in DOCUMENT["components"]["schemas"].items()
        for name, field in schema.get("properties", {}).items()
        if "default" in field
    }
    assert with_default == {
        "ComparisonRequest.metadata": {},
        "ComparisonRequest.replicate": 0,
        "RoutingRule.metadata": {},
    }


def test_a_union_is_one_type_or_null() -> None:
    """Of any other, generators of clients make a class without members."""
    unions = [one["anyOf"] for one in objects(DOCUMENT["components"]["schemas"]) if "anyOf" in one]
    assert unions
    assert [union for union in unions if len(union) != 2 or {"type": "null"} not in union] == []


@pytest.mark.parametrize("value", ["gold", 3, True], ids=repr)
def test_a_routing_rule_tells_which_metadata_it_takes(value: object) -> None:
    DESCRIBED.validate({"provider": "openai", "metadata": {"tier": value}}, reference(RoutingRule))


@pytest.mark.parametrize("value", [None, 0.5, ["gold"], {}], ids=repr)
def test_a_routing_rule_tells_which_metadata_it_does_not_take(value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        DESCRIBED.validate({"provider": "openai", "metadata": {"tier": value}}, reference(RoutingRule))


def test_no_pattern_holds_a_byte_order_mark() -> None:
    """Go's generator writes patterns into sources, where that mark does not compile."""
    assert "\ufeff" not in orjson.dumps(DOCUMENT).decode()
    with pytest.raises(jsonschema.ValidationError):
        DESCRIBED.validate({**as_json(QUESTION), "essay_a": "\ufeff"}, reference(ComparisonRequest))


# --- Failures ---------------------------------------------------------------------------------------------------------


def test_any_json_is_described_so_that_generators_of_clients_take_it_for_anything() -> None:
    described = DESCRIBED.resolved(ANY_JSON)
    assert set(described) == {"description", "if", "then"}
    assert "array" not in orjson.dumps(described).decode(), "linters ask what an array holds"


@pytest.mark.parametrize("value", [None, True, 2**64, 0.5, "text", [{"deep": ["text"]}]], ids=repr)
def test_any_json_may_stand_in_the_metadata(value: object) -> None:
    DESCRIBED.validate(value, ANY_JSON)


@pytest.mark.parametrize("value", ["\0", [{"deep": ["\0"]}], {"deep": {"\0": 1}}], ids=repr)
def test_no_nul_may_stand_in_the_metadata(value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        DESCRIBED.validate(value, ANY_JSON)


@cache
def _said() -> Collection[str]:
    """Every text in the code of the service, but for the examples."""
    files = (*Path("implementations").rglob("*.py"), *Path("api").glob("*.py"), *Path().glob("*.py"))
    trees = (ast.walk(ast.parse(path.read_text())) for path in files)
    return {str(node.value) for tree in trees for node in tree if isinstance(node, ast.Constant)}


@pytest.mark.parametrize("failure", failures.EXAMPLES.values(), ids=lambda failure: type(failure).__name__)
def test_the_details_of_an_example_are_what_the_service_says(failure: exceptions.ServiceError) -> None:
    assert not failure.details or any(
        text in failure.details and len(text) > len(failure.details) / 2 for text in _said()
    ), "most of them stands in the code, as a whole or before and after what is filled in"


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_the_failures_of_reading_a_body_are_described_where_one_is_read(row: Operation) -> None:
    statuses = DOCUMENT["paths"][row.path][row.method.lower()]["responses"].keys()
    of_a_body = {str(kind.status) for kind in failures.BODY if kind is not exceptions.InvalidQueryError}
    described = statuses & of_a_body
    assert described == of_a_body if row.request_examples else described <= {"415"}  # a browser must name JSON


def test_every_failure_is_described_somewhere() -> None:
    described = {kind for row in OPERATIONS for kind in row.errors}
    described |= {*failures.ANYWHERE, *failures.BODY, *chain(*failures.AT_THE_DOOR.values())}
    assert set(exceptions.failures()) - described == set(), "JUDGING, BODY … in api/openapi/failures.py, or a row"


def test_a_failure_is_described_with_its_status_and_code() -> None:
    response = DOCUMENT["paths"]["/api/v1/comparison"]["post"]["responses"]["402"]
    assert response["description"].startswith(f"- `{exceptions.CostLimitExceededError.code}`: ")
    example = response["content"]["application/json"]["examples"]["CostLimitExceeded"]["value"]
    assert example["error"] == exceptions.CostLimitExceededError.sentence
    assert example["error_type"] == exceptions.CostLimitExceededError.code


def test_every_failure_has_the_same_body() -> None:
    """Of a reference with anything beside it, generators of clients make a class of its own, and an empty one."""
    bodies = [(name, content) for name, content in contents() if re.search(r" [45]\d\d$", name)]
    others = {name for name, content in bodies if content["schema"] != reference(ErrorBody)}
    assert others == {"GET /healthz 503", "GET /readyz 503"}


# --- Examples ---------------------------------------------------------------------------------------------------------


async def test_the_example_of_a_model_is_what_the_service_says_of_it(client: Client) -> None:
    told = orjson.loads(await (await client.get("/api/v1/models")).get_data(as_text=False))["models"]
    (example,) = MODELS.model_dump(mode="json")["models"]
    (found,) = [one for one in told if (one["provider"], one["id"]) == (example["provider"], example["id"])]
    assert found == example


def test_the_example_of_a_verdict_costs_what_the_example_of_its_model_costs() -> None:
    (prices,) = (one.prices_usd_per_million_tokens for one in MODELS.models)
    usage, cost_usd = VERDICT.token_usage, VERDICT.cost_estimate
    assert prices is not None
    assert cost_usd == pytest.approx(
        (usage.prompt_tokens * prices.input + usage.completion_tokens * prices.output) / 1e6, rel=0.01
    )


# --- How it is served -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_what_is_kept_is_not_sent_again(client: Client, path: str) -> None:
    first = await client.get(path)
    again = await client.get(path, headers={"If-None-Match": f'"another", W/{first.headers["ETag"]}'})
    other = await client.get(path, headers={"If-None-Match": '"another"'})
    assert [first.status_code, again.status_code, other.status_code] == [200, 304, 200]
    assert first.headers["Cache-Control"] == again.headers["Cache-Control"] == "no-cache"
    assert first.headers["ETag"] == again.headers["ETag"] == other.headers["ETag"]
    assert await again.get_data() == b""


async def test_it_is_made_once_however_many_ask_first(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(routes: Collection[Route]) -> JsonObject:
        made.append(routes)
        return document(routes)

    monkeypatch.setattr(documentation_routes, "document", counted)
    answers = await asyncio.gather(*(client.get("/openapi.json") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(made) == 1


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_no_secret_is_in_it(client: Client, path: str) -> None:
    assert KEY not in await (await client.get(path)).get_data(as_text=True)


async def test_an_unknown_path_is_told_where_the_paths_are(client: Client) -> None:
    response = await client.get("/api/v1/nothing")
    assert "/openapi.json" in orjson.loads(await response.get_data())["details"]


async def test_the_page_runs_its_own_script_only_and_asks_nobody_else(client: Client) -> None:
    response = await client.get("/docs")
    page = await response.get_data(as_text=True)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert "connect-src 'self'" in policy
    assert re.findall(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\bon[a-z]+=", page) == []
    assert page.count("<script>") == page.count("<style>") == 1


# --- The checking itself ----------------------------------------------------------------------------------------------

PROMISED = {"content-type": "application/json", "x-correlation-id": str(CORRELATION_ID), "cache-control": "no-store"}
LIVE = Answered(method="GET", path="/livez", status=200, headers=PROMISED, body=b'{"status": "alive"}')
LOST = Answered(
    method="GET",
    path="/nowhere",
    status=404,
    headers=PROMISED,
    body=orjson.dumps(
        body_of(failures.EXAMPLES[exceptions.RouteNotFoundError], CORRELATION_ID).model_dump(mode="json")
    ),
)


@pytest.mark.parametrize("answer", [LIVE, LOST], ids=lambda answer: answer.path)
def test_an_answer_as_described_fits(answer: Answered) -> None:
    DESCRIBED.fits(answer)


def test_a_failure_of_another_code_is_seen() -> None:
    with pytest.raises(AssertionError, match="error_type"):
        DESCRIBED.fits(replace(LOST, body=LOST.body.replace(b"RESOURCE_NOT_FOUND", b"TIMEOUT")))


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "/nowhere"},
        {"method": "POST"},
        {"status": 503},
        {"body": b"{}"},
        {"headers": {**PROMISED, "content-type": "text/html"}},
        {"headers": {"content-type": "application/json", "cache-control": "no-store"}},
    ],
    ids=str,
)
def test_an_answer_that_is_not_described_is_seen(changes: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, jsonschema.ValidationError)):
        DESCRIBED.fits(replace(LIVE, **changes))
