"""`fsqcodec serve`: a talking room in the browser, over WebSockets, with the codec in the middle.

A page sends 16-bit samples, mono, at the model's rate, 40 ms a message. The server encodes them to packets,
loses some if asked to, decodes what is left and sends it to everybody else: one byte, the sender's number,
and the samples. Browsers have no codec of ours, so both of its ends are here; what would cross a network is
counted, and told when somebody leaves.
"""

from __future__ import annotations

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import DEFAULT_MODEL, Engine, Loss, Model, console, load_live

if TYPE_CHECKING:
    from aiohttp import web
    from fsqcodec import AudioCodec, LiveDecoder, LiveEncoder

_FRAMES = 2
"""Latent frames in a packet: 40 ms."""
_AHEAD = 1.0
"""Seconds of sound that a client may send beyond real time before it is dropped."""
_QUEUE = 50
"""Messages that wait for the codec or for a slow listener, two seconds; then the oldest are left out."""
_NOT_SOUND, _TOO_FAST = 1003, 1008
"""Close codes of RFC 6455: data that cannot be accepted, and policy."""


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    loss: Loss = 0.0,
    most: Annotated[int, typer.Option(min=1, max=200, help="People in the room at most.")] = 8,
    engine: Engine = "torch",
    model: Model = DEFAULT_MODEL,
) -> None:
    """Open a room for talking: a page that records, sends, receives and plays in the browser.

    Browsers give the microphone to pages of this machine, or over https behind a proxy. `/?echo` lets you
    hear yourself.

    [bold]Example[/bold]

    fsqcodec serve --loss 5
    """
    from aiohttp import web

    async def run() -> None:
        runner = web.AppRunner(application(load_live(model, engine), loss, most))
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        console.print(f"listening on http://{bound[0]}:{bound[1]}/", markup=False)
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        console.print("closed")


@dataclass
class _Guest:
    """Somebody in the room."""

    number: int
    sender: LiveEncoder
    receiver: LiveDecoder
    echo: bool
    began: float = field(default_factory=time.monotonic)
    arrived: float = 0.0
    """Seconds of sound that came from here."""
    sent: int = 0
    """Bytes of packets that it took."""
    said: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(_QUEUE))
    """What came from here and waits for the codec."""
    heard: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(_QUEUE))
    """What the others said and waits to be sent here."""


def _offer(queue: asyncio.Queue[bytes], message: bytes) -> None:
    """Queue a message; the oldest goes when whoever reads the queue is too slow."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(message)


def application(codec: AudioCodec, loss: float = 0.0, most: int = 8) -> web.Application:
    """The web application of a room, for `aiohttp.web`.

    Args:
        codec: a model for sound.
        loss: per cent of the packets that are lost.
        most: guests at most; others get status 503.
    """
    import numpy as np
    from aiohttp import WSMsgType, web
    from fsqcodec import LiveDecoder, LiveEncoder

    block = _FRAMES * codec.networks.frame
    guests: dict[int, _Guest] = {}
    worker, chance = ThreadPoolExecutor(1), random.Random(0)
    # The loops are compiled before anybody comes.
    for packet in LiveEncoder(codec, _FRAMES).push(np.zeros(block, np.float32)):
        LiveDecoder(codec).push(packet)
    page = (Path(__file__).parent / "room.html").read_text(encoding="utf-8")

    def through(guest: _Guest, data: bytes) -> bytes:
        """Samples as the others hear them."""
        samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
        out = [np.zeros(0, np.float32)]
        for packet in guest.sender.push(samples):
            guest.sent += len(packet)
            lost = chance.random() * 100 < loss
            out.append(guest.receiver.conceal(_FRAMES) if lost else guest.receiver.push(packet))
        heard = np.clip(np.rint(np.concatenate(out) * 32768), -32768, 32767)
        return bytes([guest.number]) + heard.astype("<i2").tobytes()

    async def listen(guest: _Guest, socket: web.WebSocketResponse) -> None:
        while True:
            await socket.send_bytes(await guest.heard.get())

    async def spread(guest: _Guest) -> None:
        """Code what a guest says; apart from the reading, which must count what comes however slow this
        is."""
        while True:
            data = await guest.said.get()
            heard = await asyncio.get_running_loop().run_in_executor(worker, through, guest, data)
            for other in guests.values():
                if other is not guest or guest.echo:
                    _offer(other.heard, heard)

    async def talk(request: web.Request) -> web.WebSocketResponse:
        free = set(range(most)) - set(guests)
        if not free:
            raise web.HTTPServiceUnavailable(text="the room is full")
        number = min(free)
        sender, receiver = LiveEncoder(codec, _FRAMES), LiveDecoder(codec)
        guests[number] = guest = _Guest(number, sender, receiver, "echo" in request.query)
        socket = web.WebSocketResponse(max_msg_size=4 * block, heartbeat=20)
        try:
            await socket.prepare(request)
            tasks = [asyncio.create_task(listen(guest, socket)), asyncio.create_task(spread(guest))]
            try:
                async for message in socket:
                    if message.type != WSMsgType.BINARY or len(message.data) != 2 * block:
                        await socket.close(
                            code=_NOT_SOUND, message=f"{2 * block} bytes of samples, please".encode()
                        )
                        break
                    guest.arrived += block / codec.sample_rate
                    if guest.arrived > time.monotonic() - guest.began + _AHEAD:
                        await socket.close(code=_TOO_FAST, message=b"faster than real time")
                        break
                    _offer(guest.said, message.data)
            finally:
                for task in tasks:
                    task.cancel()
        finally:
            del guests[number]
            if guest.arrived:
                kbps = guest.sent * 8 / 1000 / guest.arrived
                console.print(f"guest {number}: {guest.arrived:.1f} s, {kbps:.2f} kbit/s with headers")
        return socket

    async def show(_: web.Request) -> web.Response:
        facts = {"{{rate}}": codec.sample_rate, "{{block}}": block, "{{model}}": codec.name}
        text = page
        for name, value in facts.items():
            text = text.replace(name, str(value))
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", show)
    app.router.add_get("/room", talk)
    return app
