"""`fsqcodec stream`: a live call with oneself over UDP, to hear and to measure what a network does."""

from __future__ import annotations

import random
import socket
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import DEFAULT_MODEL, Engine, Model, Overwrite, console, load_live, open_target

_LARGEST = 2048
"""Bytes of a datagram at most; packets of live sound are far smaller."""


def stream(
    source: Annotated[str, typer.Argument(help="Sound to send: any file that FFmpeg reads.")],
    target: Annotated[str, typer.Argument(help="Where to write what was heard (.wav …).")],
    packet: Annotated[
        int, typer.Option(min=20, max=200, help="Milliseconds in a packet, in steps of 20.")
    ] = 40,
    kbps: Annotated[
        float | None, typer.Option(min=0.5, help="Bitrate of the tokens, about; all stages when left out.")
    ] = None,
    loss: Annotated[float, typer.Option(min=0, max=90, help="Per cent of the packets that are lost.")] = 0.0,
    patience: Annotated[int, typer.Option(min=0, max=20, help="Packets that the receiver waits for.")] = 0,
    fast: Annotated[bool, typer.Option("--fast", help="Send as fast as possible, not in real time.")] = False,
    seed: Annotated[int, typer.Option(help="Of the losses.")] = 0,
    engine: Engine = "torch",
    model: Model = DEFAULT_MODEL,
    overwrite: Overwrite = False,
) -> None:
    """Send a file over UDP to this machine, lose some of it, write what arrives, and tell the delays.

    [bold]Example[/bold]

    fsqcodec stream talk.wav heard.wav --loss 5 --packet 20
    """
    import numpy as np
    from fsqcodec import Decoder, Encoder
    from fsqcodec.media import AudioFacts, AudioReader, AudioWriter

    codec = load_live(model, engine)
    frames = max(1, round(packet * codec.frame_rate / 1000))
    stages = None
    if kbps is not None:
        stages = max(1, min(codec.stages, round(kbps * 1000 / codec.frame_rate / codec.model.quantizer.bits)))
    sender, receiver = Encoder(codec, frames, stages), Decoder(codec, patience)
    with AudioReader(source, codec.sample_rate) as reader:
        samples = reader.read().mean(axis=0)
    inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    inbox.bind(("127.0.0.1", 0))
    inbox.settimeout(2.0)
    done, compute, sent = threading.Event(), [], [0, 0]

    def send() -> None:
        outbox, chance = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), random.Random(seed)
        step, begin = frames * codec.model.config.frame, time.perf_counter()
        parts = [samples[i : i + step] for i in range(0, len(samples), step)]
        for number, part in enumerate([*parts, None]):
            if not fast:
                time.sleep(max(0.0, begin + (number + 1) * step / codec.sample_rate - time.perf_counter()))
            now = time.perf_counter()
            packets = sender.flush() if part is None else sender.push(part)
            compute.append(time.perf_counter() - now)
            for data in packets:
                sent[0], sent[1] = sent[0] + 1, sent[1] + len(data)
                if chance.random() * 100 >= loss or sent[0] == 1:
                    outbox.sendto(data, inbox.getsockname())
                    if fast:
                        time.sleep(0.0005)  # the system's buffer is short
        outbox.close()
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
        now = time.perf_counter()
        heard.append(receiver.push(data))
        decoding.append(time.perf_counter() - now)
    inbox.close()
    heard.append(receiver.flush())
    with open_target(target, overwrite) as file:
        writer = AudioWriter(file, Path(target).suffix.lower() or ".wav", AudioFacts(codec.sample_rate, 1))
        writer.write(np.concatenate(heard)[None, : len(samples)])
        writer.close()
    seconds = len(samples) / codec.sample_rate
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


def _percentiles(seconds: list[float]) -> str:
    import numpy as np

    if not seconds:
        return "nothing to do"
    middle, tail = np.percentile(seconds, [50, 99]) * 1000
    return f"{middle:.1f} ms a packet at the 50th percentile, {tail:.1f} ms at the 99th"
