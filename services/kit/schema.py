"""Judges a value as the Kubernetes API server judges a custom resource: schema, defaults, CEL rules."""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError
from google.protobuf.timestamp_pb2 import Timestamp
from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators

RULES = "x-kubernetes-validations"
# What a rule about a change names: the value before. There is none here, as when the API server creates.
BEFORE = "oldSelf"
LIST_KEYS = "x-kubernetes-list-map-keys"

TIME_WANTED = "must be a time like 2026-11-20T10:00:00Z"
TYPE_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong with a value, and where: `spec.sections[0].capacity`; an empty path is the whole."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


class Schema:
    """One openAPIV3Schema of a CRD.

    It judges a value, not a change: rules about `oldSelf` are left to whoever knows what stands, which is
    `SaleService.Define`. It judges them by the same words and more strictly, as it knows the time too.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._validator = _Validator(schema, format_checker=_FORMATS)
        self._words = dict(_patterns_in_words(schema))

    def field(self, *path: str) -> Mapping[str, Any]:
        """The schema of one field."""
        schema = self._schema
        for name in path:
            schema = schema["properties"][name]
        return schema

    def with_defaults(self, value: Any) -> Any:
        """A copy with the defaults for what is absent or null; a null without a default is taken away."""
        return _with_defaults(self._schema, copy.deepcopy(value))

    def problems(self, value: Any) -> list[Problem]:
        """Everything that is wrong, after defaulting, in the order of the value's fields."""
        value = self.with_defaults(value)
        errors = list(self._validator.iter_errors(value))
        found = [problem for error in errors for problem in self._explain(error)]
        # Rules rely on these, so they are asked only where they are kept. The API server asks none at all
        # as long as one of these is wrong anywhere; here everything is told at once.
        blocking = {
            each.path for error in errors if error.validator in _BLOCKING for each in self._explain(error)
        }
        found += _structure(self._schema, value, "")
        wrong = _Wrong(frozenset(blocking), frozenset(problem.path for problem in found))
        found += _broken_rules(self._schema, value, "", wrong)
        return list(dict.fromkeys(found))

    def _explain(self, error: ValidationError) -> Iterator[Problem]:
        for problem in _explain(error):
            words = self._words.get(str(error.validator_value)) if error.validator == "pattern" else None
            yield Problem(problem.path, words) if words else problem


@dataclass(frozen=True, slots=True)
class _Wrong:
    """Paths of what the schema found: what keeps rules from being asked, and all of it."""

    blocking: frozenset[str]
    named: frozenset[str]


def _with_defaults(schema: Mapping[str, Any], value: Any) -> Any:
    if isinstance(value, dict):
        for name, field in schema.get("properties", {}).items():
            if value.get(name) is None and "default" in field:
                value[name] = copy.deepcopy(field["default"])
            elif name in value and value[name] is None:
                del value[name]
            if name in value:
                value[name] = _with_defaults(field, value[name])
    elif isinstance(value, list) and "items" in schema:
        return [_with_defaults(schema["items"], item) for item in value]
    return value


def _structure(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[Problem]:
    """What JSON Schema does not say: unknown fields, and keys of a list that are given twice."""
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        for name, inner in value.items():
            if name not in fields:
                yield Problem(_join(path, f".{name}"), "is not a field of a sale")
            else:
                yield from _structure(fields[name], inner, _join(path, f".{name}"))
    elif isinstance(value, list) and "items" in schema:
        seen: list[Any] = []
        for place, item in enumerate(value):
            at = f"{path}[{place}]"
            yield from _structure(schema["items"], item, at)
            if LIST_KEYS in schema and isinstance(item, dict):
                key = [item.get(name) for name in schema[LIST_KEYS]]
                if key in seen:
                    yield Problem(at, f"{schema[LIST_KEYS][0]} {key[0]!r} is given twice")
                seen.append(key)


def _broken_rules(schema: Mapping[str, Any], value: Any, path: str, wrong: _Wrong) -> Iterator[Problem]:
    """The CEL rules of a value and of what is in it."""
    if not any(_within(other, path) for other in wrong.blocking):
        for rule in _rules(schema):
            at = _join(path, rule.get("fieldPath", ""))
            holds = _holds(rule["rule"], value)
            if holds is None and not any(_within(other, path) for other in wrong.named):
                # A rule that cannot be evaluated refuses; which field is to blame, nobody knows.
                yield Problem(path, rule["message"])
            elif holds is False and at not in wrong.named:
                yield Problem(at, rule["message"])
    if isinstance(value, dict):
        for name, field in schema.get("properties", {}).items():
            if name in value:
                yield from _broken_rules(field, value[name], _join(path, f".{name}"), wrong)
    elif isinstance(value, list) and "items" in schema:
        for place, item in enumerate(value):
            yield from _broken_rules(schema["items"], item, f"{path}[{place}]", wrong)


def _rules(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The rules to ask. That which says a pattern in words is the pattern's, which was asked already."""
    for place, rule in enumerate(schema.get(RULES, ())):
        if BEFORE not in rule["rule"] and not (place == 0 and "pattern" in schema):
            yield rule


def _patterns_in_words(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every pattern with what it means: the first rule of a field that has one says it, for people.

    Times have none: to rules they are times and no text.
    """
    if "pattern" in schema and RULES in schema:
        yield schema["pattern"], schema[RULES][0]["message"]
    for field in schema.get("properties", {}).values():
        yield from _patterns_in_words(field)
    if "items" in schema:
        yield from _patterns_in_words(schema["items"])


def _within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _holds(rule: str, value: Any) -> bool | None:
    """Whether a rule holds; None where it cannot be evaluated."""
    try:
        return bool(_program(rule).evaluate({"self": json_to_cel(value)}))
    except (CELEvalError, ValueError):
        # CEL's whole numbers have 64 bits, which json_to_cel tells by a ValueError.
        return None


@cache
def _program(rule: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def _join(path: str, more: str) -> str:
    return f"{path}{more}".lstrip(".")


# ---- JSON Schema, in words for a person ----


def _pattern(_: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    # Where Python's `$` also matches before a line's end, the API server's matches at the very end alone; and
    # its classes, such as white space, are of ASCII.
    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value, re.ASCII):
        a_time = schema.get("format") == "date-time"
        yield ValidationError(TIME_WANTED if a_time else f"is not of the form {pattern}")


def _minimum(_: Any, minimum: float, value: Any, __: Any) -> Iterator[ValidationError]:
    # Asked the other way round than usual: not-a-number is not at least anything.
    if _is_number(value) and not value >= minimum:
        yield ValidationError(f"must be at least {minimum}")


def _maximum(_: Any, maximum: float, value: Any, __: Any) -> Iterator[ValidationError]:
    if _is_number(value) and value > maximum:
        yield ValidationError(f"must be at most {maximum}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        Timestamp().FromJsonString(value)
    except ValueError:
        return False
    return True


# Whatever else is wrong lets the API server go on to the rules.
_BLOCKING = frozenset({"type", "required", "enum", "format", "maxLength", "maxItems"})
_KEYWORDS = {"pattern": _pattern, "minimum": _minimum, "maximum": _maximum}
_Validator = validators.extend(Draft202012Validator, _KEYWORDS)  # type: ignore[no-untyped-call]
_FORMATS = FormatChecker(formats=())
_FORMATS.checks("date-time")(_is_time)


def _explain(error: ValidationError) -> Iterator[Problem]:
    path = ""
    for step in error.absolute_path:
        path = f"{path}[{step}]" if isinstance(step, int) else _join(path, f".{step}")
    limit: Any = error.validator_value
    match error.validator:
        case "required":
            found: Any = error.instance
            absent = [name for name in limit if name not in found]
            yield from (Problem(_join(path, f".{name}"), "is required") for name in absent)
        case "type":
            yield Problem(path, f"must be {TYPE_NAMES[limit]}")
        case "enum":
            yield Problem(path, f"must be one of {', '.join(limit)}")
        case "format":
            yield Problem(path, TIME_WANTED)
        case "minLength" | "minItems":
            yield Problem(path, "must not be empty" if limit == 1 else f"must have at least {limit}")
        case "maxLength":
            yield Problem(path, f"must have at most {limit} characters")
        case "maxItems":
            yield Problem(path, f"must have at most {limit} entries")
        case _:
            yield Problem(path, error.message)
