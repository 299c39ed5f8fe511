"""The room: people hear each other, rubbish is dropped, limits hold, and the page works in a browser."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from fsqcodec.media.audio import AudioReader
from helpers import SPEECH

pytestmark = pytest.mark.xdist_group("machine")

BLOCK = 960
"""Samples of a message, 40 ms at 24 kHz."""


@pytest.fixture(scope="module")
def room() -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "fsqcodec.cli.main",
        "serve",
        "--port",
        "0",
        "--most",
        "3",
        "--loss",
        "2",
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr
    try:
        yield re.search(r"http://\S+/", server.stderr.readline())[0]  # type: ignore[index]
    finally:
        server.terminate()
        server.wait(20)


def _blocks() -> list[bytes]:
    with AudioReader(SPEECH, 24000) as reader:
        samples = (reader.read()[0] * 32767).astype("<i2")
    return [samples[i : i + BLOCK].tobytes() for i in range(0, len(samples) - BLOCK, BLOCK)]


async def _speak(socket: aiohttp.ClientWebSocketResponse, blocks: list[bytes]) -> None:
    for block in blocks:
        await socket.send_bytes(block)
        await asyncio.sleep(0.04)


async def _hear(socket: aiohttp.ClientWebSocketResponse, count: int) -> np.ndarray:
    heard = [await socket.receive_bytes(timeout=20) for _ in range(count)]
    return np.concatenate([np.frombuffer(message[1:], "<i2") for message in heard])


def test_others_hear_what_is_said_and_nothing_of_rubbish(room: str) -> None:
    blocks = _blocks()[:50]

    async def scene() -> tuple[np.ndarray, list[int]]:
        async with (
            aiohttp.ClientSession(room) as session,
            session.ws_connect("/room") as speaker,
            session.ws_connect("/room") as listener,
        ):
            speaking = asyncio.create_task(_speak(speaker, blocks))
            codes = []
            for rubbish in (b"x", bytes(2 * BLOCK + 2), bytes(1 << 20), "text", bytes(2 * BLOCK)):
                async with session.ws_connect("/room") as other:
                    repeats = 200 if len(rubbish) == 2 * BLOCK else 1  # far faster than real time
                    for _ in range(repeats):
                        if other.closed:
                            break
                        await (
                            other.send_str(rubbish) if isinstance(rubbish, str) else other.send_bytes(rubbish)
                        )
                    while not other.closed:
                        await other.receive(timeout=10)
                    codes.append(other.close_code or 0)
            heard = await _hear(listener, len(blocks))
            await speaking
            return heard, codes

    heard, codes = asyncio.run(scene())
    assert codes == [1003, 1003, 1009, 1003, 1008]
    assert np.abs(heard).max() > 1000


def test_a_full_room_says_so(room: str) -> None:
    async def scene() -> None:
        async with aiohttp.ClientSession(room) as session:
            inside = [await session.ws_connect("/room") for _ in range(3)]
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await session.ws_connect("/room")
            for socket in inside:
                await socket.close()
            for _ in range(50):
                try:
                    async with session.ws_connect("/room"):
                        return
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.1)
            raise AssertionError("places are not given free")

    asyncio.run(scene())


def test_the_page_records_sends_receives_and_plays(room: str, chromium: Callable[..., Any]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser = chromium("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    browser.get(room + "?echo")
    browser.find_element(By.ID, "join").click()
    WebDriverWait(browser, 30).until(lambda b: b.find_element(By.ID, "state").text == "in the room")
    WebDriverWait(browser, 30).until(lambda b: int(b.find_element(By.ID, "received").text) > 40)
    loudest, until = 0.0, time.monotonic() + 20  # the fake device beeps once a second
    while loudest < 0.01 and time.monotonic() < until:
        value = browser.execute_script("return document.getElementById('theirs').value")
        loudest = max(loudest, value)
    assert loudest >= 0.01
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
