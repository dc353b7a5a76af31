"""Small copies of photographs, made by a process of its own that may use little memory, little time and no file.

Who sends a picture may mean harm: a file of a few bytes can ask for gigabytes. So what decodes it is ended by the
kernel where it asks for more than it may have, and nothing that it does reaches the home. One picture at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import resource
import sys
import warnings
from typing import Final

from shared.errors import Invalid

#: The longer side of a small copy, in pixels, and what it is saved as.
SIDE: Final = 480
MEDIA_TYPE: Final = "image/jpeg"
#: What can be decoded; a JPEG is decoded at the size that is needed, others whole.
FORMATS: Final = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
MAX_PIXELS: Final = {"JPEG": 64_000_000, "PNG": 24_000_000, "WEBP": 24_000_000}
MEMORY_BYTES: Final = 640 << 20
CPU_S: Final = 15
_WAIT_S: Final = 60.0
_QUALITY: Final = 78
_UNREADABLE: Final = 3


class Smaller:
    """Makes small copies, one after the other."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def of(self, data: bytes, media_type: str) -> bytes:
        """Return a small JPEG of a picture and nothing beside it; raises Invalid for what is none."""
        kind = FORMATS.get(media_type)
        if kind is None:
            raise Invalid(f"a {media_type} has no small copy")
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "shared.photos.small", kind, stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                async with asyncio.timeout(_WAIT_S):
                    made, said = await process.communicate(data)
            except TimeoutError as error:
                raise Invalid("the picture takes too long to read") from error
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        if process.returncode == _UNREADABLE:
            raise Invalid(said.decode("utf-8", "replace").strip() or "the picture cannot be read")
        if process.returncode:
            raise Invalid("the picture asks for more memory or time than a small copy may take")
        return made


def smaller(data: bytes, kind: str) -> bytes:
    """Return a small JPEG of ``data``; raises Invalid for what is no picture of ``kind`` or too large a one."""
    from PIL import Image, ImageOps, UnidentifiedImageError  # on first use: only this process decodes pictures

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the decoder thinks of odd Exif is nobody's concern
            with Image.open(io.BytesIO(data), formats=(kind,)) as found:
                width, height = found.size
                if width * height > MAX_PIXELS[kind]:
                    raise Invalid(f"the picture has {width} x {height} points; at most {MAX_PIXELS[kind]:,} are read")
                found.draft("RGB", (SIDE, SIDE))
                upright = ImageOps.exif_transpose(found)
                upright.thumbnail((SIDE, SIDE))
                flat = Image.new("RGB", upright.size, "white")
                with_alpha = upright.convert("RGBA")
                flat.paste(with_alpha, mask=with_alpha.getchannel("A"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Invalid("the picture cannot be read") from error
    saved = io.BytesIO()
    flat.save(saved, "JPEG", quality=_QUALITY, optimize=True)
    return saved.getvalue()


def main() -> int:
    """Read a picture from standard input and write a small one; what it may use is limited first."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        made = smaller(sys.stdin.buffer.read(), sys.argv[1])
    except Invalid as error:
        sys.stderr.write(error.detail)
        return _UNREADABLE
    sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
