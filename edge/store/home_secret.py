"""The station's secret, in its encrypted file: what signs its tokens and seals what is personal follows from it."""

from __future__ import annotations

import secrets
from typing import Final

from edge.store.driver import Connection, transaction
from edge.store.jobs import run
from shared.accounts import rotation
from shared.accounts.facts import fact, set_fact
from shared.accounts.fields import FieldKeys
from shared.accounts.sealing import SECRET_BYTES
from shared.accounts.users import Job

_SECRET: Final = "accounts.secret"  # noqa: S105  # the name of a fact


def kept_secret() -> Job[bytes | None]:
    """Return the station's secret; None before it was made."""
    kept = yield from fact(_SECRET)
    return None if kept is None else bytes.fromhex(kept)


def home_secret() -> Job[bytes]:
    """Return the station's secret, made once."""
    kept = yield from kept_secret()
    if kept is None:
        kept = secrets.token_bytes(SECRET_BYTES)
        yield from set_fact(_SECRET, kept.hex())
    return kept


def known_secret() -> Job[bytes]:
    """Return the secret of a station whose store is open: it has one."""
    kept = yield from kept_secret()
    assert kept is not None
    return kept


def field_keys(db: Connection) -> FieldKeys:
    """Return what seals and opens personal fields; a secret is made where there is none."""
    secret = run(db, kept_secret())  # a station whose disk is full must start as well
    if secret is None:
        with transaction(db):
            secret = run(db, home_secret())
    return FieldKeys(secret, run(db, rotation.fields_in_use()).current)
