"""The cloud's secret: 32 bytes in a file beside the configuration, never in the database that it protects."""

from __future__ import annotations

import secrets
from pathlib import Path

from shared.accounts.sealing import SECRET_BYTES
from shared.errors import ConfigError


def read_secret(path: Path) -> bytes:
    """Return the secret; raises ConfigError."""
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise ConfigError(
            f"accounts.key_file: {path}: {error.strerror}; `outpost-cloud init` makes one. Stations and TOTP secrets"
            " that are known already need the one that they were made with"
        ) from error
    except ValueError as error:
        raise ConfigError(f"accounts.key_file: {path}: must hold {2 * SECRET_BYTES} hex digits") from error
    if len(secret) != SECRET_BYTES:
        raise ConfigError(f"accounts.key_file: {path}: must hold {2 * SECRET_BYTES} hex digits")
    return secret


def make_secret(path: Path) -> bool:
    """Write a new secret unless there is one; say whether it was written."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secrets.token_hex(SECRET_BYTES) + "\n", encoding="ascii")
    return True
