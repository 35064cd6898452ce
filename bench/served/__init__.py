"""Services as they are, with one method more on their gRPC server: a unary call that does nothing.

It stands beside the service's own methods, behind the same interceptor: its token is looked up, its time is
measured and its trace is kept as theirs are. So what a call of theirs takes more is what the service does.
"""

import runpy
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

EMPTY = "/catraca.bench.Empty/Call"
"""Takes a message without bytes, answers one."""


async def _nothing(_request: bytes, _context: object) -> bytes:
    return b""


def serve_beside(module: str) -> None:
    """Runs a service's module as `python -m` does, with the empty method on its server."""
    _, name, method = EMPTY.split("/")
    handler: Any = grpc.unary_unary_rpc_method_handler(_nothing, bytes, bytes)
    handlers = grpc.method_handlers_generic_handler(name, {method: handler})
    make: Callable[..., Any] = grpc.aio.server

    def server(*arguments: Any, **options: Any) -> Any:
        made = make(*arguments, **options)
        made.add_generic_rpc_handlers((handlers,))
        return made

    grpc.aio.server = server
    runpy.run_module(module, run_name="__main__", alter_sys=True)
