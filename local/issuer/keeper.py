"""Keeps the keys young: rotates them by age or on request, and renews what was signed with the one before."""

import asyncio
import time
from pathlib import Path

from local.issuer.ring import LONGEST_TTL_S
from local.issuer.tokens import Minter, write_service_token
from services.kit.logs import get_logger

LOOK_EVERY_S = 30.0

_log = get_logger("issuer")


class Keeper:
    """Looks after the ring and the services' token."""

    def __init__(self, minter: Minter, service_token_file: Path, key_age_s: float) -> None:
        self.minter = minter
        self._ring = minter.ring
        self._token_file = service_token_file
        self._key_age_s = key_age_s

    def rotate(self, *, withdraw: bool = False) -> None:
        """Sign with the coming key; or, to withdraw, replace every key, which ends all tokens there are."""
        if withdraw:
            self._ring.replace_all()
        else:
            self._ring.rotate()
        write_service_token(self._token_file, self.minter)

    def look(self) -> None:
        """Do what is due."""
        now = time.time()
        signing = self._ring.signing
        if now - (signing.signs_since or signing.made_at) >= self._key_age_s:
            self.rotate()
        elif not self._token_file.exists() or now - self._token_file.stat().st_mtime >= LONGEST_TTL_S / 2:
            write_service_token(self._token_file, self.minter)
        self._ring.prune()

    async def run(self) -> None:
        """Look from time to time, for ever."""
        while True:
            try:
                self.look()
            except OSError as error:
                # A full disk passes; the keys in hand sign until then.
                _log.warning("the keys cannot be looked after", problem=str(error))
            await asyncio.sleep(LOOK_EVERY_S)
