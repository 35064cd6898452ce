"""Bad input over plain HTTP: to the edge, as gRPC-web and as anything else, and to our own HTTP listeners."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from hypothesis import strategies as st

from services.kit.errors import refusal_of
from tests.fuzz.contract import methods
from tests.fuzz.scene import CLOSED, FREE, LOBBY, OPEN, Scene
from tests.fuzz.shots import NASTY, Shot, shots
from tests.fuzz.wire import LASTING, PATIENCE_S, Answer

GRPC_WEB = "application/grpc-web+proto"
MOST_READ = 256 * 1024
# A stream that goes on is left so long after its first bytes.
STREAM_READ_S = 0.5
STATUSES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True)
class Reply:
    """What an HTTP server answered."""

    status: int
    """0 where the connection ended without an answer."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Knock:
    """One HTTP request, as an example shows it. `caller` signs in as in a Shot; `signed` is for webhooks."""

    listener: str
    verb: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    caller: str = "nobody"
    signed: bool = False


@dataclass(frozen=True)
class Browsed:
    """A shot that goes through the edge, as a browser sends it."""

    shot: Shot


async def knock(knocked: Knock, scene: Scene, address: str) -> Reply:
    """Sends the request as it is, with a new connection."""
    lines = dict(knocked.headers)
    for name, value in scene.callers[knocked.caller]:
        lines[name] = value
    body = knocked.body
    if knocked.signed:
        for name, value in scene.names.items():
            body = body.replace(name.encode(), value.encode())
        secret = json.loads(Path(scene.running.keys["sandbox"]).read_text())["webhook_secret"]
        at = int(time.time())
        mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        lines["Sandbox-Signature"] = f"t={at},v1={mac}"
    return await send(address, knocked.verb, knocked.path, lines, body)


async def browse(shot: Shot, scene: Scene, address: str) -> Answer:
    """The shot as gRPC-web."""
    method = methods()[shot.method]
    headers = {"content-type": GRPC_WEB, "x-grpc-web": "1", **dict(scene.callers[shot.caller])}
    body = b"".join(b"\0" + len(data).to_bytes(4, "big") + data for data in shot.requests(scene)[:1])
    more_s = STREAM_READ_S if method.name in LASTING else PATIENCE_S
    reply = await send(address, "POST", method.path, headers, body, more_s)
    return answer_of(reply)


async def send(
    address: str, verb: str, path: str, headers: Mapping[str, str], body: bytes, more_s: float = PATIENCE_S
) -> Reply:
    """Sends a request as it stands, on a connection of its own, and reads what comes back.

    It waits for the first bytes as long as for any answer, and for what follows them `more_s`.
    """
    host, _, port = address.rpartition(":")
    lines = {"Host": "catraca", "Connection": "close", "Content-Length": str(len(body)), **headers}
    head = f"{verb} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    reader, writer = await asyncio.open_connection(host, int(port))
    data = b""
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(head.encode("utf-8", "replace") + b"\r\n" + body)
            async with asyncio.timeout(PATIENCE_S) as waiting:
                while len(data) < MOST_READ and (more := await reader.read(65_536)):
                    if not data:
                        waiting.reschedule(asyncio.get_running_loop().time() + more_s)
                    data += more
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return _reply(data)


def _reply(data: bytes) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) < 2 or not words[1].isdigit():
        return Reply(0, body=data)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return Reply(int(words[1]), headers, body)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        with contextlib.suppress(ValueError):
            count = int(size, 16)
            whole, body = whole + rest[:count], rest[count + 2 :]
            continue
        break
    return whole


def answer_of(reply: Reply) -> Answer:
    """What a gRPC-web client makes of a reply."""
    if reply.status != 200:
        return Answer(grpc.StatusCode.UNKNOWN, message=f"HTTP {reply.status}: {reply.body[:200]!r}")
    trailers, body, messages = dict(reply.headers), reply.body, 0
    while len(body) >= 5:
        flag, length = body[0], int.from_bytes(body[1:5], "big")
        data, body = body[5 : 5 + length], body[5 + length :]
        if flag & 0x80:
            pairs = (line.partition(":") for line in data.decode("latin-1").split("\r\n") if line)
            trailers |= {name.strip().lower(): value.strip() for name, _, value in pairs}
        else:
            messages += 1
    if "grpc-status" not in trailers:
        found = grpc.StatusCode.OK if messages else grpc.StatusCode.UNKNOWN
        return Answer(found, message="no status" if not messages else "")
    code = STATUSES[int(trailers["grpc-status"])]
    if code is grpc.StatusCode.OK:
        return Answer(code)
    detail = trailers.get("grpc-status-details-bin", "")
    packed = base64.b64decode(detail + "=" * (-len(detail) % 4))
    told = grpc.aio.Metadata(("grpc-status-details-bin", packed)) if packed else grpc.aio.Metadata()
    refusal = refusal_of(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), told))
    message = trailers.get("grpc-message", "")
    if refusal is None:
        return Answer(code, message=message)
    return Answer(code, refusal.word, message, refusal.metadata, refusal.retry_after_s is not None)


# ---- strategies ----


def _event(**changes: object) -> bytes:
    event = {
        "event_id": "ev-1",
        "type": "authorized",
        "session_id": "nobodys-session",
        "order_id": "@alice.order.waiting",
        "amount": 1500,
        "currency": "BRL",
    }
    return json.dumps({**event, **changes}).encode()


BODIES = (
    *(b"", b"{}", b"[]", b"null", b"1e999", b"\xff\xfe", b"\0\0\0\0\5hello", b"\x80\0\0\0\0", b"{" * 5000),
    *(
        b"\1\0\0\0\0",
        b"\0\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\0\0",
        b"grant_type=password",
        b"a" * 70_000,
    ),
    *(b"grant_type=%ff", b"grant_type=authorization_code&code=%00", b"subject=a&roles=service", b"a=%u"),
    *(b"grant_type=client_credentials&client_id=\xc3\x28", b"--x\r\nbroken", b'{"event_id": NaN}'),
    *(_event(), _event(type="refunded!"), _event(amount=-1), _event(amount=2**70), _event(amount="1500")),
    *(_event(event_id=[]), _event(order_id="\x00"), _event(order_id="a" * 10_000), _event(currency=None)),
    *(_event(session_id="\ud800"), _event(type=None), _event(order_id="no.such>order"), _event(extra=1)),
)
VERBS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW")
TYPES = (
    *("", "application/json", "application/grpc-web", "application/grpc-web+proto", "application/grpc"),
    *("application/grpc-web-text", "text/html", "multipart/form-data; boundary=x", "multipart/form-data"),
    *("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-99", "\x7f"),
)
HEADERS = (
    *(("If-None-Match", "*"), ("If-None-Match", '"a", W/"b", c'), ("If-None-Match", '"'), ("Origin", "null")),
    *(
        ("Authorization", "Bearer"),
        ("Authorization", "Basic %%%"),
        ("Content-Encoding", "gzip"),
        ("Cookie", "="),
    ),
    *(
        ("grpc-timeout", "1y"),
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", "99999999H"),
        ("grpc-encoding", "zip"),
    ),
    *(
        ("Expect", "100-continue"),
        ("Range", "bytes=5-1"),
        ("Content-Length", "x"),
        ("X-Forwarded-For", "é,,"),
    ),
    *(("Sandbox-Signature", "t=1,v1=00"), ("Sandbox-Signature", "t=99999999999999999999,v1=" + "0" * 64)),
    *(("traceparent", "00-0-0-zz"), ("catraca-buyer", "bob"), ("Transfer-Encoding", "chunked")),
)
_GRPC = tuple(method.path for method in methods().values())
PATHS = {
    "edge": (*_GRPC, "/standing/" + OPEN, "/healthz", "/", "/catraca.queue.v1.QueueService/None", "/metrics"),
    "standing": (*(f"/standing/{name}" for name in (OPEN, LOBBY, FREE, CLOSED, "none")), "/healthz"),
    "webhook": ("/webhooks/sandbox", "/webhooks/nobody", "/webhooks/", "/healthz"),
    "issuer": (
        *(
            "/.well-known/openid-configuration",
            "/jwks.json",
            "/authorize",
            "/token",
            "/keys/rotate",
            "/healthz",
        ),
        *("/authorize?client_id=%ff", "/authorize?response_type=code&client_id=web&redirect_uri=x&scope=%00"),
    ),
}
ODD_PATHS = (
    "//",
    "/%",
    "/%ff",
    "/..%2f..",
    "/standing/%00",
    "/standing/%ff",
    "/standing/a%2fb",
    "/?a=%",
    "*",
    "/é",
)


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text[:300].encode())


def _paths(listener: str) -> st.SearchStrategy[str]:
    usual = st.sampled_from(PATHS[listener])
    nasty = st.sampled_from(NASTY).map(lambda text: f"/standing/{_escaped(text)}")
    return st.one_of(usual, usual, st.sampled_from(ODD_PATHS), nasty)


def _knocks_at(listener: str) -> st.SearchStrategy[Knock]:
    kind = st.sampled_from(TYPES).map(lambda text: (("Content-Type", text),) if text else ())
    more = st.lists(st.sampled_from(HEADERS), max_size=2).map(tuple)
    return st.builds(
        Knock,
        st.just(listener),
        st.one_of(st.sampled_from(("GET", "POST")), st.sampled_from(VERBS)),
        _paths(listener),
        st.builds(lambda first, rest: (*first, *rest), kind, more),
        st.one_of(st.sampled_from(BODIES), st.binary(max_size=40)),
        st.sampled_from(("nobody", "nobody", "alice", "garbage")),
        st.booleans() if listener == "webhook" else st.just(False),
    )


def knocks() -> st.SearchStrategy[Knock]:
    """An HTTP request to one of our listeners."""
    return st.sampled_from(sorted(PATHS)).flatmap(_knocks_at)


def browsed() -> st.SearchStrategy[Browsed]:
    """A call that comes through the edge."""
    return st.builds(Browsed, shots())
