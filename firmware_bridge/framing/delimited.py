"""What COBS, SLIP and KISS share: frames that end with a byte which stands nowhere else on the wire.

::

    ... D  segment  D  segment  D  D  segment  D ...

A delimiter ends whatever stands before it, so damage inside a segment costs that segment alone. Two delimiters in a
row enclose nothing and mean nothing: senders use them to flush noise. A segment beyond the bound is given up at once
and its remaining bytes are thrown away as they come, up to the next delimiter.
"""

from __future__ import annotations

from firmware_bridge.frames import Frame


class DelimitedDecoder:
    """Split a stream at ``delimiter`` and hand each segment to ``_frame_of``.

    Holds at most ``max_frame`` bytes between two calls; ``max_frame`` bounds a segment as it stands on the wire.
    """

    delimiter: bytes

    def __init__(self, max_frame: int = 2048) -> None:
        self.skipped = 0
        self.damaged = 0
        self._max_frame = max_frame
        self._pending = bytearray()
        self._is_overlong = False

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes."""
        segments = data.split(self.delimiter)
        tail = segments.pop()
        frames: list[Frame] = []
        if segments:
            if self._pending or self._is_overlong:
                segments[0] = self._end_pending(segments[0])
            self._take(segments, frames)
        if tail:
            self._keep(tail)
        return frames

    def flush(self) -> list[Frame]:
        """Decide about an unfinished segment, so that it does not run into the frame after the silence."""
        segment = self._end_pending(b"")
        return self._frames_at_silence(segment) if segment else []

    def _take(self, segments: list[bytes], frames: list[Frame]) -> None:
        """Append the frames of complete ``segments``; an empty segment is nothing."""
        longest = self._max_frame
        for segment in segments:
            if len(segment) > longest:
                self._refuse(segment)
            elif segment and (frame := self._frame_of(segment)) is not None:
                frames.append(frame)

    def _frame_of(self, segment: bytes) -> Frame | None:
        """Return the frame in a segment of at least one byte, or refuse it."""
        raise NotImplementedError

    def _frames_at_silence(self, segment: bytes) -> list[Frame]:
        """Return what an unfinished segment is worth: nothing, unless a checksum vouches for it."""
        self._refuse(segment)
        return []

    def _refuse(self, segment: bytes) -> None:
        self.damaged += 1
        self.skipped += len(segment)

    def _keep(self, tail: bytes) -> None:
        if self._is_overlong:
            self.skipped += len(tail)
        elif len(self._pending) + len(tail) > self._max_frame:
            self.skipped += len(self._pending) + len(tail)
            self.damaged += 1
            self._pending.clear()
            self._is_overlong = True
        else:
            self._pending += tail

    def _end_pending(self, head: bytes) -> bytes:
        """Return the whole segment that ``head`` ends; empty where it had already been given up."""
        if self._is_overlong:
            self._is_overlong = False
            self.skipped += len(head)
            return b""
        segment = bytes(self._pending) + head
        self._pending.clear()
        return segment
