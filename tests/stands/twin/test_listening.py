"""Addresses: a port that is taken is named, and a listener on all addresses is reached by the loopback."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.twin.servers.listening import listen


async def test_a_port_that_is_taken_is_named() -> None:
    async with listen(web.Application()) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(StandError, match=rf"port {port} of 127.0.0.1 is in use"):
            async with listen(web.Application(), port=port):
                pass


async def test_an_address_that_is_not_this_machines_is_named() -> None:
    with pytest.raises(StandError, match=r"of 203.0.113.7 can't be listened on"):
        async with listen(web.Application(), host="203.0.113.7"):
            pass


async def test_a_listener_on_all_addresses_is_reached_by_the_loopback() -> None:
    async with listen(web.Application(), host="0.0.0.0") as url, aiohttp.ClientSession() as http:
        assert url.startswith("http://127.0.0.1:")
        async with http.get(url) as answer:
            assert answer.status == 404
