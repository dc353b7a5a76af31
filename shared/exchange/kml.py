"""KML 2.2, outwards only: for each animal its way as a ``gx:Track`` with times, and where it was seen last.

For maps and the tools that rangers have: only fixes that models may use. A way ends at the antimeridian and the next
begins behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TextIO

from shared.exchange.rows import TrackFix, by_animal, degrees, ways, xml_text
from shared.exchange.times import iso_text

_HEAD: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"'
    ' xmlns:gx="http://www.google.com/kml/ext/2.2">\n<Document><name>Outpost</name>\n'
)


def write(fixes: Iterable[TrackFix], file: TextIO) -> int:
    """Write the usable fixes of each animal, which come animal after animal and by time; return how many there were."""
    file.write(_HEAD)
    n = 0
    for whose, track in by_animal(fixes):
        name = xml_text(whose.individual)
        file.write(f"<Folder><name>{name}</name><description>{xml_text(whose.species)}</description>\n")
        last: tuple[int, int, int] | None = None
        for lons, lats, times_ms in ways(track):
            span = f"<begin>{iso_text(times_ms[0])}</begin><end>{iso_text(times_ms[-1])}</end>"
            file.write(f"<Placemark><name>{name}</name><TimeSpan>{span}</TimeSpan><gx:Track>\n")
            file.writelines(f"<when>{iso_text(ms)}</when>\n" for ms in times_ms)
            file.writelines(
                f"<gx:coord>{degrees(lon)} {degrees(lat)} 0</gx:coord>\n" for lon, lat in zip(lons, lats, strict=True)
            )
            file.write("</gx:Track></Placemark>\n")
            n += len(lons)
            last = (lons[-1], lats[-1], times_ms[-1])
        if last is not None:
            lon, lat, ms = last
            file.write(
                f"<Placemark><name>{name}, last seen</name><TimeStamp><when>{iso_text(ms)}</when></TimeStamp>"
                f"<Point><coordinates>{degrees(lon)},{degrees(lat)}</coordinates></Point></Placemark>\n"
            )
        file.write("</Folder>\n")
    file.write("</Document></kml>\n")
    return n
