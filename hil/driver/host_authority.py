"""A host's side of authority: the level that the chip granted for its key, and seals of requests that change state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from firmware_protocols.errors import RemoteProtocolError
from firmware_protocols.extensions.authority import needed, proof_of, sealer_after, session_key
from firmware_protocols.extensions.messages import Authorise, Challenge, Level
from firmware_protocols.host import HostLink
from firmware_protocols.messages import Capability, Request
from hil.driver.errors import forged_counter
from hil.driver.keys import HostKey


class HostAuthority:
    """The key of a host, or None, and the level that the chip grants it."""

    def __init__(self, key: HostKey | None) -> None:
        self._key = key
        self.level: Level | None = None  # None: the chip wants no key, or has got none

    def first_level(self, can: Capability) -> Level | None:
        """Level of authority to prove when a session begins; None: no key, or the chip wants none."""
        if self._key is None or Capability.AUTHORITY not in can:
            return None
        usual = Level.PROGRAM if Capability.PROGRAM_TILE in can else Level.SERVICE
        return usual if self._key.level is None else self._key.level

    def lacking(self, request: Request[Any]) -> Level | None:
        """Level that a request needs above the granted one; None: the granted level suffices, or no key is wanted."""
        return needed(request) if self.level is not None and needed(request) > self.level else None

    def prove(self, level: Level, link: HostLink, ask: Callable[[Request[Any]], Any], address: str) -> None:
        """Prove the key by two requests; from then on, requests that change the chip carry a seal.

        Raises:
            NotAuthorised: the key is for another level, or the chip refuses it. LinkError: the seal counter was forged.
        """
        assert self._key is not None
        key, nonce = self._key.of(level), link.nonce
        challenge = ask(Challenge())
        ask(Authorise(level, proof_of(key, challenge.nonce, level, nonce)))
        try:
            seals = sealer_after(challenge, session_key(key, challenge.nonce, level, nonce), before=link.sealer)
        except RemoteProtocolError as error:
            raise forged_counter(address, error) from error
        link.sealer, self.level = seals, level
