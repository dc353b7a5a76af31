"""Other services, by apprise's addresses (mail, ntfy, Signal, ...). Its one home; imported when it is first needed."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import ConfigError, LinkError


def check_targets(targets: Sequence[str]) -> None:
    """Raise ConfigError for an address that apprise does not know; the address itself may be a secret."""
    import apprise

    for number, target in enumerate(targets, 1):
        if apprise.Apprise().add(target) is not True:
            raise ConfigError(f"notify.targets: number {number} is no address that apprise knows")


def send(targets: Sequence[str], title: str, text: str) -> None:
    """Tell every target; raises LinkError where one could not be told. Blocks: call it in a thread."""
    import apprise

    told = apprise.Apprise()
    for target in targets:
        told.add(target)
    if not told.notify(title=title, body=text):
        raise LinkError("a target of notify.targets could not be told")
