"""What a station and the cloud hand each other: fixes in columns, records in lists.

A batch is a few bytes of frame around sections (``container``)::

    magic   kind            version   sections: 2 * length + is_zstd, then the bytes
    0xCB    F fixes,        1
            R records,
            M results

Fixes are sorted by (collar, raw time, position), so that a column is a walk of small steps. Each column is turned into
whole numbers, exactly (``columns``); the numbers lose what their neighbour already says, and are packed as bits
(``integers``). Text and numbers are two sections, because each alone compresses better than both mixed. The id of a
collar's fix is not sent: it follows from collar, raw time and position (``shared.ids.fix_id``).

One set of rows makes one batch, in whatever order the rows come, with one version of zstandard; another version of
that library may write other bytes that read the same.

What a station's models said travels the same way (``results``): steps in columns, the rest in lists.

Whatever is wrong with a batch raises ``Invalid``, before memory is spent on what it claims to hold. Batches of this
version and the two before are read (``schema``), and written for who asks for an older one; a version of a later
program raises ``BatchTooNew``: it is no fault, it has to wait.
"""

from shared.wire.batch.container import MAX_BATCH_BYTES, MAX_PLAIN_BYTES, MAX_ROWS
from shared.wire.batch.fixes import FIX_COLUMNS, FixColumns, decode_fixes, encode_fixes
from shared.wire.batch.records import decode_records, encode_records
from shared.wire.batch.results import decode_results, encode_results

__all__ = [
    "FIX_COLUMNS",
    "MAX_BATCH_BYTES",
    "MAX_PLAIN_BYTES",
    "MAX_ROWS",
    "FixColumns",
    "decode_fixes",
    "decode_records",
    "decode_results",
    "encode_fixes",
    "encode_records",
    "encode_results",
]
