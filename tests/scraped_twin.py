"""A twin that is served in wall-clock time by a process of its own, and Debian's Prometheus that scrapes it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import yaml

PROMETHEUS = shutil.which("prometheus")
NO_PROMETHEUS = "prometheus isn't on the path (Debian: apt install prometheus)"
OCG = (sys.executable, "-c", "from otel_control_gym.engine.command_line import main; main()")
_PORTS = itertools.count(20_001 + 2 * (os.getpid() % 5_000), 2)  # not those of another process that runs these tests
ADDED = ("scraped", "twin:1")  # job and instance, where a series has none of its own


@asynccontextmanager
async def process(*command: str, **options: Any) -> AsyncIterator[anyio.abc.Process]:
    """Run a program inside, and end it in order."""
    async with await anyio.open_process(command, **options) as running:
        try:
            yield running
        finally:
            if running.returncode is None:
                running.terminate()
            with anyio.CancelScope(shield=True):
                await running.wait()


async def served(twin: anyio.abc.Process) -> Any:
    """Return what the twin says of itself."""
    assert twin.stdout is not None
    said = b""
    while not said.endswith(b"\n}\n"):
        said += await twin.stdout.receive()
    return json.loads(said)


@asynccontextmanager
async def scraped(tmp_path: Path, *options: str, interval: str = "1s") -> AsyncIterator[tuple[Any, str]]:
    """Serve a twin and let a real Prometheus scrape it; the values are what the twin says of itself and Prometheus' URL."""
    assert PROMETHEUS is not None
    command = (*OCG, "twin", "serve", "--json", "--port", "0", "--kubeconfig", str(tmp_path / "kubeconfig"), *options)
    async with process(*command, stderr=None) as twin:
        told = await served(twin)
        relabelled = {"targets": [told["prometheus"].removeprefix("http://")], "labels": {"instance": ADDED[1]}}
        job = {"job_name": ADDED[0], "honor_labels": True, "static_configs": [relabelled]}
        configuration = tmp_path / "prometheus.yml"
        times = {"scrape_interval": interval, "scrape_timeout": "1s"}
        configuration.write_text(yaml.safe_dump({"global": times, "scrape_configs": [job]}))
        address = f"127.0.0.1:{await free_port()}"
        command = (PROMETHEUS, f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
        async with process(
            *command, f"--web.listen-address={address}", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            yield told, f"http://{address}"


async def free_port() -> int:
    """Return a port that is free now, and the one before it, too.

    Never one that a system hands out by itself: it may be a while until somebody listens there.
    """
    for port in _PORTS:
        try:
            async with (
                await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port),
                await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port - 1),
            ):
                return port
        except OSError:
            continue
    raise AssertionError("the numbers never end")
