"""Laws of photographs without what their camera wrote: nothing of it stays, and nothing else is asked of bytes."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from shared.errors import Invalid
from shared.photos.plain import plain

KINDS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
SECRET = b"37.104512E 2.653472S"


def _taken(kind: str, side: int, *, is_progressive: bool) -> bytes:
    """Return a picture that tells SECRET in every place that its format has for words."""
    picture = Image.radial_gradient("L").resize((side, side)).convert("RGB")
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif[0x0112] = 3
    saved = io.BytesIO()
    if kind == "image/png":
        words = PngImagePlugin.PngInfo()
        words.add_text("place", SECRET.decode())
        words.add_itxt("XML:com.adobe.xmp", SECRET.decode())
        picture.save(saved, "PNG", exif=exif, pnginfo=words)
    elif kind == "image/webp":
        picture.save(saved, "WEBP", exif=exif, xmp=SECRET)
    else:
        picture.save(saved, "JPEG", exif=exif, comment=SECRET, xmp=SECRET, progressive=is_progressive)
    return saved.getvalue()


@given(st.sampled_from(sorted(KINDS)), st.integers(1, 40), st.booleans(), st.binary(max_size=30))
@settings(deadline=None, derandomize=True, database=None, max_examples=60)
def test_nothing_that_was_told_stays_and_the_picture_is_the_same(
    kind: str, side: int, is_progressive: bool, behind: bytes
) -> None:
    taken = _taken(kind, side, is_progressive=is_progressive)
    assert SECRET in taken
    made = plain(taken + behind + SECRET, kind)
    assert SECRET not in made
    assert plain(made, kind) == made
    with Image.open(io.BytesIO(taken)) as whole, Image.open(io.BytesIO(made)) as bare:
        assert whole.convert("RGB").tobytes() == bare.convert("RGB").tobytes()


@given(st.sampled_from(sorted(KINDS)), st.data())
@settings(deadline=None, derandomize=True, database=None, max_examples=300)
def test_damage_is_refused_or_makes_another_picture_and_nothing_else(kind: str, data: st.DataObject) -> None:
    taken = bytearray(_taken(kind, 9, is_progressive=True))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(taken) - 1), st.integers(0, 255)), max_size=4)):
        taken[at] = byte
    cut = data.draw(st.integers(0, len(taken)))
    try:
        made = plain(bytes(taken[:cut]), kind)
    except Invalid:
        return
    assert len(made) <= cut + 40  # an orientation at most is written anew


@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=200))
@settings(deadline=None, derandomize=True, database=None)
def test_bytes_that_are_no_picture_are_refused(kind: str, data: bytes) -> None:
    heads = {"image/jpeg": b"\xff\xd8", "image/png": b"\x89PNG\r\n\x1a\n", "image/webp": b"RIFF"}
    for given_bytes in (data, heads[kind] + data):
        try:
            plain(given_bytes, kind)
        except Invalid:
            continue
