"""Services as they are, with some methods more on their gRPC server, which measurements compare theirs with.

They stand beside the service's own methods, behind the same interceptor: the token is looked up, the time is
measured and the trace is kept as theirs are. One of them does nothing: what a call of theirs takes more than
that is what the service does.
"""

import runpy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

SERVICE = "catraca.bench.Beside"
EMPTY = f"/{SERVICE}/Empty"
"""Takes a message without bytes, answers one."""

Behaviour = Callable[[bytes, Any], Awaitable[bytes]]


async def _nothing(_request: bytes, _context: object) -> bytes:
    return b""


def serve_beside(module: str, methods: Mapping[str, Behaviour] | None = None) -> None:
    """Runs a service's module as `python -m` does, with these methods on its server, and the empty one."""
    behaviours = {EMPTY: _nothing, **(methods or {})}
    handlers: dict[str, Any] = {
        path.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(behaviour, bytes, bytes)
        for path, behaviour in behaviours.items()
    }
    beside = grpc.method_handlers_generic_handler(SERVICE, handlers)
    make: Callable[..., Any] = grpc.aio.server

    def server(*arguments: Any, **options: Any) -> Any:
        made = make(*arguments, **options)
        made.add_generic_rpc_handlers((beside,))
        return made

    grpc.aio.server = server
    runpy.run_module(module, run_name="__main__", alter_sys=True)
