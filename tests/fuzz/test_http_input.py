"""Bodies over HTTP that cannot be read: told as the sender's mistake, and no line in a log."""

from collections.abc import Mapping

import pytest

from local.stack import Stack
from tests.fuzz.fuzz import http_listeners
from tests.fuzz.judge import Watchman
from tests.fuzz.web import send

FORM = "application/x-www-form-urlencoded"
UNREADABLE = [
    pytest.param({"content-type": FORM, "content-encoding": "gzip"}, id="not compressed"),
    pytest.param({"content-type": f"{FORM}; charset=utf-99"}, id="no such charset"),
    pytest.param({"content-type": "multipart/form-data"}, id="no boundary"),
]


@pytest.mark.parametrize("headers", UNREADABLE)
@pytest.mark.parametrize("path", ["/token", "/authorize"])
async def test_the_issuer_answers_400(fuzz_stack: Stack, path: str, headers: Mapping[str, str]) -> None:
    watchman = Watchman(fuzz_stack)
    address = fuzz_stack.parts["issuer"].addresses[0]
    assert (await send(address, "POST", path, headers, b"grant_type=password")).status in (400, 401)
    assert watchman.noticed() == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-encoding": "gzip"}, 400),
        ({"content-type": "text/html"}, 401),
        ({"content-length": "x"}, 400),
    ],
)
async def test_the_webhooks_do_too(fuzz_stack: Stack, headers: Mapping[str, str], status: int) -> None:
    watchman = Watchman(fuzz_stack)
    address = http_listeners(fuzz_stack)["webhook"]
    assert (await send(address, "POST", "/webhooks/sandbox", headers, b"{}")).status == status
    assert watchman.noticed() == []
