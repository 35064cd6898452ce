"""Rings of symmetric keys from files: the newest active one makes, every one of them checks."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from services.kit.key_file import KeyFile, moment, newest_first, read, sound_id, wrong

_EXPECTED = (
    'a JSON list of {"id", "key"}, newest first: ids of a–z, 0–9 and hyphens, at most 16 characters, keys of '
    '32 to 64 bytes in hexadecimal; "active_from" and "made_at" in seconds since 1970 where they are known'
)
_LEAST_BYTES, _MOST_BYTES = 32, 64


@dataclass(frozen=True)
class SymmetricKey:
    """One secret of a ring; `secret` has 32 to 64 bytes. Times are seconds since 1970."""

    id: str
    secret: bytes = field(repr=False)
    active_from: float = 0.0
    """From when new things are made with it. Until then it only checks, and every replica gets to know it."""
    made_at: float | None = None


class Ring(Protocol):
    """Keys to make and to check with, fixed ones or those of a file that changes."""

    @property
    def newest(self) -> SymmetricKey:
        """The one that new things are made with now."""

    @property
    def oldest(self) -> SymmetricKey:
        """The one that has been there longest."""

    def get(self, key_id: str) -> SymmetricKey | None:
        """The key of this id, if the ring has it."""


@dataclass(frozen=True)
class KeyRing:
    """Secrets, newest first."""

    keys: tuple[SymmetricKey, ...]

    @property
    def newest(self) -> SymmetricKey:
        """The first that is active; the oldest where none is."""
        now = time.time()
        return next((key for key in self.keys if key.active_from <= now), self.keys[-1])

    @property
    def oldest(self) -> SymmetricKey:
        """The last of the list."""
        return self.keys[-1]

    def get(self, key_id: str) -> SymmetricKey | None:
        """The key of this id, if the ring has it."""
        for key in self.keys:
            if key.id == key_id:
                return key
        return None


class LiveRing:
    """The ring of a file that is read again when it changes."""

    def __init__(self, path: Path, setting: str) -> None:
        """Reads the file. Raises SettingError naming `setting`, the settings field that gave the path."""
        self._file = KeyFile(path, setting, load_ring)

    @property
    def newest(self) -> SymmetricKey:
        """The one that new things are made with now."""
        return self._file.keys.newest

    @property
    def oldest(self) -> SymmetricKey:
        """The one that has been there longest."""
        return self._file.keys.oldest

    def get(self, key_id: str) -> SymmetricKey | None:
        """The key of this id. One that is not known may have come a moment ago: the file is looked at."""
        return self._file.keys.get(key_id) or self._file.look().get(key_id)


def load_ring(path: Path, setting: str) -> KeyRing:
    """Reads a ring. Raises SettingError naming `setting`, the settings field that gave the path."""
    content = read(path, setting, _EXPECTED)
    try:
        keys = tuple(_key(entry) for entry in entries_of(content))
    except ValueError as error:
        raise wrong(path, setting, str(error), _EXPECTED) from None
    problem = newest_first([key.id for key in keys], [key.active_from for key in keys])
    if problem:
        raise wrong(path, setting, problem, _EXPECTED)
    return KeyRing(keys)


def entries_of(content: bytes) -> list[Mapping[str, Any]]:
    """The objects of a JSON list. Raises ValueError that says what is wrong, without the content."""
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError):
        # The error of the library quotes what it read.
        raise ValueError("there is no JSON") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("there is no list of objects")
    return entries


def _key(entry: Mapping[str, Any]) -> SymmetricKey:
    key_id, text = sound_id(entry), entry.get("key")
    try:
        secret = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        secret = b""
    if not _LEAST_BYTES <= len(secret) <= _MOST_BYTES:
        raise ValueError(f"`key` of {key_id} is not {_LEAST_BYTES} to {_MOST_BYTES} bytes in hexadecimal")
    return SymmetricKey(key_id, secret, moment(entry, "active_from") or 0.0, moment(entry, "made_at"))
