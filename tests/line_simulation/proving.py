"""A simulated host proves its key, again where the chip was stopped or restarted; a forgery ends this life of it."""

from __future__ import annotations

from firmware_protocols.errors import RemoteProtocolError
from firmware_protocols.extensions.authority import KEY_BYTES, Sealer, level_key, proof_of, sealer_after, session_key
from firmware_protocols.extensions.messages import Authorise, Challenge, Challenged, Level
from firmware_protocols.host import HostLink
from firmware_protocols.messages import Done, Reply

KEY = bytes(range(KEY_BYTES))
LEVEL = Level.SERVICE  # of all that is asked
_LEVEL_KEY = level_key(KEY, LEVEL)


class KeyProof:
    """The proof of one life of a host.

    ``done``: what changes the chip is sealed from now on. ``forged``: the chip is said to have a counter that it cannot
    have. That ends the driver, too: to ask on under the same nonce would make the chip forget what is waited for.
    """

    def __init__(self, link: HostLink) -> None:
        self._link, self.done, self.forged = link, False, False
        self._seals: Sealer | None = None
        self._asked = link.request(Challenge(), aside=True)

    def take(self, request_id: int, reply: Reply) -> bool:
        """Whether a reply belongs to the proof, which then goes on."""
        if request_id != self._asked:
            return False
        self._asked = -1
        if isinstance(reply, Challenged):
            self._believe(reply)
            if not self.forged:
                proof = proof_of(_LEVEL_KEY, reply.nonce, LEVEL, self._link.nonce)
                self._asked = self._link.request(Authorise(LEVEL, proof), aside=True)
        elif isinstance(reply, Done):
            self._link.sealer, self.done = self._seals, True
        else:  # stopped, or the chip restarted in between
            self._asked = self._link.request(Challenge(), aside=True)
        return True

    def _believe(self, said: Challenged) -> None:
        key = session_key(_LEVEL_KEY, said.nonce, LEVEL, self._link.nonce)
        try:
            self._seals = sealer_after(said, key, before=self._link.sealer)
        except RemoteProtocolError:
            self.forged = True
