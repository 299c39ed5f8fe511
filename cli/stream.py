"""`fsqcodec stream`: a live call with oneself over UDP, to hear and to measure what a network does."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import DEFAULT_MODEL, Engine, Loss, Model, Overwrite, console, load_live, open_target

_DEVICES = frozenset({"alsa", "pulse", "oss", "sndio", "jack", "avfoundation", "dshow", "lavfi"})
"""FFmpeg's kinds of input devices that may precede a microphone's name, and its generator of test sounds."""
_LARGEST = 2048
"""Bytes of a datagram at most; packets of live sound are far smaller."""


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
        typer.Option(min=0.5, help="Bitrate on average, heads included; all stages when left out."),
    ] = None,
    loss: Loss = 0.0,
    key_every: Annotated[
        int,
        typer.Option(
            min=1,
            help="Packets from one that decodes by itself to the next; the receiver asks for one if it must.",
        ),
    ] = 1,
    patience: Annotated[int, typer.Option(min=0, max=20, help="Packets that the receiver waits for.")] = 0,
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

    fsqcodec stream talk.wav heard.wav --key-every 250

    fsqcodec stream alsa:default heard.wav --duration 10 --engine onnx
    """
    import numpy as np
    from fsqcodec import Decoder, Encoder
    from fsqcodec.media.audio import AudioFacts, AudioReader, AudioWriter

    codec = load_live(model, engine)
    frames = max(1, round(packet * codec.frame_rate / 1000))
    sender, receiver = Encoder(codec, frames, key_every=key_every, kbps=kbps), Decoder(codec, patience)
    kind, _, device = source.partition(":")
    live = kind in _DEVICES and not Path(source).exists()
    reader = AudioReader(device if live else source, codec.sample_rate, source, kind if live else None)
    most = None if duration is None else round(duration * codec.sample_rate)
    inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inbox.bind(("127.0.0.1", 0))
    inbox.settimeout(2.0)
    done, stopped, compute, sent, spoken = threading.Event(), threading.Event(), [], [0, 0], [0]

    def send() -> None:
        outbox, chance = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), random.Random(seed)
        step, begin = frames * codec.model.config.frame, time.perf_counter()
        for number, part in enumerate(itertools.chain(_parts(reader, step, most, stopped), [None])):
            if not (fast or live):
                time.sleep(max(0.0, begin + (number + 1) * step / codec.sample_rate - time.perf_counter()))
            now = time.perf_counter()
            packets = sender.flush() if part is None else sender.push(part)
            compute.append(time.perf_counter() - now)
            spoken[0] += 0 if part is None else len(part)
            for data in packets:
                sent[0], sent[1] = sent[0] + 1, sent[1] + len(data)
                if chance.random() * 100 >= loss or sent[0] == 1:
                    outbox.sendto(data, inbox.getsockname())
                    if fast:
                        time.sleep(0.0005)  # the system's buffer is short
        outbox.close()
        reader.close()
        done.set()

    thread = threading.Thread(target=send, daemon=True)
    heard: list[Any] = [np.zeros(0, np.float32)]
    decoding = []
    thread.start()
    while True:
        if done.is_set():
            inbox.settimeout(0.2)
        try:
            data = inbox.recv(_LARGEST)
        except TimeoutError:
            if done.is_set():
                break
            continue
        except KeyboardInterrupt:
            stopped.set()
            continue
        now = time.perf_counter()
        heard.append(receiver.push(data))
        if receiver.needs_key:
            sender.request_key()
        decoding.append(time.perf_counter() - now)
    inbox.close()
    heard.append(receiver.flush())
    with open_target(target, overwrite) as file:
        writer = AudioWriter(file, Path(target).suffix.lower() or ".wav", AudioFacts(codec.sample_rate, 1))
        writer.write(np.concatenate(heard)[None, : spoken[0]])
        writer.close()
    seconds = max(1, spoken[0]) / codec.sample_rate
    config, count = codec.model.config, receiver.received
    lines = {
        "packets": f"{sent[0]} of {frames * 1000 / codec.frame_rate:.0f} ms, {sent[1] * 8 / 1000 / seconds:.2f} kbit/s with heads",
        "latent frames": f"{count.decoded} decoded, {count.concealed} made up; {count.dropped} packets dropped",
        "algorithmic delay": f"{sender.delay * 1000:.0f} ms (packet {1000 * frames * config.frame / config.sample_rate:.0f}, "
        f"decoder {1000 * config.lag / config.sample_rate:.0f}), and {patience} packets of patience",
        "encoder": _percentiles(compute), "decoder": _percentiles(decoding),
    }  # fmt: skip
    for name, text in lines.items():
        console.print(f"{name}: {text}", markup=False)


def _parts(reader: Any, step: int, most: int | None, stopped: threading.Event) -> Iterator[Any]:
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
