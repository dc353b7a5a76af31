"""How a code reaches a person: by mail where that is set up, else by SMS; under development into a file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cloud.notify.mail import Mailer
from cloud.notify.sms import Texter
from shared.accounts.service import Channel
from shared.errors import LinkError
from shared.sayings import Language, Words, said, words_of


def sentence(words: Words, code: str, minutes: int) -> str:
    """Return what the person reads. It names no animal, no place and no post."""
    return said("message.code", code=code, minutes=minutes).within(words)


class CodeSender:
    """Implements ``shared.accounts.service.Messenger``. ``outbox`` takes every code as a line, in place of sending."""

    def __init__(
        self, *, mailer: Mailer | None = None, texter: Texter | None = None, outbox: Path | None = None,
        language: Language = "en",
    ) -> None:  # fmt: skip
        self._words = words_of(language)
        self._mailer = mailer
        self._texter = texter
        self._outbox = outbox

    def channel(self, phone: str | None) -> Channel | None:
        """Return how a code would travel."""
        if self._outbox is not None or self._mailer is not None:
            return "mail"
        return "sms" if self._texter is not None and phone else None

    async def send_code(self, channel: Channel, to: str, code: str, minutes: int) -> None:
        """Send ``code``; raises LinkError where it cannot be sent."""
        if self._outbox is not None:
            await asyncio.to_thread(_append, self._outbox, {"channel": channel, "to": to, "code": code})
        elif channel == "mail" and self._mailer is not None:
            subject = said("message.code_subject").within(self._words)
            await self._mailer.send(to, subject, sentence(self._words, code, minutes))
        elif channel == "sms" and self._texter is not None:
            await self._texter.send(to, sentence(self._words, code, minutes))
        else:
            raise LinkError("neither mail nor SMS is set up: see [notify] in the configuration")


def _append(path: Path, line: dict[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
        with path.open("a", encoding="utf-8") as outbox:
            outbox.write(json.dumps(line) + "\n")
    except OSError as error:
        raise LinkError(f"notify.outbox_file: {path}: {error.strerror}") from error
