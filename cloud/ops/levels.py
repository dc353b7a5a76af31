"""What the running service logs: asked for and changed over its own API."""

from __future__ import annotations

import httpx

from shared.errors import ConfigError, Invalid
from shared.logs import asked_level


def log_levels(url: str, token: str, package: str, level: str) -> dict[str, str]:
    """Return the levels of a running service's log by package, after a change where a level is named."""
    bearer = {"Authorization": f"Bearer {token}"}
    try:
        if level:
            body = {"package": package, "level": asked_level(level)}
            answer = httpx.put(url, json=body, headers=bearer, timeout=10)
        else:
            answer = httpx.get(url, headers=bearer, timeout=10)
        said = answer.json()
    except (httpx.TransportError, ValueError) as error:
        raise ConfigError(f"nobody answers at {url}: {error}") from error
    if not answer.is_success:
        raise Invalid(said["detail"])
    return {name or "everything else": found for name, found in said["levels"].items()}
