"""What Meshtastic's serial line and Iridium's DirectIP share: frames that say how long they are, without a checksum.

::

    start | length | length bytes | start | length | ...

Nothing vouches for such a frame but its own shape. So it is believed only when its content can be taken apart down to
the last byte; otherwise only its start is dropped and the search goes on inside the bytes that it claimed. A length
beyond the bound is a false start and claims nothing. On silence an unfinished frame is given up the same way, so a
false start cannot hold up what came after it.

Each decision depends on the stream alone, never on how it was cut into reads.
"""

from __future__ import annotations

import re

from firmware_bridge.frames import Frame
from shared.errors import FrameError


class ClaimedDecoder:
    """Find frames that begin with ``start`` and say their length; ``ignored`` counts those that are not passed on.

    Holds at most one frame between two calls.
    """

    #: Where a frame may begin; half a start counts at the very end of what was heard.
    start: re.Pattern[bytes]
    start_bytes: int
    #: How many bytes tell the length, and the longest frame there is.
    header_bytes: int
    max_frame: int

    def __init__(self) -> None:
        self.skipped = 0
        self.damaged = 0
        self.ignored = 0
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that ``data`` completes."""
        self._buffer += data
        return self._scan(is_silent=False)

    def flush(self) -> list[Frame]:
        """Return what an unfinished or false start held up."""
        return self._scan(is_silent=True)

    def _length(self, header: bytes) -> int:
        """Return the length of the whole frame that begins with ``header``."""
        raise NotImplementedError

    def _frame_of(self, whole: bytes) -> Frame | None:
        """Return the frame, None where it is not passed on; raises FrameError where it cannot be one."""
        raise NotImplementedError

    def _scan(self, *, is_silent: bool) -> list[Frame]:
        frames: list[Frame] = []
        buffer = self._buffer
        position = 0
        while start := self.start.search(buffer, position):
            self.skipped += start.start() - position
            position = start.start()
            used = self._take(position, frames, is_silent=is_silent)
            if not used:
                break
            position += used
        else:
            self.skipped += len(buffer) - position
            position = len(buffer)
        del buffer[:position]
        return frames

    def _take(self, position: int, frames: list[Frame], *, is_silent: bool) -> int:
        """Take the frame at ``position``; return how many bytes it used up, 0 to wait for more."""
        buffer = self._buffer
        available = len(buffer) - position
        false_start = min(available, self.start_bytes)
        length = self.header_bytes
        if available >= length:
            length = self._length(bytes(buffer[position : position + length]))
            if not self.header_bytes <= length <= self.max_frame:
                self.skipped += false_start
                return false_start
        if available >= length:
            try:
                frame = self._frame_of(bytes(buffer[position : position + length]))
            except FrameError:
                pass
            else:
                if frame is None:
                    self.ignored += 1
                else:
                    frames.append(frame)
                return length
        elif not is_silent:
            return 0
        # Half a start is a stray byte, not a frame.
        self.damaged += false_start == self.start_bytes
        self.skipped += false_start
        return false_start
