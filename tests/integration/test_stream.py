"""`fsqcodec stream`: a call over UDP, and a device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fsqcodec import LiveDecoder, LiveEncoder, MediaError
from fsqcodec.audio.codec import NeuralAudioCodec
from fsqcodec.cli.stream import Call
from helpers import SPEECH, call
from numpy.typing import NDArray


def test_a_call_over_udp(tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    done = call("stream", SPEECH, heard, "--loss", 10, "--fast", "--packet", 40)
    text = done.stderr.decode()
    assert "60 ms (packet 40, decoder 20)" in text
    concealed = int(text.split(" concealed")[0].split()[-1])
    assert 2 <= concealed <= 60
    assert soundfile.info(str(heard)).frames > 0.9 * 24000 * soundfile.info(str(SPEECH)).duration
    assert b"exists" in call("stream", SPEECH, heard, "--fast", code=1).stderr
    predicted = call(
        "stream", SPEECH, tmp_path / "a.wav", "--fast", "--independent-every", 250
    ).stderr.decode()
    rates = [float(found.split(" kbit/s")[0].split()[-1]) for found in (text, predicted)]
    assert rates[1] < 0.8 * rates[0]


def test_stream_reads_a_device_for_a_while(tmp_path: Path) -> None:
    done = call(
        "stream", "lavfi:sine=f=440:sample_rate=24000", tmp_path / "heard.wav", "--duration", 0.5, "--fast"
    )
    assert b"packets" in done.stderr
    heard, rate = soundfile.read(str(tmp_path / "heard.wav"))
    assert (len(heard), rate) == (12000, 24000)
    spectrum = np.abs(np.fft.rfft(heard[4000:8000]))
    assert abs(spectrum.argmax() * rate / 4000 - 440) < 20
    assert b"no-such" in call("stream", "alsa:no-such", tmp_path / "x.wav", code=1).stderr
    assert b"0 to 90" in call("stream", "in.wav", tmp_path / "x.wav", "--loss", "much", code=2).stderr


def test_an_error_of_the_sender_ends_the_call(codec: NeuralAudioCodec) -> None:
    def parts() -> Iterator[NDArray[np.float32]]:
        yield np.zeros(960, np.float32)
        raise MediaError("the file ends here")

    sender, receiver = LiveEncoder(codec, 2), LiveDecoder(codec)
    with pytest.raises(MediaError, match="ends here"):
        Call(loss=0, seed=0, wait=0).run(sender, receiver, parts(), 0)
