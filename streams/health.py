"""Health, readiness and metrics of a process over HTTP, served from its own event loop: a blocked loop is not alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Checks = Callable[[], Awaitable[dict[str, str]]]
"""Gives each part's state: `ok`, or what is wrong with it."""


class HealthServer:
    """Serves `/health/live`, `/health/ready` (503 while a part is not ok, naming it) and `/metrics`."""

    def __init__(self, host: str, port: int, checks: Checks, registry: CollectorRegistry) -> None:
        self._host, self._port, self._checks, self._registry = host, port, checks, registry
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Starts serving and returns the base URL; port 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stops serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.Response:
        parts = await self._checks()
        ready = all(state == "ok" for state in parts.values())
        return web.json_response({"status": "ok" if ready else "not ready", "parts": parts}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
