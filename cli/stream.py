"""`fsqcodec stream`: a live call with oneself over UDP, to hear and to measure what a network does."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import DEFAULT_MODEL, Engine, Loss, Model, Overwrite, console, load_live, open_target

if TYPE_CHECKING:
    import numpy as np
    from fsqcodec import LiveDecoder, LiveEncoder
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

_DEVICES = frozenset({"alsa", "pulse", "oss", "sndio", "jack", "avfoundation", "dshow", "lavfi"})
"""FFmpeg's kinds of input devices that may precede a microphone's name, and its generator of test sounds."""
_LARGEST = 2048
"""Bytes of a datagram at most; packets of live sound are far smaller."""
_BREATH = 0.0005
"""Seconds between datagrams that are sent as fast as possible: the system's buffer is short."""


def stream(
    source: Annotated[
        str,
        typer.Argument(
            help="Sound to send: any file that FFmpeg reads, or a microphone such as alsa:default."
        ),
    ],
    target: Annotated[str, typer.Argument(help="Where to write what was heard (.wav …).")],
    packet: Annotated[
        int, typer.Option(min=20, max=200, help="Milliseconds in a packet, in steps of 20.")
    ] = 40,
    kbps: Annotated[
        float | None,
        typer.Option(min=0.5, help="Bitrate on average, headers included; all stages when left out."),
    ] = None,
    loss: Loss = 0.0,
    independent_every: Annotated[
        int,
        typer.Option(
            "--independent-every",
            "--key-every",
            min=1,
            help="Packets from one that decodes by itself to the next; the receiver asks for one if it must.",
        ),
    ] = 1,
    jitter_buffer: Annotated[
        int,
        typer.Option(
            "--jitter-buffer", "--patience", min=0, max=20, help="Packets that the receiver waits for."
        ),
    ] = 0,
    duration: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds to send; to the end, or Ctrl-C, when left out.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Send as fast as possible, not in real time.")] = False,
    seed: Annotated[int, typer.Option(help="Of the losses.")] = 0,
    engine: Engine = "torch",
    model: Model = DEFAULT_MODEL,
    overwrite: Overwrite = False,
) -> None:
    """Send a file over UDP to this machine, lose some of it, write what arrives, and tell the delays.

    [bold]Example[/bold]

    fsqcodec stream talk.wav heard.wav --loss 5 --packet 20

    fsqcodec stream talk.wav heard.wav --independent-every 250

    fsqcodec stream alsa:default heard.wav --duration 10 --engine onnx
    """
    from fsqcodec import LiveDecoder, LiveEncoder
    from fsqcodec.media.audio import AudioFacts, AudioReader, AudioWriter

    codec = load_live(model, engine)
    networks, rate = codec.networks, codec.sample_rate
    frames = max(1, round(packet * codec.frame_rate / 1000))
    sender = LiveEncoder(codec, frames, independent_every=independent_every, kbps=kbps)
    receiver = LiveDecoder(codec, jitter_buffer)
    kind, _, device = source.partition(":")
    live = kind in _DEVICES and not Path(source).exists()
    most = None if duration is None else round(duration * rate)
    step, call = frames * networks.frame, _Call(loss=loss, seed=seed, wait=0.0 if fast or live else 1 / rate)
    with AudioReader(device if live else source, rate, source, kind if live else None) as reader:
        parts = _parts(reader, step, most, call.stopped)
        heard = call.run(sender, receiver, parts, _BREATH if fast else 0.0)
    with open_target(target, overwrite) as file:
        writer = AudioWriter(file, Path(target).suffix.lower() or ".wav", AudioFacts(rate, 1))
        writer.write(heard[None, : call.samples])
        writer.close()
    seconds, count = max(1, call.samples) / rate, receiver.received
    lines = {
        "packets": f"{call.packets} of {frames * 1000 / codec.frame_rate:.0f} ms, "
        f"{call.bytes * 8 / 1000 / seconds:.2f} kbit/s with headers",
        "latent frames": f"{count.decoded} decoded, {count.concealed} concealed; "
        f"{count.dropped} packets dropped",
        "algorithmic delay": f"{sender.delay * 1000:.0f} ms (packet {1000 * step / rate:.0f}, "
        f"decoder {1000 * networks.lag / rate:.0f}), and {jitter_buffer} packets in the jitter buffer",
        "encoder": _percentiles(call.encoding),
        "decoder": _percentiles(call.decoding),
    }
    for name, text in lines.items():
        console.print(f"{name}: {text}", markup=False)


@dataclass
class _Call:
    """A call of one end with the other, and what was counted in it."""

    loss: float
    """Per cent of the packets."""
    seed: int
    wait: float
    """Seconds that a sample lasts where the sender keeps to real time, or 0."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set to end the call early."""
    packets: int = 0
    bytes: int = 0
    samples: int = 0
    encoding: list[float] = field(default_factory=list)
    """Seconds of compute of every push."""
    decoding: list[float] = field(default_factory=list)

    def run(
        self, sender: LiveEncoder, receiver: LiveDecoder, parts: Iterable[Samples], breath: float
    ) -> Samples:
        """Send parts of sound in a thread of its own, and return what is heard of them."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inbox:
            inbox.bind(("127.0.0.1", 0))
            address = inbox.getsockname()
            with ThreadPoolExecutor(1) as pool:
                sending = pool.submit(self._send, sender, parts, address, breath)
                try:
                    heard = self._receive(sender, receiver, inbox, sending)
                finally:
                    self.stopped.set()
            sending.result()  # raises what went wrong there
        return heard

    def _send(
        self, sender: LiveEncoder, parts: Iterable[Samples], address: tuple[str, int], breath: float
    ) -> None:
        chance, begin = random.Random(self.seed), time.perf_counter()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outbox:
            for part in itertools.chain(parts, [None]):
                self.samples += 0 if part is None else len(part)
                time.sleep(max(0.0, begin + self.samples * self.wait - time.perf_counter()))
                now = time.perf_counter()
                packets = sender.flush() if part is None else sender.push(part)
                self.encoding.append(time.perf_counter() - now)
                for data in packets:
                    self.packets, self.bytes = self.packets + 1, self.bytes + len(data)
                    if chance.random() * 100 >= self.loss or self.packets == 1:
                        outbox.sendto(data, address)
                        time.sleep(breath)

    def _receive(
        self, sender: LiveEncoder, receiver: LiveDecoder, inbox: socket.socket, sending: Future[None]
    ) -> Samples:
        import numpy as np

        heard = [np.zeros(0, np.float32)]
        while True:
            inbox.settimeout(0.2 if sending.done() else 2.0)
            try:
                data = inbox.recv(_LARGEST)
            except TimeoutError:
                if sending.done():
                    break
                continue
            except KeyboardInterrupt:
                self.stopped.set()
                continue
            now = time.perf_counter()
            heard.append(receiver.push(data))
            if receiver.needs_independent:
                sender.request_independent()
            self.decoding.append(time.perf_counter() - now)
        return np.concatenate([*heard, receiver.flush()])


def _parts(
    reader: Iterable[Samples], step: int, most: int | None, stopped: threading.Event
) -> Iterator[Samples]:
    """Mono pieces of `step` samples as they come, and a shorter last one."""
    import numpy as np

    waiting, given = np.zeros(0, np.float32), 0
    for block in reader:
        waiting = np.concatenate([waiting, block.mean(axis=0)])
        while len(waiting) >= step:
            piece, waiting = waiting[:step], waiting[step:]
            if most is not None:
                piece = piece[: most - given]
            given += len(piece)
            if len(piece):
                yield piece
            if stopped.is_set() or (most is not None and given >= most):
                return
    rest = waiting if most is None else waiting[: max(0, most - given)]
    if len(rest):
        yield rest


def _percentiles(seconds: list[float]) -> str:
    import numpy as np

    if not seconds:
        return "nothing to do"
    middle, tail = np.percentile(seconds, [50, 99]) * 1000
    return f"{middle:.1f} ms a packet at the 50th percentile, {tail:.1f} ms at the 99th"
