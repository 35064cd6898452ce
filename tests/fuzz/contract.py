"""Every method of every service and every field of its request, as the contract's descriptors have them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PROTO = Path(__file__).parents[2] / "proto"

FieldPath = tuple[FieldDescriptor, ...]
"""From the request down to one field; through a repeated message it leads into its first element."""


@dataclass(frozen=True)
class Method:
    """One method, by the name it is called by and the messages it takes and gives."""

    descriptor: MethodDescriptor
    service: str
    """The process that serves it: `queue`, `inventory`, `checkout` or `notifier`."""

    @property
    def path(self) -> str:
        """/package.Service/Method"""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def name(self) -> str:
        """Service.Method"""
        return f"{self.descriptor.containing_service.name}.{self.descriptor.name}"

    @property
    def streams_in(self) -> bool:
        """Whether it takes a stream of requests."""
        return bool(self.descriptor.client_streaming)

    @property
    def streams_out(self) -> bool:
        """Whether it gives a stream of answers."""
        return bool(self.descriptor.server_streaming)

    @property
    def request(self) -> type[Message]:
        """The class of its requests."""
        return GetMessageClass(self.descriptor.input_type)

    @property
    def response(self) -> type[Message]:
        """The class of its answers."""
        return GetMessageClass(self.descriptor.output_type)

    @property
    def paths(self) -> tuple[FieldPath, ...]:
        """Every field of its request."""
        return field_paths(self.descriptor.input_type)


# SaleService lives in the queue's process.
_SERVED_BY = {"sale": "queue"}


@cache
def methods() -> dict[str, Method]:
    """All methods of the contract, by `Method.name`."""
    found = {}
    for file in sorted((PROTO / "catraca").glob("*/v1/*.proto")):
        package = file.parts[-3]
        module = import_module(f"catraca.{package}.v1.{file.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for descriptor in service.methods:
                method = Method(descriptor, _SERVED_BY.get(package, package))
                found[method.name] = method
    return found


@cache
def field_paths(message: Descriptor) -> tuple[FieldPath, ...]:
    """The paths to all fields of a message, messages within it included."""
    return tuple(_paths(message, ()))


def _paths(message: Descriptor, above: FieldPath) -> Iterator[FieldPath]:
    for field in message.fields:
        path = (*above, field)
        yield path
        if field.message_type is not None:
            yield from _paths(field.message_type, path)


def written(path: FieldPath) -> str:
    """The path as a person reads it: `spec.sections[0].id`."""
    return ".".join(f"{field.name}[0]" if field.is_repeated else field.name for field in path)


def put(request: Message, path: FieldPath, value: Any) -> None:
    """Sets one field, making what is above it. A list fills a repeated field, a dict a message."""
    for field in path[:-1]:
        inside = getattr(request, field.name)
        if field.is_repeated:
            request = inside[0] if len(inside) else inside.add()
        else:
            inside.SetInParent()
            request = inside
    field = path[-1]
    request.ClearField(field.name)
    if not field.is_repeated and field.message_type is None:
        setattr(request, field.name, value)
    elif not field.is_repeated:
        getattr(request, field.name).SetInParent()
    elif field.message_type is None:
        getattr(request, field.name).extend(value)
    else:
        empty = GetMessageClass(field.message_type)()
        getattr(request, field.name).extend([empty] * len(value))
