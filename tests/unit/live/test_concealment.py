"""What stands in for lost frames, and the order of packets."""

from __future__ import annotations

import numpy as np
from fsqcodec.live.concealment import LONGEST, Concealment
from fsqcodec.live.jitter_buffer import JitterBuffer
from fsqcodec.live.packet import LivePacket


def test_frames_come_back_backwards_and_ever_softer() -> None:
    concealment = Concealment(stages=3)
    assert not concealment.conceal(2).stages.any()  # nothing came yet
    concealment.receive(np.arange(6).reshape(3, 2))
    concealment.receive(np.full((2, 3), 9))  # another number of stages
    first, rest = concealment.conceal(4), concealment.conceal(3)
    assert first.tokens.tolist() == [[9, 9, 9], [9, 9, 9], [4, 5, 0], [2, 3, 0]]
    assert first.stages.tolist() == [3, 3, 2, 2]
    assert first.gains.tolist() == [1, 1, 1, 0.75]
    assert rest.tokens[0].tolist() == [0, 1, 0]
    assert rest.stages.tolist() == [2, 0, 0]
    assert rest.gains.tolist() == [0.75**2, 0, 0]


def test_a_long_gap_becomes_silence() -> None:
    concealment = Concealment(stages=1)
    concealment.receive(np.arange(30)[:, None])
    concealed = concealment.conceal(LONGEST + 5)
    assert concealed.tokens[:LONGEST, 0].tolist() == list(range(29, 29 - LONGEST, -1))
    assert (concealed.stages > 0).tolist() == [True] * LONGEST + [False] * 5
    assert not concealed.gains[LONGEST:].any()


def _packet(start: int) -> LivePacket:
    return LivePacket(start, 2, 1, b"", independent=True)


def test_the_jitter_buffer_waits_and_then_tells_the_gap() -> None:
    buffer = JitterBuffer()
    assert buffer.pop(0) is None
    assert buffer.push(_packet(10))
    assert buffer.pop(1) == _packet(10)
    assert buffer.push(_packet(16))
    assert not buffer.push(_packet(16))  # twice
    assert not buffer.push(_packet(10))  # too late
    assert buffer.pop(1) is None  # one packet may wait
    assert buffer.push(_packet(14))
    assert buffer.pop(1) == 2  # latent frames 12 and 13 are lost
    assert [buffer.pop(1), buffer.pop(1), buffer.pop(1)] == [_packet(14), _packet(16), None]
