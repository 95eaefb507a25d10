"""Quart as this service uses it: what a request is not given by a library, and what one leaves for the next."""

import asyncio

import pytest
from dishka import FromDishka, Provider, Scope, make_async_container, provide
from quart import current_app, has_app_context, has_request_context, request
from quart.typing import TestClientProtocol as Client
from quart_dishka import inject
from werkzeug.exceptions import NotFound
from werkzeug.routing import MapAdapter

from api import application
from api.application import Application
from config import Settings
from startup_setup import create_app


@pytest.fixture
def app() -> Application:
    """Has one route, whose handler is careless with what it is given."""
    app = Application("test")

    @app.get("/pairs/<name>")
    async def pair(name: str) -> str:
        assert request.view_args is not None
        request.view_args.clear()
        return name

    return app


@pytest.fixture
def client(app: Application) -> Client:
    return app.test_client()


async def adapter(app: Application, path: str) -> MapAdapter:
    async with app.test_request_context(path) as context:
        assert context.url_adapter is not None
        return context.url_adapter


async def test_a_route_that_is_kept_gives_each_request_its_own_arguments(client: Client) -> None:
    answers = [await client.get("/pairs/one") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [await answer.get_data(as_text=True) for answer in answers] == ["one", "one"]


async def test_what_is_not_found_and_what_is_not_allowed_stay_so(client: Client) -> None:
    for _ in range(2):
        assert (await client.get("/nowhere")).status_code == 404
        refused = await client.post("/pairs/one")
        assert (refused.status_code, set(refused.headers["Allow"].split(", ")) - {"OPTIONS"}) == (405, {"GET", "HEAD"})
        assert (await client.head("/pairs/one")).status_code == 200


async def test_a_path_has_one_spelling(client: Client) -> None:
    for path in ("//pairs/one", "/%2Fpairs/one", "/pairs/one/"):
        assert (await client.get(path)).status_code == (await client.put(path)).status_code == 404, path


async def test_a_kept_route_answers_only_for_itself(app: Application) -> None:
    kept = await adapter(app, "/pairs/one")
    with pytest.raises(NotFound):
        kept.match("/nowhere")
    assert kept.allowed_methods("/pairs/one")


async def test_long_paths_are_not_kept(app: Application) -> None:
    short, long = "/pairs/one", "/pairs/" + "x" * application.LONGEST_KEPT_PATH
    assert await adapter(app, short) is await adapter(app, short)
    assert await adapter(app, long) is not await adapter(app, long)


async def test_the_service_registers_nothing_that_would_not_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"USE_MOCK_LLM": "true", "ADMIN_API_KEY": "k" * 24, "ADMIN_API_ENABLED": "true"}.items():
        monkeypatch.setenv(f"LLM_PROVIDER_SERVICE_{name}", value)
    service = create_app(Settings.from_environment())
    async with service.test_app():
        ignored = (
            service.before_request_funcs,
            service.after_request_funcs,
            service.teardown_request_funcs,
            service.url_value_preprocessors,
            service.url_default_functions,
        )
        assert not [functions for hooks in ignored for functions in hooks.values() if functions]
        assert not service.teardown_appcontext_funcs
        assert "admin" in "".join(service.blueprints)


async def test_handlers_find_the_application_s_container(app: Application, client: Client) -> None:
    class Words(Provider):
        @provide(scope=Scope.APP)
        def word(self) -> str:
            return "word"

    @app.get("/word")
    @inject
    async def word(found: FromDishka[str]) -> str:
        return found

    app.provide_from(make_async_container(Words()))
    assert await (await client.get("/word")).get_data(as_text=True) == "word"


async def test_each_handler_finds_its_own_request_and_the_application(app: Application) -> None:
    all_inside = asyncio.Barrier(3)

    @app.get("/<name>")
    async def own(name: str) -> str:
        await all_inside.wait()
        assert current_app.name == "test"
        return f"{name}{request.path}"

    answers = await asyncio.gather(*(app.test_client().get(f"/{name}") for name in "abc"))
    assert [await answer.get_data(as_text=True) for answer in answers] == ["a/a", "b/b", "c/c"]


async def test_nothing_is_current_after_a_request(app: Application) -> None:
    async with app.test_request_context("/pairs/one") as context:
        with app.request_context(context.request):
            assert request.path == "/pairs/one"
    assert not has_request_context()
    assert not has_app_context()
