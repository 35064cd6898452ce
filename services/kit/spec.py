"""Proto messages as the plain values of a manifest and back: camelCase names, durations and times as text."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.schema import Problem

# A price of nothing is a price: where it is not given, the schema would miss it.
ZERO_IS_A_VALUE = frozenset({"price"})
# What a manifest says to the operator alone; a SaleSpec does not carry it, and no service asks for it.
KUBERNETES_ONLY = frozenset({"openPolicy", "scaling", "override"})
_UNITS_MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PART = re.compile(r"([0-9]+)(h|ms|m|s)")
# A whole duration, as the schema has it too.
DURATION = re.compile(r"(?=.)([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?")


def values_of(message: Message) -> dict[str, Any]:
    """A message as a mapping of what is set.

    Proto cannot tell a zero from what is absent: it is left out, and takes the schema's default.
    """
    values: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            if len(value):
                values[field.json_name] = [_value_of(field, item) for item in value]
        elif field.message_type is not None:
            if message.HasField(field.name):
                values[field.json_name] = _value_of(field, value)
        elif value or field.json_name in ZERO_IS_A_VALUE:
            values[field.json_name] = _value_of(field, value)
    return values


def message_of(values: dict[str, Any], message: Message) -> None:
    """Fill a message from a mapping that the schema has judged, defaults filled in.

    Raises ValueError for a field that neither the message has nor `KUBERNETES_ONLY` names: what a schema
    takes and nobody reads would be a wish that is dropped in silence.
    """
    unknown = values.keys() - {field.json_name for field in message.DESCRIPTOR.fields} - KUBERNETES_ONLY
    if unknown:
        raise ValueError(f"{message.DESCRIPTOR.name} has no {', '.join(sorted(unknown))}")
    for field in message.DESCRIPTOR.fields:
        value = values.get(field.json_name)
        if value is None:
            continue
        if field.is_repeated and field.message_type is None:
            getattr(message, field.name).extend(_scalar_of(field, item) for item in value)
        elif field.is_repeated:
            for item in value:
                message_of(item, getattr(message, field.name).add())
        elif field.message_type is None:
            setattr(message, field.name, _scalar_of(field, value))
        elif field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
            getattr(message, field.name).FromJsonString(value)
        elif field.message_type.full_name == Duration.DESCRIPTOR.full_name:
            getattr(message, field.name).FromMilliseconds(duration_ms(value))
        else:
            # An empty mapping is present all the same.
            getattr(message, field.name).SetInParent()
            message_of(value, getattr(message, field.name))


def beyond_size(message: Message, schema: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Lists with more entries and texts with more characters than the schema of this message takes."""
    for field, value in message.ListFields():
        inner, at = schema["properties"][field.json_name], f"{path}.{field.json_name}"
        if field.is_repeated and len(value) > inner["maxItems"]:
            yield Problem(at, f"must have at most {inner['maxItems']} entries")
        elif field.is_repeated:
            for place, item in enumerate(value):
                yield from _beyond_size(item, inner["items"], f"{at}[{place}]")
        else:
            yield from _beyond_size(value, inner, at)


def _beyond_size(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Problem]:
    if isinstance(value, str):
        if len(value) > schema["maxLength"]:
            yield Problem(path, f"must have at most {schema['maxLength']} characters")
    elif schema["type"] == "object":
        yield from beyond_size(value, schema, path)


def duration_ms(text: str) -> int:
    """Milliseconds of a duration like `1h30m` or `30s`."""
    return sum(int(count) * _UNITS_MS[unit] for count, unit in _PART.findall(text))


def duration_text(ms: int) -> str:
    """The shortest text of a duration: `1h30m`, `500ms`, `0s`; a negative one begins with a minus."""
    if ms < 0:
        return f"-{duration_text(-ms)}"
    text = ""
    for unit, length in _UNITS_MS.items():
        count, ms = divmod(ms, length)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _value_of(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return _time_text(value)
    if isinstance(value, Duration):
        return _duration_text(value)
    if isinstance(value, Message):
        return values_of(value)
    if field.enum_type is not None:
        return _enum_text(field.enum_type, value)
    return value


def _time_text(time: Timestamp) -> str:
    try:
        return time.ToJsonString()
    except ValueError:
        # Beyond the year 9999: the schema says what a time looks like.
        return f"{time.seconds}s"


def _duration_text(duration: Duration) -> str:
    try:
        duration.ToJsonString()
    except ValueError:
        # Nanoseconds beyond a second, or of the other sign: the schema says what a duration looks like.
        return f"{duration.seconds}s{duration.nanos}ns"
    return duration_text(duration.ToMilliseconds())


def _enum_text(enum: EnumDescriptor, number: int) -> str:
    value = enum.values_by_number.get(number)
    # A number that this version does not know: the schema lists those it does.
    return value.name.removeprefix(_prefix(enum)).title().replace("_", "") if value else str(number)


def _scalar_of(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        numbers = {_enum_text(field.enum_type, each.number): each.number for each in field.enum_type.values}
        return numbers[value]
    # YAML has 2.0 for a whole number too, and 2 for a fraction.
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        return int(value)
    return value


def _prefix(enum: EnumDescriptor) -> str:
    """SectionKind → SECTION_KIND_"""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
