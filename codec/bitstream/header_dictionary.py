"""Header fields in few bytes: deflated (RFC 1951) after a dictionary of what headers usually hold, as zlib's preset dictionaries.

A clip of two seconds at 3 kbit/s is 750 bytes long; fields of 40 bytes, nearly the same in every file, take 11.
"""

from __future__ import annotations

import zlib

_TAGS = b'"date":""album":""artist":""comment":""language":"{"title":"'
_FIRST_TICKS = ("011901", "01e80719", "01e8071e", "01e807b0ea01e907")
"""Of a still, and of video with 25, 30 and 30000/1001 frames a second."""
_ENDS = ("6c0c20000000", "02180c01010000", "026c0c01010000", "1803fa010100", "1803fa010000")
"""Of video, stills and sound: stages and what follows."""
_RATES = ("c0bb0102", "c4d80202", "80f70202", "80f70201", "c4d80201", "a2ac0101", "807d01", "c0bb0101")
"""Of the original, with its channels."""
_MODELS = (
    "0106" + b"visual".hex() + "b145e80089e6aa71" + "31f60648",
    "000a" + b"speech-24k".hex() + "4c16363080577757" + "ca0a2c82" + "e003c0bb01",
)
"""Those shipped, from their kind to the hash of the prior; of sound, frame and rate as well."""
_USUAL = _TAGS + bytes.fromhex("".join((*_FIRST_TICKS, *_ENDS, *_RATES, *_MODELS)))
"""It may grow in front, by models to come: whoever lacks the entry lacks the model. What is there stays where it is, since files
count from its end."""


def deflate(fields: bytes) -> bytes:
    """The fields in fewer bytes."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS, zdict=_USUAL)
    return deflater.compress(fields) + deflater.flush()


def inflate(data: bytes, limit: int) -> bytes:
    """Inverse of `deflate`.

    Raises:
        ValueError: they are damaged, or more than `limit` bytes.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, _USUAL)
    try:
        fields = inflater.decompress(data, limit)
    except zlib.error:
        raise ValueError("fields that this program cannot inflate") from None
    if not inflater.eof or inflater.unused_data:
        raise ValueError(f"its fields do not end with it, or take more than {limit} bytes")
    return fields
