"""Structured logs: one JSON object a line on stderr, with the ids of sale, buyer and order where known."""

import logging
import sys
from types import TracebackType
from typing import Any, cast

import structlog
from opentelemetry.trace import get_current_span
from structlog.typing import FilteringBoundLogger, Processor


def _name_trace(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The trace that the line belongs to, where there is one."""
    span = get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"], event["span_id"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    return event


# One order for structlog's own events and for what libraries log through the standard library.
_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    _name_trace,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]


def configure(service: str, level: str = "info") -> None:
    """Sends every log line of this process, libraries' included, to stderr as JSON that names the service."""

    def name_service(
        _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    number = logging.getLevelNamesMapping()[level.upper()]
    rendered: list[Processor] = [*_SHARED, name_service, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=rendered,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name, name_service],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries are heard from warning on: at info some write a line for every request.
    root.setLevel(max(number, logging.WARNING))


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger; `name` is the part of the service that speaks."""
    return cast("FilteringBoundLogger", structlog.get_logger(part=name))


class bind:
    """Adds ids (`sale=…, buyer=…, order=…`) to what this task logs from now on, or within `with`."""

    def __init__(self, **ids: object) -> None:
        self._tokens = structlog.contextvars.bind_contextvars(**ids)

    def __enter__(self) -> None:
        """The ids are bound already."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        structlog.contextvars.reset_contextvars(**self._tokens)
