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


_CLOCKS = (
    "23040190bf0524021901" + "2b35",
    "230301e80724021901" + "2b35",
    "23040190bf0524021e01" + "79030c206c7a",
    "230301807824021e01" + "79030c206c7a",
    "2305e907b0ea012405b0ea01e907" + "79030c206c7a",
    "230301806424021901" + "79030c206c7a",
    "2302011e24021e01" + "79030c206c7a",
    "2302011924021901" + "27010179030c016c7a0101",
)
"""Of video, and last of a still: seconds of a tick, frames a second, and what follows."""
_HERTZ = ("c03e", "a2ac01", "807d", "c0bb01", "c4d802", "80f702")
_LAYERS = "790403fa01"


def _original(hertz: str, channels: int) -> str:
    """Rate and channels of sound, and how its packets are layered."""
    return f"23{len(hertz) // 2 + 1:02x}{hertz}{channels:02x}{'250101' if channels == 2 else ''}{_LAYERS}"


_TYPED = _TAGS + bytes.fromhex(
    "".join(_CLOCKS)
    + "030101"
    + "0506"
    + b"visual".hex()
    + "070cb145e80089e6aa7131f60648"
    + "2104"
    + "".join(_original(hertz, 2) for hertz in _HERTZ)
    + "".join(_original(hertz, 1) for hertz in _HERTZ[:-1])
    + "030100"
    + "050a"
    + b"speech-24k".hex()
    + "070c4c16363080577757ca0a2c82"
    + "2105e003c0bb01"
    + _original(_HERTZ[-1], 1)
    + "18"
    + "7a03"
)
"""Of version 4, whose fields are typed. It too may grow in front only."""


def _usual(version: int) -> bytes:
    return _USUAL if version < 4 else _TYPED


def deflate(fields: bytes, version: int) -> bytes:
    """The fields of a file of a version in fewer bytes."""
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS, zdict=_usual(version))
    return deflater.compress(fields) + deflater.flush()


def inflate(data: bytes, limit: int, version: int) -> bytes:
    """Inverse of `deflate`.

    Raises:
        ValueError: they are damaged, or more than `limit` bytes.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, _usual(version))
    try:
        fields = inflater.decompress(data, limit)
    except zlib.error:
        raise ValueError("fields that this program cannot inflate") from None
    if not inflater.eof or inflater.unused_data:
        raise ValueError(f"its fields do not end with it, or take more than {limit} bytes")
    return fields
