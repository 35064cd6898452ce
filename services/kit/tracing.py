"""OpenTelemetry traces: one per order, from the call that placed it to the stream that told of its end.

A trace crosses processes as the W3C `traceparent`: in gRPC metadata, in the headers of NATS and HTTP, and
with an order in its row, so that it goes on after a payment that took minutes or a process that died. What is
not sampled has no traceparent, and leaves no mark anywhere. Loops in the background begin no traces.
"""

import contextlib
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from opentelemetry import context as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.kit.identity import Caller, Metadata

__all__ = ["SpanKind"]

HEADER = "traceparent"
# Of a batch, this many submitters at most see it in their own traces.
SPANS_PER_BATCH = 32
# A collector that is down must not keep a process from ending.
SEND_S = 2.0
CLOSE_S = 3.0

_PROPAGATOR = TraceContextTextMapPropagator()
_NOWHERE = otel.Context()
_OURS = frozenset({"service", "bff"})
# One for all: a call that is not traced must not pay for a block of its own.
_UNTRACED = contextlib.nullcontext()

_provider: TracerProvider | None = None
_tracer: Tracer | None = None
_ratio = 0.0


class TraceSettings(Protocol):
    """What tracing reads of a service's settings."""

    @property
    def otlp_endpoint(self) -> str | None: ...
    @property
    def trace_ratio(self) -> float: ...


def configure(service: str, settings: TraceSettings) -> None:
    """Send traces to the endpoint that the settings name; without one, nothing is traced."""
    if settings.otlp_endpoint is None:
        return
    # Not needed without an endpoint, and slow to import.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, timeout=SEND_S)
    provider = provider_of(service)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider, settings.trace_ratio)


def provider_of(service: str) -> TracerProvider:
    """A provider that follows what others decided to sample."""
    resource = Resource.create({"service.namespace": "catraca", "service.name": service})
    return TracerProvider(sampler=DEFAULT_ON, resource=resource, shutdown_on_exit=False)


def use(provider: TracerProvider | None, ratio: float = 1.0) -> None:
    """Trace with this provider from now on, and keep this share of what begins here; None for not at all."""
    global _provider, _tracer, _ratio  # noqa: PLW0603 - one per process, as the logs are
    _provider = provider
    _ratio = ratio
    _tracer = provider.get_tracer("catraca") if provider else None


def close() -> None:
    """Send what is left, if that does not take long."""
    if _provider is not None:
        sending = threading.Thread(target=_provider.shutdown, daemon=True)
        sending.start()
        sending.join(CLOSE_S)
    use(None)


# ---- where we are ----


def here() -> SpanContext | None:
    """The sampled span that this task is in."""
    if _tracer is None:
        return None
    found = get_current_span().get_span_context()
    return found if found.is_valid and found.trace_flags.sampled else None


def traceparent() -> str:
    """The current span for a header; empty where nothing is traced."""
    found = here()
    return "" if found is None else f"00-{found.trace_id:032x}-{found.span_id:016x}-01"


def headers() -> dict[str, str]:
    """The current span as headers of a call to somebody else."""
    parent = traceparent()
    return {HEADER: parent} if parent else {}


def mark(word: str) -> None:
    """Note on the current span that it ended with a refusal; INTERNAL is an error."""
    if _tracer is not None:
        span = get_current_span()
        span.set_attribute("catraca.refusal", word)
        if word == "INTERNAL":
            span.set_status(StatusCode.ERROR, word)


# ---- spans ----


def serving(method: str, metadata: Metadata, who: Caller | None) -> contextlib.AbstractContextManager[None]:
    """A call that is served. A parent that comes from one of ours is followed; a call of anybody else begins
    a trace, so that nobody outside decides what is sampled. Between services no trace begins."""
    if _tracer is None:
        return _UNTRACED
    theirs = next((value for name, value in metadata if name == HEADER), "")
    ours = who is not None and not _OURS.isdisjoint(who.roles)
    parent = _context(theirs) if ours and isinstance(theirs, str) else _NOWHERE
    if parent is _NOWHERE and ((who is not None and "service" in who.roles) or not _keeps()):
        return _UNTRACED
    name = method.removeprefix("/catraca.")
    return _spanned(_tracer.start_span(name, parent, SpanKind.SERVER, {"rpc.system": "grpc"}))


@contextlib.contextmanager
def beginning(name: str) -> Iterator[None]:
    """A span that begins a trace where there is none: one item of many in a stream."""
    if _tracer is None or not _keeps():
        yield
        return
    with _spanned(_tracer.start_span(name, kind=SpanKind.SERVER)):
        yield


@contextlib.contextmanager
def inner(name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[None]:
    """A part of the current span; nothing where nothing is traced."""
    if _tracer is None or here() is None:
        yield
        return
    with _spanned(_tracer.start_span(name, kind=kind)):
        yield


@contextlib.contextmanager
def continued(name: str, parent: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[None]:
    """The trace of this traceparent goes on, and whatever this task was in before does not."""
    if _tracer is None:
        yield
        return
    context = _context(parent)
    if context is _NOWHERE:
        token = otel.attach(_NOWHERE)
        try:
            yield
        finally:
            otel.detach(token)
        return
    with _spanned(_tracer.start_span(name, context, kind)):
        yield


@contextlib.contextmanager
def together(name: str, origins: Iterable[SpanContext | None], most: int = SPANS_PER_BATCH) -> Iterator[None]:
    """Work for several at once: each sees it in the own trace, and its parts are in the trace of the first,
    which links to the others."""
    sampled = [origin for origin in origins if origin is not None][:most] if _tracer is not None else ()
    if _tracer is None or not sampled:
        yield
        return
    first, others = sampled[0], sampled[1:]
    spans = [_tracer.start_span(name, _after(origin)) for origin in others]
    try:
        links = [Link(origin) for origin in others]
        with _spanned(_tracer.start_span(name, _after(first), links=links)):
            yield
    finally:
        for span in spans:
            span.end()


def origin_of(parent: str) -> SpanContext | None:
    """The span that a traceparent names, if it is one and is sampled."""
    if _tracer is None or not parent:
        return None
    found = get_current_span(_context(parent)).get_span_context()
    return found if found.is_valid and found.trace_flags.sampled else None


def now_ns() -> int:
    """The time for `record`."""
    return time.time_ns()


def record(name: str, parents: Iterable[str], began_ns: int) -> None:
    """Spans for something that is over, one in each of the traces."""
    if _tracer is None:
        return
    for parent in parents:
        origin = origin_of(parent)
        if origin is not None:
            _tracer.start_span(name, _after(origin), SpanKind.CONSUMER, start_time=began_ns).end()


def calling(method: str) -> tuple[Span | None, Sequence[tuple[str, str]]]:
    """The span of a call to another service, and the metadata that takes it there. Whoever calls ends it."""
    if _tracer is None or here() is None:
        return None, ()
    span = _tracer.start_span(method.removeprefix("/catraca."), kind=SpanKind.CLIENT)
    context = span.get_span_context()
    return span, ((HEADER, f"00-{context.trace_id:032x}-{context.span_id:016x}-01"),)


@contextlib.contextmanager
def _spanned(span: Span) -> Iterator[None]:
    """The span is the current one for the block, and over after it. What is raised is told by its kind only:
    a message may hold what belongs in no trace."""
    token = otel.attach(set_span_in_context(span))
    try:
        yield
    except Exception as error:
        span.set_attribute("catraca.raised", getattr(error, "word", None) or type(error).__name__)
        raise
    finally:
        otel.detach(token)
        span.end()


def _keeps() -> bool:
    """Whether a trace that begins here is kept. Decided before there is a span: one that is dropped later
    costs more than the call it would have told of."""
    return random.random() < _ratio  # noqa: S311 - a sample, not a secret


def _context(parent: str) -> otel.Context:
    if not parent:
        return _NOWHERE
    carrier: Mapping[str, Any] = {HEADER: parent}
    found = _PROPAGATOR.extract(carrier, _NOWHERE)
    return found if get_current_span(found).get_span_context().is_valid else _NOWHERE


def _after(origin: SpanContext) -> otel.Context:
    return set_span_in_context(NonRecordingSpan(origin), _NOWHERE)
