"""RockBLOCK's hook: the body of each delivery goes into the ledger as it came, and is answered once it is kept.

The sender waits three seconds and delivers again whatever it was not told was taken. So the answer waits for the commit
and for nothing else: what the body means is the decoder's business, and what cannot be read is kept too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from cloud.ingest.ledger import LedgerWriter

LINK: Final = "rockblock"
#: A message of 340 bytes is twice that in hex digits, and a signature comes with it.
MAX_BODY_BYTES: Final = 16 * 1024
COMMIT_S: Final = 2.5


class RockBlockHook:
    """Takes deliveries that name one of ``keys``."""

    def __init__(self, ledger: LedgerWriter, keys: Sequence[str]) -> None:
        self._ledger = ledger
        # digests are of one length, so a comparison tells nothing of a key's
        self._digests = tuple(_digest(key) for key in keys)

    def knows(self, key: str) -> bool:
        """Say whether ``key`` is one of those configured; takes the same time whichever it is, or none."""
        said = _digest(key)
        is_known = False
        for digest in self._digests:
            is_known |= hmac.compare_digest(digest, said)
        return is_known

    async def take(self, body: bytes) -> None:
        """Keep a delivery; raises StoreError where it could not be kept in time, so that it is delivered again."""
        await self._ledger.append(LINK, "rockblock", [("", body)], within_s=COMMIT_S)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
