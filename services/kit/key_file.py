"""Files of keys, and how a running process takes up what is new in them."""

import math
import re
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

from services.kit.logs import get_logger
from services.kit.settings import SettingError, variable_of

LOOK_AGAIN_S = 2.0
"""A process looks at its key files this often; a key must not be used before all had the time to read it."""
KEY_ID = re.compile(r"[a-z0-9-]{1,16}")

R = TypeVar("R")

log = get_logger("keys")


class KeyFile(Generic[R]):
    """The keys of a file, read again when it changes. A file that went bad takes no key away.

    Nothing runs in the background: whoever asks for the keys looks at the file, every `LOOK_AGAIN_S` seconds.
    """

    def __init__(self, path: Path, setting: str, load: Callable[[Path, str], R]) -> None:
        """Reads the file. Raises SettingError naming `setting`, the settings field that gave the path."""
        self._path = path
        self._setting = setting
        self._load = load
        self._seen = self._version()
        self._keys = load(path, setting)
        self._look_at = time.monotonic() + LOOK_AGAIN_S

    @property
    def keys(self) -> R:
        """The keys as they were at most `LOOK_AGAIN_S` seconds ago."""
        if time.monotonic() >= self._look_at:
            return self.look()
        return self._keys

    def look(self) -> R:
        """The keys as they are now: for an id that is not among those in hand."""
        self._look_at = time.monotonic() + LOOK_AGAIN_S
        version = self._version()
        if version != self._seen:
            self._seen = version
            try:
                self._keys = self._load(self._path, self._setting)
                log.info("keys_read", variable=variable_of(self._setting))
            except SettingError as error:
                log.error("keys_not_read", problem=str(error))
        return self._keys

    def _version(self) -> tuple[int, ...] | None:
        """What changes with the file's content; None where there is no file."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def read(path: Path, setting: str, expected: str) -> bytes:
    """The file's content. Raises SettingError."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "not readable"
        raise SettingError(variable_of(setting), f"{str(path)!r} ({reason})", expected) from None


def wrong(path: Path, setting: str, problem: str, expected: str) -> SettingError:
    """The error for a file whose content does not fit; `problem` says what, and never holds a secret."""
    return SettingError(variable_of(setting), f"{str(path)!r}, where {problem}", expected)


def sound_id(entry: Mapping[str, Any]) -> str:
    """An entry's id. Raises ValueError that says what is wrong."""
    key_id = entry.get("id")
    if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
        raise ValueError("`id` is missing or is not 1 to 16 of a–z, 0–9 and hyphens")
    return key_id


def moment(entry: Mapping[str, Any], name: str) -> float | None:
    """A time of an entry, seconds since 1970, if it says one. Raises ValueError that says what is wrong."""
    value = entry.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"`{name}` is not a time in seconds since 1970")
    return float(value)


def newest_first(ids: list[str], active_from: list[float]) -> str:
    """What is wrong with a ring of these ids and times; empty where nothing is."""
    if not ids:
        return "there is no key"
    if len(set(ids)) < len(ids):
        return "two keys have the same id"
    if any(newer < older for newer, older in pairwise(active_from)):
        return "a key is active before the one that follows it in the list"
    return ""
