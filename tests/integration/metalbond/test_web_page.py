"""The page in a real browser: what an operator sees, and what hostile peers cannot do to it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from metalbond import codec
from metalbond.client import MetalbondClient
from metalbond.types import Destination, HopType, NextHop, Route
from tests.integration.metalbond.test_web import site
from tests.support.browser import page
from tests.support.metalbond import RawPeer, eventually, running_client, running_server

HOSTILE = "<img src=x onerror=document.title='owned'>"
ROUTES = [
    Route(100, Destination.parse("0.0.0.0/0"), NextHop.to("fd00:1::1")),
    Route(100, Destination.parse("10.0.0.0/24"), NextHop.to("fd00:7::5")),
    Route(100, Destination.parse("10.0.1.7/32"), NextHop.to("fd00:7::5", vni=12)),
    Route(200, Destination.parse("20.0.0.1/32"), NextHop.to("fd00:7::9", HopType.NAT, nat_from=1024, nat_to=2048)),
    Route(300, Destination.parse("203.0.113.10/32"), NextHop.to("fd00:7::4", HopType.LOADBALANCER_TARGET)),
]
ROWS = "document.querySelectorAll('#routes tbody td.code').length / 2"
TEXT = "document.body.innerText"
# Size of a picture, whether its typical pixel is dark or light, and whether black and white differ enough to be read.
MEASURE = """async (data) => {
  const image = await createImageBitmap(await (await fetch("data:image/png;base64," + data)).blob());
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const bytes = canvas.getImageData(0, 0, image.width, image.height).data;
  const levels = [];
  for (let i = 0; i < bytes.length; i += 4) levels.push((bytes[i] + bytes[i + 1] + bytes[i + 2]) / 3);
  levels.sort((a, b) => a - b);
  const typical = levels[levels.length >> 1];
  const contrast = levels.at(-1) - levels[0] > 180;
  return { width: image.width, height: image.height, dark: typical < 60, light: typical > 200, contrast };
}"""


def announce(client: MetalbondClient) -> None:
    for route in ROUTES:
        client.announce(*route)
    client.subscribe(100)


async def test_the_page_shows_the_table_live_and_keeps_hostile_names_as_text(tmp_path: Path) -> None:
    async with (
        running_server() as server,
        running_client(server.addresses, identity=HOSTILE) as (client, _),
        site(server) as web,
        page(tmp_path) as tab,
    ):
        announce(client)
        await tab.open(f"{web.base}/")
        await tab.until(f"{ROWS} == 5")
        text = await tab.evaluate(TEXT)
        for shown in (HOSTILE, "10.0.0.0/24", "fd00:7::5 (VNI: 12)", "1024 to 2048", "1 of 1", "established", "live"):
            assert shown in text
        assert await tab.evaluate("document.querySelectorAll('#peers img, #routes img').length") == 0
        assert await tab.evaluate("document.title") == "MetalBond - Route Tables"
        client.withdraw(*ROUTES[0])
        await tab.until(f"{ROWS} == 4")
        peer = await RawPeer.connect(server.addresses[0])
        await peer.establish()
        await peer.send(codec.encode_update(True, Route(7, Destination(bytes(4), 200), ROUTES[0].hop)))
        await tab.until("document.getElementById('peers').innerText.includes('refused 1 × invalid')")
        await tab.until("document.getElementById('refused').parentElement.classList.contains('alarm')")
        peer.close()
        assert {address.split("/")[2] for address in tab.requests} == {f"127.0.0.1:{web.port}"}
        assert tab.complaints == []


async def test_networks_and_searches_narrow_the_routes(tmp_path: Path) -> None:
    async with (
        running_server() as server,
        running_client(server.addresses) as (client, _),
        site(server) as web,
        page(tmp_path) as tab,
    ):
        announce(client)
        await tab.open(f"{web.base}/#vnet100")
        await tab.until(f"{ROWS} == 3")
        assert await tab.evaluate("document.getElementById('vni').value") == "100"
        await tab.evaluate("document.querySelector('#vnis a[href=\"#vnet200\"]').click()")
        await tab.until(f"{ROWS} == 1 && document.getElementById('routes').innerText.includes('20.0.0.1/32')")
        await tab.evaluate("location.hash = ''")
        await tab.until(f"{ROWS} == 5")
        await search(tab, "10.0.1.7")
        await tab.until(f"{ROWS} == 2")
        assert "10.0.1.7/32" in await tab.evaluate("document.querySelector('#routes tbody tr').innerText")
        await search(tab, "10.0.1.0/24")
        await tab.until(f"{ROWS} == 1")
        await search(tab, "fd00:7::9")
        await tab.until(f"{ROWS} == 1 && document.getElementById('routes').innerText.includes('20.0.0.1/32')")
        await search(tab, "<b>x")
        await tab.until("document.getElementById('routes-note').innerText == 'not an address and not a prefix'")
        assert tab.complaints == []


async def search(tab: object, text: str) -> None:
    await tab.evaluate(  # type: ignore[attr-defined]
        f"(q => {{ q.value = {text!r}; q.dispatchEvent(new Event('input')); }})(document.getElementById('query'))"
    )


async def test_a_lost_server_is_visible_and_found_again(tmp_path: Path) -> None:
    async with running_server() as server, page(tmp_path) as tab:
        async with site(server) as web:
            await tab.open(f"{web.base}/")
            await tab.until("document.getElementById('live').innerText == 'live'")
            port = web.port
        await tab.until("document.getElementById('live').innerText == 'disconnected'")
        async with site(server, port=port):
            await tab.until("document.getElementById('live').innerText == 'live'")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
async def test_the_picture(tmp_path: Path, width: int, dark: bool) -> None:
    """Light or dark as asked for, with contrast, and never wider than the window."""
    async with (
        running_server() as server,
        running_client(server.addresses, identity="node-1") as (client, _),
        site(server) as web,
        page(tmp_path) as tab,
    ):
        announce(client)
        await eventually(lambda: server.route_count() == len(ROUTES))
        await tab.open(f"{web.base}/", width=width, height=800, dark=dark)
        await tab.until(f"{ROWS} == 5")
        assert await tab.evaluate("document.documentElement.scrollWidth") == width
        boxes = "[...document.querySelectorAll('.card, .bar, #search, #vnis a')]"
        assert await tab.evaluate(f"{boxes}.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML)") == []
        picture = await tab.screenshot()
        await tab.open("about:blank")
        assert await tab.evaluate(f"({MEASURE})('{base64.b64encode(picture).decode()}')") == {
            "width": width,
            "height": 800,
            "dark": dark,
            "light": not dark,
            "contrast": True,
        }
