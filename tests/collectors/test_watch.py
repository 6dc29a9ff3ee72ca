"""A watch survives what servers do to it, and says so only where something was lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohttp import web

from otel_control_gym.collectors.kubernetes_client import open_kubernetes
from otel_control_gym.collectors.kubernetes_rows import PodObject
from otel_control_gym.collectors.watch import Watch
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.twin.servers.listening import listen


def pod(uid: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": uid, "uid": uid, "resourceVersion": str(version)}}


def endpoints_at(url: str) -> Endpoints:
    return Endpoints(kubernetes=url, namespace="otel-demo", prometheus=url, coroot=url, load_generator=url, flagd=url)


class Script:
    """An API server that plays one scene for each watch that is opened, and the last one for ever."""

    def __init__(self, listings: list[Any], scenes: list[Any]) -> None:
        self.listings, self.scenes = listings, scenes
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            version, items = self.listings.pop(0)
            return web.json_response({"metadata": {"resourceVersion": str(version)}, "items": items})
        self.asked.append(request.query["resourceVersion"])
        scene = self.scenes.pop(0) if len(self.scenes) > 1 else self.scenes[0]
        if scene == 410:
            return web.json_response({"kind": "Status", "message": "too old", "code": 410}, status=410)
        response = web.StreamResponse()
        await response.prepare(request)
        for event in scene:
            if event == "hold":
                await anyio.sleep_forever()
            await response.write(json.dumps(event).encode() + b"\n")
        return response


@asynccontextmanager
async def following(script: Script, until: Callable[[Watch[PodObject]], bool]) -> AsyncIterator[Watch[PodObject]]:
    """Follow the script until a condition holds."""
    application = web.Application()
    application.router.add_get("/pods", script.handle)
    progress = anyio.Event()
    async with listen(application) as url, open_kubernetes(endpoints_at(url)) as kubernetes:
        watch = Watch(kubernetes, "pods", PodObject, lambda: progress.set() if until(watch) else None)
        await watch.list(initial=True)
        async with anyio.create_task_group() as tasks:
            await tasks.start(watch.follow)
            with anyio.fail_after(10):
                await progress.wait()
            yield watch
            tasks.cancel_scope.cancel()


def told(watch: Watch[PodObject]) -> list[tuple[int, str, str]]:
    return [(item.version, item.change, item.object.metadata.name) for item in watch.deliveries]


async def test_a_closed_watch_goes_on_where_it_was_and_lost_nothing() -> None:
    first = [{"type": "ADDED", "object": pod("b", 6)}]
    second = [{"type": "MODIFIED", "object": pod("b", 7)}, "hold"]
    script = Script([(5, [pod("a", 4)])], [first, second])
    async with following(script, lambda watch: watch.version >= 7) as watch:
        assert told(watch) == [(4, "added", "a"), (6, "added", "b"), (7, "modified", "b")]
        assert (script.asked, watch.gaps) == (["5", "6"], [])


async def test_a_bookmark_is_progress_without_a_change() -> None:
    script = Script([(5, [])], [[{"type": "BOOKMARK", "object": pod("", 9)}, "hold"]])
    async with following(script, lambda watch: watch.version >= 9) as watch:
        assert told(watch) == []


async def test_after_410_the_difference_of_two_lists_is_told_and_the_gap_is_named() -> None:
    for expired in (410, [{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}]):
        script = Script([(5, [pod("a", 3), pod("b", 4)]), (20, [pod("b", 15), pod("c", 18)])], [expired, ["hold"]])
        async with following(script, lambda watch: watch.version >= 20) as watch:
            assert told(watch)[2:] == [(15, "modified", "b"), (18, "added", "c"), (20, "deleted", "a")]
            await anyio.wait_all_tasks_blocked()
            assert len(watch.gaps) == 1


async def test_lines_that_are_no_events_end_the_stream_and_are_not_told() -> None:
    garbage = ["a proxy's error page"]
    script = Script([(5, [])], [garbage, [{"type": "ADDED", "object": pod("b", 6)}, "hold"]])
    async with following(script, lambda watch: watch.version >= 6) as watch:
        assert told(watch) == [(6, "added", "b")]


async def test_what_a_list_has_told_is_not_told_again_by_the_watch() -> None:
    replay = [{"type": "ADDED", "object": pod("b", 15)}, {"type": "BOOKMARK", "object": pod("", 21)}, "hold"]
    script = Script([(5, []), (20, [pod("b", 15)])], [410, replay])
    async with following(script, lambda watch: watch.version >= 21) as watch:
        assert told(watch) == [(15, "added", "b")]
