"""What an answer to bad input must be like, and what must not have happened meanwhile."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from local.parts import PythonProcess
from local.stack import Stack
from services.kit.errors import STATUS
from services.kit.reasons import TABLE
from tests.fuzz.contract import methods
from tests.fuzz.shots import Shot
from tests.fuzz.web import Knock, Reply
from tests.fuzz.wire import Answer

READS = frozenset(
    name
    for name in methods()
    if name.partition(".")[2].startswith(("Get", "List", "Count", "Watch", "Subscribe", "Enter"))
)
"""What changes nothing, also where it is not refused."""
KEPT = frozenset(
    {
        *("WRONG_PHASE", "TURN_EXPIRED", "ADMISSION_REQUIRED", "ALLOWANCE_EXCEEDED", "LIMIT_REACHED"),
        *("HOLD_LIMIT", "SECTION_SOLD_OUT", "SOLD_OUT", "SECTION_NOT_FOUND", "TICKET_TYPE_NOT_FOUND"),
        *("HOLD_NOT_FOUND", "HOLD_EXPIRED", "HOLD_RELEASED", "HOLD_BOUND"),
    }
)
"""Refusals that are an order's end: the order is kept as REJECTED, as the contract says of PlaceOrder."""
UNKNOWN_OUTCOME = frozenset({"UNAVAILABLE", "DEADLINE", "OVERLOADED"})
RETRY_SOMETIMES = frozenset(
    {"WRONG_PHASE", "SOLD_OUT", "HOLD_LIMIT", "JOIN_LIMIT", "NOT_CALLED_YET", "DRAW_PENDING"}
)
OUTAGES = frozenset({"UNAVAILABLE", "SALE_NOT_LOADED"})
"""Nothing is down while bad input is tried."""
LEAKS = (
    *("Traceback", 'File "', ".py", "site-packages", "asyncpg", "redis.", "nats.", "postgres", "sqlite"),
    *("/tmp/", "/home/", "aiohttp.", "Exception", "Error("),
)
LONGEST_MESSAGE = 4096
"""Characters of a refusal: gRPC carries it in trailers, which have 8 kB."""


def moved(shot: Shot, answer: Answer) -> bool:
    """Whether the call may have changed something, by what it answered."""
    if shot.method in READS:
        return False
    return (
        answer.fine
        or answer.reason in UNKNOWN_OUTCOME
        or (shot.method == "OrderService.PlaceOrder" and answer.reason in KEPT)
    )


def wrong_with(shot: Shot, answer: Answer) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if answer.fine:
        words = {word for response in answer.responses for word in _words(response)}
        return "an item was answered INTERNAL" if "INTERNAL" in words else ""
    if not answer.reason:
        return f"{answer.status.name} without ErrorInfo"
    if answer.reason == "INTERNAL" or answer.status in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN):
        return "a defect"
    if answer.reason in OUTAGES:
        return "an outage, where nothing is down"
    if STATUS[answer.reason] is not answer.status:
        return f"{answer.reason} is {STATUS[answer.reason].name}"
    if (
        answer.may_retry
        and TABLE[answer.reason].retry_after_s is None
        and answer.reason not in RETRY_SOMETIMES
    ):
        return f"{answer.reason} says that trying again can help"
    told = " ".join([answer.message, *answer.detail.values()])
    if len(told) > LONGEST_MESSAGE:
        return f"the refusal has {len(told)} characters"
    return _leak(told)


def wrong_with_reply(knocked: Knock, reply: Reply) -> str:
    """What is wrong with an HTTP reply; empty where nothing is."""
    if reply.status >= 500:
        return f"HTTP {reply.status}"
    # Elsewhere it is only what the edge makes of an HTTP status for who says that it speaks gRPC.
    if knocked.path.startswith("/catraca.") and reply.headers.get("grpc-status") in ("2", "13"):
        return f"grpc-status {reply.headers['grpc-status']}: {reply.headers.get('grpc-message', '')}"
    return _leak(reply.body.decode("latin-1"))


def _leak(text: str) -> str:
    found = [word for word in LEAKS if word in text]
    return f"it tells {found[0]!r}: {text[:300]!r}" if found else ""


def _words(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.name in ("word", "refusal") and isinstance(value, str):
            yield value
        elif (
            field.message_type is not None
            and field.is_repeated
            and not field.message_type.GetOptions().map_entry
        ):
            for each in value:
                yield from _words(each)


class Watchman:
    """Notices what a process does besides answering: that it ended, was started again, or logged an error."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._pids = stack.running.pids
        self._read: dict[Path, int] = {path: path.stat().st_size for path in self._logs()}

    def noticed(self) -> list[str]:
        """What happened since the last time."""
        pids = self._stack.running.pids
        found = [
            f"{part} was {self._pids[part]} and is {pids[part]}"
            for part in pids
            if pids[part] != self._pids[part]
        ]
        self._pids = pids
        for path in self._logs():
            with path.open("rb") as log:
                log.seek(self._read.get(path, 0))
                new = log.read()
            whole = new.rpartition(b"\n")[0]
            self._read[path] = self._read.get(path, 0) + len(whole)
            found += [
                f"{path.name}: {line[:2000]}"
                for line in whole.decode(errors="replace").splitlines()
                if _bad(line)
            ]
        return found

    def _logs(self) -> list[Path]:
        parts = self._stack.parts.values()
        processes = [
            process for part in parts for process in part.processes if isinstance(process, PythonProcess)
        ]
        return [process.log_path for process in processes if process.log_path.exists()]


def _bad(line: str) -> bool:
    try:
        entry: Mapping[str, Any] = json.loads(line)
    except ValueError:
        return "Traceback" in line or "Error" in line
    return entry.get("level") in ("error", "critical") or "exception" in entry
