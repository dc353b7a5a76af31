"""The search that NMEA, UBX and the mixture of both share: what GNSS receivers put on a line.

::

    $GNRMC,...*25 CR LF      an ASCII sentence: ends at LF, at the next $ or at a UBX sync word
    B5 62 | class | id | u16 length, LE | payload | CK_A CK_B      a message: ends where its length says

Rules that keep one damaged frame from costing the next:

- a sentence holds neither ``$`` nor a sync word, so either of them ends a sentence that lost its end;
- a message is believed only with its checksum. Without it, only the sync word is dropped and the search goes on inside
  the bytes that it claimed;
- a length beyond the bound is a false sync word and claims nothing;
- on silence an unfinished message is given up the same way, so a false sync word cannot hold up what came after it.

Each decision depends on the stream alone, never on how it was cut into reads.
"""

from __future__ import annotations

import re

from firmware_bridge.frames import Frame
from firmware_bridge.framing.checksums import nmea_xor, ubx_fletcher

#: The standard says 82 characters, receivers exceed it.
MAX_SENTENCE = 256
MAX_UBX_PAYLOAD = 2048

_SYNC_BYTES = 2
_UBX_HEADER = 6
_UBX_OVERHEAD = 8
_DOLLAR = 0x24
_SENTENCE = re.compile(rb"\$([A-Za-z][\x20-\x23\x25-\x29\x2b-\x7e]*)\*([0-9A-Fa-f]{2})[\r\n ]*")
# A sync word at the very end of the buffer may still be half a one.
_STARTS = {
    (True, False): re.compile(rb"\$"),
    (False, True): re.compile(rb"\xb5(?:\x62|\Z)"),
    (True, True): re.compile(rb"\$|\xb5(?:\x62|\Z)"),
}
_ENDS = {
    False: re.compile(rb"[$\n]"),
    True: re.compile(rb"[$\n]|\xb5(?:\x62|\Z)"),
}

#: Sentences that carry both a position and a time of day.
_EPOCH_TYPES = frozenset({b"RMC", b"GGA", b"GNS"})


class Epoch:
    """Collect the sentences that share a time of day and follow each other.

    The next epoch begins with another time or a type that is already there; sentences between that are not of an epoch
    do not end it. Holds at most one sentence of each type.
    """

    def __init__(self) -> None:
        self._time = b""
        self._sentences: dict[bytes, bytes] = {}

    def add(self, content: bytes, sentence: bytes) -> tuple[bool, list[Frame]]:
        """Take a verified sentence; return whether it is of an epoch, and the epoch before, if it begins another."""
        address, _, fields = content.partition(b",")
        kind = address[-3:]
        time_of_day = fields.partition(b",")[0]
        if kind not in _EPOCH_TYPES or len(address) != 5 or not time_of_day:
            return False, []
        # 000000.00 and 000000.000 are one time: talkers of one receiver differ in their decimals.
        instant = time_of_day.rstrip(b"0").rstrip(b".") if b"." in time_of_day else time_of_day
        before = self.close() if instant != self._time or kind in self._sentences else []
        self._time = instant
        self._sentences[kind] = sentence
        return True, before

    def close(self) -> list[Frame]:
        """Return the epoch collected so far, if there is one, and begin anew."""
        if not self._sentences:
            return []
        frame = Frame("nmea", b"".join(self._sentences.values()))
        self._sentences = {}
        self._time = b""
        return [frame]


class GnssScanner:
    """Find sentences and messages in a stream; ``ignored`` counts the valid ones that are not passed on.

    ``ubx_messages`` limits UBX frames to these (class, id); None passes all. Holds at most one sentence or one message
    and one epoch between two calls.
    """

    def __init__(
        self,
        *,
        takes_nmea: bool,
        takes_ubx: bool,
        ubx_messages: frozenset[tuple[int, int]] | None = None,
    ) -> None:
        self.skipped = 0
        self.damaged = 0
        self.ignored = 0
        self._start = _STARTS[takes_nmea, takes_ubx]
        self._end = _ENDS[takes_ubx]
        self._ubx_messages = ubx_messages
        self._buffer = bytearray()
        self._epoch = Epoch()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes, in the order in which they stood on the line."""
        self._buffer += data
        return self._scan(is_silent=False)

    def flush(self) -> list[Frame]:
        """Return what the silence completes: an epoch, and what an unfinished or false start held up."""
        return self._scan(is_silent=True) + self._epoch.close()

    def _scan(self, *, is_silent: bool) -> list[Frame]:
        frames: list[Frame] = []
        buffer = self._buffer
        position = 0
        while start := self._start.search(buffer, position):
            self.skipped += start.start() - position
            position = start.start()
            if buffer[position] == _DOLLAR:
                used = self._sentence(position, frames, is_silent=is_silent)
            else:
                used = self._message(position, frames, is_silent=is_silent)
            if not used:
                break
            position += used
        else:
            self.skipped += len(buffer) - position
            position = len(buffer)
        del buffer[:position]
        return frames

    def _sentence(self, position: int, frames: list[Frame], *, is_silent: bool) -> int:
        """Take the sentence at ``position``; return how many bytes it used up, 0 to wait for more."""
        buffer = self._buffer
        end = self._end.search(buffer, position + 1)
        stop = len(buffer) if end is None else end.end() if end[0] == b"\n" else end.start()
        # Half a sync word at the end of the buffer has ended nothing yet.
        is_open = end is None or end[0] == b"\xb5"
        length = stop - position
        if is_open and length <= MAX_SENTENCE and not is_silent:
            return 0
        verified = _SENTENCE.fullmatch(buffer, position, stop) if length <= MAX_SENTENCE else None
        if verified is None or nmea_xor(verified[1]) != int(verified[2], 16):
            self.damaged += 1
            self.skipped += length
            return length
        is_epoch, before = self._epoch.add(verified[1], b"$%b*%b\r\n" % (verified[1], verified[2]))
        self.ignored += not is_epoch
        frames += before
        return length

    def _message(self, position: int, frames: list[Frame], *, is_silent: bool) -> int:
        """Take the message at ``position``; return how many bytes it used up, 0 to wait for more."""
        buffer = self._buffer
        available = len(buffer) - position
        sync = min(available, _SYNC_BYTES)
        if available >= _UBX_HEADER:
            length = int.from_bytes(buffer[position + 4 : position + 6], "little")
            if length > MAX_UBX_PAYLOAD:
                self.skipped += sync
                return sync
            whole = length + _UBX_OVERHEAD
            if available >= whole:
                message = bytes(buffer[position : position + whole])
                if ubx_fletcher(message[2:-2]) == message[-2:]:
                    self._accept(message, frames)
                    return whole
                return self._refuse(sync)
        return self._refuse(sync) if is_silent else 0

    def _accept(self, message: bytes, frames: list[Frame]) -> None:
        # A message also ends an epoch: receivers send the sentences of one epoch together.
        frames += self._epoch.close()
        if self._ubx_messages is None or (message[2], message[3]) in self._ubx_messages:
            frames.append(Frame("ubx", message))
        else:
            self.ignored += 1

    def _refuse(self, sync: int) -> int:
        # Half a sync word is a stray byte, not a message.
        self.damaged += sync == _SYNC_BYTES
        self.skipped += sync
        return sync
