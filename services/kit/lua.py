"""Redis scripts: one transition per Lua file, assembled under one dispatcher and run with whole batches.

`lua/dispatch.lua` is the script; lines in it stand for what the loader puts there:

    --@include keys                     local keys = { meta = KEYS[1], … }, and FIXED_KEYS, how many they are
    --@include lib                      lib.lua as it is: its locals serve all that follow; then each
                                        lib/NAME.lua in a scope of its own, to fill tables declared before
    --@include transitions              every other lua/NAME.lua in a scope of its own, to set
                                        transitions.NAME, a table declared before
    --@include transitions(cmd, line)   the same files, each as the body of such a function

The script takes KEYS, ARGV[1] (the envelope) and ARGV[2] (the list of commands), both msgpack, and returns
one msgpack: a list of results, or one map whose `word` answers the whole batch, NOT_LOADED above all.
"""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgpack
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from services.kit import metrics, tracing
from services.kit.errors import Refusal
from services.kit.redis import ONLY_ONE, Copies

POINT_OF_NO_FAILURE = "-- After this point nothing can fail."

_DISPATCH = "dispatch.lua"
_LIBRARY = "lib.lua"
_INCLUDE = re.compile(r"^--@include (\w+)(\([\w, ]*\))?[ \t]*$", re.MULTILINE)
_FIELD = re.compile(r"^-- (Purpose|KEYS|ARGV|Returns):(.*)$")


class NotLoaded(Refusal):
    """The store does not hold the sale under this epoch; nothing was written."""

    def __init__(self) -> None:
        super().__init__("SALE_NOT_LOADED")


class WholeBatch(Exception):
    """The script answered the whole batch with one word; `answer` is the map that holds it."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["word"])
        self.word: str = answer["word"]
        self.answer = answer


@dataclass(frozen=True)
class Header:
    """What a fragment says of itself above its code."""

    purpose: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    returns: tuple[str, ...]


def parse_header(text: str) -> Header:
    """Reads the comment that begins a fragment. Raises ValueError where a field is missing.

    A field goes on over comment lines that begin with two spaces or more; KEYS, ARGV and Returns are names
    separated by commas, or `none`.
    """
    fields: dict[str, str] = {}
    current = ""
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _FIELD.match(line):
            current = match[1]
            fields[current] = match[2].strip()
        elif current and line.startswith("--  "):
            fields[current] += " " + line[2:].strip()
        else:
            current = ""
    missing = [name for name in ("Purpose", "KEYS", "ARGV", "Returns") if not fields.get(name)]
    if missing:
        raise ValueError(f"the header lacks {', '.join(missing)}")
    return Header(fields["Purpose"], *(_names(fields[name]) for name in ("KEYS", "ARGV", "Returns")))


def _names(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(re.findall(r"\w+", text))


@dataclass(frozen=True)
class Script:
    """One service's script. `keys` names the first of its KEYS, in order; others may follow."""

    name: str
    """The service's: what its metrics are told apart by."""
    text: str
    sha: str
    keys: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, keys: Sequence[str]) -> "Script":
        """Assembles the folder's files. Raises ValueError for an unknown include."""
        text = assemble(folder, keys)
        # The name by which Redis knows a script; nothing is protected by it.
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        return cls(folder.parent.name, text, sha, tuple(keys))

    async def run(
        self,
        redis: Redis,
        keys: Sequence[str],
        envelope: Mapping[str, Any],
        commands: Sequence[Mapping[str, Any]],
        copies: Copies = ONLY_ONE,
    ) -> list[dict[str, Any]]:
        """One result per command, in order, whether this Redis knows the script already or not.

        Raises NotLoaded, or WholeBatch for any other word that answers all of them, and TimeoutError where
        too few copies have what was changed. Text that is not UTF-8 comes back with surrogate escapes; see
        `raw`.
        """
        arguments: tuple[str | bytes, ...] = (*keys, _pack(envelope), _pack(commands))
        began = time.perf_counter()
        with tracing.inner(f"script {self.name}", tracing.SpanKind.CLIENT):
            try:
                answer = await copies.sure(redis, "EVALSHA", self.sha, len(keys), *arguments)
            except NoScriptError:
                answer = await copies.sure(redis, "EVAL", self.text, len(keys), *arguments)
        metrics.SCRIPT.labels(self.name).observe(time.perf_counter() - began)
        results = msgpack.unpackb(answer, raw=False, unicode_errors="surrogateescape", strict_map_key=False)
        if isinstance(results, dict):
            raise NotLoaded if results["word"] == "NOT_LOADED" else WholeBatch(results)
        return cast("list[dict[str, Any]]", results)


def raw(text: str) -> bytes:
    """The bytes of a string that a script returned, where they are no text."""
    return text.encode("utf-8", "surrogateescape")


def _pack(value: Any) -> bytes:
    # Lua has one kind of string: bytes and text are packed alike.
    packed = msgpack.packb(value, use_bin_type=False)
    assert isinstance(packed, bytes)
    return packed


def assemble(folder: Path, keys: Sequence[str]) -> str:
    """The script's whole text."""

    def included(match: re.Match[str]) -> str:
        match match.groups():
            case "keys", None:
                names = ", ".join(f"{name} = KEYS[{place}]" for place, name in enumerate(keys, 1))
                return f"local keys = {{ {names} }}\nlocal FIXED_KEYS = {len(keys)}"
            case "lib", None:
                return _library(folder)
            case "transitions", parameters:
                return "\n".join(_fragment(path, parameters) for path in fragments(folder))
        raise ValueError(f"{_DISPATCH} has {match[0]!r}, which includes none of keys, lib and transitions")

    return _INCLUDE.sub(included, (folder / _DISPATCH).read_text("utf-8"))


def fragments(folder: Path) -> list[Path]:
    """The files of a folder that hold one transition each, by name."""
    return [path for path in _files(folder) if path.name not in (_DISPATCH, _LIBRARY)]


def _fragment(path: Path, parameters: str | None) -> str:
    if parameters is None:
        return _scoped(path)
    return f'transitions["{path.stem}"] = function{parameters} -- {path.name}\n{path.read_text("utf-8")}\nend'


def _library(folder: Path) -> str:
    shared = folder / _LIBRARY
    text = shared.read_text("utf-8") if shared.exists() else ""
    return "\n".join([text, *(_scoped(path) for path in _files(folder / "lib"))])


def _scoped(path: Path) -> str:
    return f"do -- {path.name}\n{path.read_text('utf-8')}\nend"


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.lua"))
