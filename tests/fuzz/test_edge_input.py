"""What is no gRPC-web at the edge: told as the sender's mistake, and preflights pass as before."""

from collections.abc import Mapping

import grpc
import pytest

from local.stack import Stack
from tests.fuzz.contract import methods
from tests.fuzz.web import Reply, answer_of, send

PATH = methods()["OrderService.GetTicketKeys"].path
NO_TOKEN_NEEDED = {"x-grpc-web": "1"}


@pytest.fixture
def edge(fuzz_stack: Stack) -> str:
    return fuzz_stack.parts["edge"].addresses[0]


async def ask(edge: str, verb: str, headers: Mapping[str, str], body: bytes = b"") -> Reply:
    return await send(edge, verb, PATH, {**NO_TOKEN_NEEDED, **headers}, body)


@pytest.mark.parametrize("content_type", ["", "text/html", "application/json"])
async def test_what_does_not_say_that_it_is_grpc_is_415(edge: str, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    assert (await ask(edge, "POST", headers, b"{}")).status == 415


GRPC_WEB = {"content-type": "application/grpc-web+proto"}


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "PATCH"])
async def test_what_is_not_a_post_is_no_method(edge: str, verb: str) -> None:
    answer = answer_of(await ask(edge, verb, GRPC_WEB, bytes(5)))
    assert (answer.status, answer.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN")
    assert (await ask(edge, verb, {}, b"{}")).status == 405


@pytest.mark.parametrize(
    "origin",
    [{}, {"origin": "http://elsewhere.example"}, {"origin": "http://localhost:5173"}],
    ids=["none", "elsewhere", "ours"],
)
async def test_a_preflight_that_is_none_reaches_nobody(edge: str, origin: Mapping[str, str]) -> None:
    answer = answer_of(await ask(edge, "OPTIONS", {**GRPC_WEB, **origin}))
    assert (answer.status, answer.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN")


async def test_a_page_from_elsewhere_may_not_call(edge: str) -> None:
    wanted = {"origin": "http://elsewhere.example", "access-control-request-method": "POST"}
    reply = await ask(edge, "OPTIONS", wanted)
    assert reply.status == 404
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/grpc-web-text", b"e"), ("application/grpc-web-text+proto", b"%%%%")],
)
async def test_text_that_is_no_base64_is_an_invalid_field(edge: str, content_type: str, body: bytes) -> None:
    answer = answer_of(await ask(edge, "POST", {"content-type": content_type}, body))
    assert (answer.status, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert not answer.may_retry


async def test_a_right_call_and_its_preflight_pass(edge: str) -> None:
    origin = {"origin": "http://localhost:5173"}
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    preflight = await ask(edge, "OPTIONS", {**origin, **wanted})
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == origin["origin"]
    right = await ask(edge, "POST", {**origin, "content-type": "application/grpc-web+proto"}, bytes(5))
    assert answer_of(right).fine


@pytest.mark.parametrize("timeout", ["", "1y", "-1S", "S", "1.5S", "123456789S", "10 S"])
async def test_a_malformed_timeout_is_an_invalid_field(edge: str, timeout: str) -> None:
    answer = answer_of(await ask(edge, "POST", {**GRPC_WEB, "grpc-timeout": timeout}, bytes(5)))
    assert (answer.status, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


@pytest.mark.parametrize("timeout", ["10S", "99999999H", "5000m"])
async def test_any_other_timeout_is_taken(edge: str, timeout: str) -> None:
    assert answer_of(await ask(edge, "POST", {**GRPC_WEB, "grpc-timeout": timeout}, bytes(5))).fine
