"""Reads Lua files for the contract tests: functions, what they use, what they call, what they write."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from services.kit.lua import POINT_OF_NO_FAILURE, fragments, parse_header

_FUNCTION = re.compile(
    r"^(?:local function (\w+)|function ([\w.]+)|([\w.\[\]'\"]+) = function)\b", re.MULTILINE
)
_CAPITALS = re.compile(r"""['"]([A-Z][A-Z_]+)['"]""")
_WORD = re.compile(r"""\b(?:word = |refuse\()(?:['"](\w+)['"])?""")
_REDIS = re.compile(r"""redis\.call\(\s*['"](\w+)['"]""")
_CALL = re.compile(r"([\w.]+)\(")
_READING = re.compile(
    r"M?GET|HM?GET(ALL)?|HLEN|HSCAN|EXISTS|GETBIT|GETRANGE|STRLEN|L(RANGE|LEN)|Z(RANGE.*|CARD|SCORE)|P?TTL|TIME"
)
# What notes a change that the run writes when it ends.
_NOTING = re.compile(r"buckets\.(?:add|move)|changes\.add|view\.(?:save|set)_\w+|change|put")
_ASSIGNING = re.compile(r"(?:^\s*|then |else )(?:view|line)\.[\w.]+(?:, [\w.]+)* = ", re.MULTILINE)


@dataclass(frozen=True)
class Function:
    """One function, or all of a file that is no function; without comments."""

    name: str
    text: str

    @cached_property
    def words(self) -> set[str]:
        """The words it answers with, as far as they are written out here."""
        return {word for word in _WORD.findall(self.text) if word}

    @cached_property
    def has_computed_words(self) -> bool:
        """Whether it answers with a word that is kept somewhere else."""
        return "" in _WORD.findall(self.text)

    @cached_property
    def calls(self) -> set[str]:
        """The names of the functions it calls."""
        return set(_CALL.findall(self.text))

    @cached_property
    def writes(self) -> bool:
        """Whether it writes by itself, to Redis or to what the run writes at its end."""
        noted = any(_NOTING.fullmatch(name) for name in self.calls) or _ASSIGNING.search(self.text)
        return bool(noted) or not all(_READING.fullmatch(name) for name in _REDIS.findall(self.text))


class LuaFile:
    """One file: its header and its functions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text("utf-8")
        marked = self.text.replace(POINT_OF_NO_FAILURE, "@point()")
        self.code = re.sub(r"--.*$", "", marked, flags=re.MULTILINE)
        self.header = parse_header(self.text) if "-- Returns:" in self.text else None
        self.functions = [Function(name, text) for name, text in _split(self.code)]

    def uses(self, table: str) -> set[str]:
        """The names used as `table.name`."""
        return set(re.findall(rf"\b{table}\.(\w+)", self.code))

    @property
    def capitals(self) -> set[str]:
        """Every text in capitals."""
        return set(_CAPITALS.findall(self.code))


def _split(code: str) -> list[tuple[str, str]]:
    starts = [(match.start(), next(filter(None, match.groups()))) for match in _FUNCTION.finditer(code)]
    if not starts:
        return [("", code)]
    ends = [start for start, _ in starts[1:]] + [len(code)]
    return [("", code[: starts[0][0]])] + [
        (name, code[start:end]) for (start, name), end in zip(starts, ends, strict=True)
    ]


class Service:
    """All Lua of one service."""

    def __init__(self, folder: Path) -> None:
        self.transitions = [LuaFile(path) for path in fragments(folder)]
        shared = [folder / "lib.lua", *sorted(folder.glob("lib/*.lua"))]
        self.library = [LuaFile(path) for path in shared if path.exists()]
        self._shared = {function.name: function for file in self.library for function in file.functions}
        # Functions of a helper file that are its own have names that others may have too.
        self._own = {id(function): file for file in self.library for function in file.functions}

    def reached(self, file: LuaFile) -> list[Function]:
        """The functions of a transition, and all of the library that they call, directly or not."""
        found: dict[int, Function] = {id(function): function for function in file.functions}
        open_ = list(found.values())
        while open_:
            function = open_.pop()
            for called in self._called(function):
                if id(called) not in found:
                    found[id(called)] = called
                    open_.append(called)
        return list(found.values())

    def _called(self, function: Function) -> list[Function]:
        at_home = self._own.get(id(function))
        local = {each.name: each for each in at_home.functions} if at_home else {}
        names = {**self._shared, **local}
        return [names[name] for name in function.calls if name in names]

    def writes(self, function: Function) -> bool:
        """Whether it writes, or calls something of the library that does."""
        seen: set[int] = set()
        open_ = [function]
        while open_:
            each = open_.pop()
            if each.writes:
                return True
            seen.add(id(each))
            open_ += [called for called in self._called(each) if id(called) not in seen]
        return False
