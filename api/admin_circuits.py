"""Circuits held open or closed by an administrator."""

from dishka import FromDishka
from quart import Blueprint, Response
from quart_dishka import inject

from api.admin_requests import administrator, check, read, run_to_completion
from api.query_parameters import word_of
from api.response_rendering import json_answer
from api_models import CircuitOrder, CircuitsResponse, ProviderName
from protocols import AdminAccessProtocol, CircuitSteeringProtocol

blueprint = Blueprint("admin_circuits", __name__, url_prefix="/api/v1/admin/circuits")


@blueprint.get("")
@inject
async def circuits(access: FromDishka[AdminAccessProtocol], steering: FromDishka[CircuitSteeringProtocol]) -> Response:
    """Every circuit of this replica and, if it is held, by whom."""
    check(access)
    return json_answer(CircuitsResponse(circuits=list(await steering.report())))


@blueprint.put("/<provider>")
@inject
async def force(
    provider: str, access: FromDishka[AdminAccessProtocol], steering: FromDishka[CircuitSteeringProtocol]
) -> Response:
    """Hold a circuit open or closed."""
    check(access)
    name, order = word_of(ProviderName, "provider", provider), await read(CircuitOrder)
    return json_answer(await run_to_completion(steering.force(name, order, by=administrator())))


@blueprint.delete("/<provider>")
@inject
async def reset(
    provider: str, access: FromDishka[AdminAccessProtocol], steering: FromDishka[CircuitSteeringProtocol]
) -> Response:
    """Release a circuit, clear its counts and lift a pause that the provider asked for."""
    check(access)
    return json_answer(
        await run_to_completion(steering.reset(word_of(ProviderName, "provider", provider), by=administrator()))
    )
