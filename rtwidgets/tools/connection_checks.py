"""The doctor's steps up to a working channel: URL, key, socket, broadcast, presence."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from typing import Any, cast

import httpx

from rtwidgets.client.addresses import is_loopback
from rtwidgets.client.channel import AsyncChannel
from rtwidgets.client.client import AsyncClient
from rtwidgets.protocol.errors import RealtimeError
from rtwidgets.tools.project import Project
from rtwidgets.tools.report import Finding, StepFailed, elapsed, failed, span

PATIENCE = 20.0
"""Seconds for any one step; a project that has slept needs some for its first subscription."""


class ConnectionChecks:
    """Each step returns its finding, or raises StepFailed where the later ones need it. In order."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.client: AsyncClient = project.client()
        secret = project.key.startswith("sb_secret_") and not project.token
        self.role = "service_role" if secret else str(_claims(project.token or project.key).get("role") or "anon")
        self.private = False
        """Whether the project allows private channels alone."""
        self.channel = self._make_channel()
        self._present = asyncio.Event()
        self._headers = {"apikey": project.key}
        if project.token or not project.key.startswith("sb_"):
            self._headers["Authorization"] = f"Bearer {project.token or project.key}"

    def settings(self, what: str) -> str:
        """Where Realtime itself may be the cause: the project's settings, or the local server's log."""
        return (
            "See the local server's log: rtwidgets status"
            if self.project.is_local
            else f"{what}: Project Settings, Realtime"
        )

    def _make_channel(self) -> AsyncChannel:
        topic = f"rtwidgets-doctor-{secrets.token_hex(4)}"
        return self.client.channel(topic, broadcast_self=True, ack=True, private=self.private)

    async def reach(self) -> Finding:
        """The URL answers."""
        try:
            async with httpx.AsyncClient(timeout=10, trust_env=not is_loopback(self.client.url)) as http:
                began = time.monotonic()  # making a client takes longer than most answers
                answer = await http.get(f"{self.client.url}/rest/v1/", headers=self._headers)
        except httpx.HTTPError as error:
            raise StepFailed(
                "url",
                f"{self.client.url} does not answer: {error or type(error).__name__}",
                "Start the local server: rt.local() or rtwidgets serve"
                if self.project.is_local
                else "Check the URL (Project Settings, API: https://PROJECT.supabase.co), the network, and that the "
                "project is not paused; for a local server: rtwidgets status",
            ) from None
        if answer.status_code >= 500:
            fix = "See the local server's log: rtwidgets status" if self.project.is_local else "Is the project paused?"
            raise StepFailed("url", f"{self.client.url} answers HTTP {answer.status_code}", fix)
        return Finding("url", "ok", f"{self.client.url} answers in {elapsed(began)}")

    async def key(self) -> Finding:
        """Key and token are well-formed and have not expired."""
        if self.project.key.startswith("sb_") and not self.project.token:
            if self.role == "service_role":
                detail = "a secret key: it bypasses row level security"
                return Finding("key", "warning", detail, "Use the publishable key")
            return Finding("key", "ok", "a new-style API key")
        for what, text in (("key", self.project.key), ("token", self.project.token)):
            if text is None or text.startswith("sb_"):
                continue
            claims = _claims(text)
            if not claims:
                raise StepFailed("key", f"the {what} is no JWT", "Copy the whole key: Project Settings, API keys")
            left = claims["exp"] - time.time()
            if left <= 0:
                fix = "Copy a current one: Project Settings, API keys" if what == "key" else "Log in again"
                raise StepFailed("key", f"the {what} expired {span(-left)} ago", fix)
        claims = _claims(self.project.token or self.project.key)
        detail = f"role {self.role}, expires in {span(claims['exp'] - time.time())}"
        if self.role == "service_role":
            return Finding("key", "warning", f"{detail}: it bypasses row level security", "Use the anon key")
        return Finding("key", "ok", detail)

    async def connect(self) -> Finding:
        """The WebSocket opens."""
        began = time.monotonic()
        try:
            await self.client.connect()
        except RealtimeError as error:
            raise StepFailed("socket", error.message, error.hint) from None
        return Finding("socket", "ok", f"connected in {elapsed(began)}")

    async def broadcast(self) -> Finding:
        """A broadcast comes back on the channel that sent it."""
        try:
            took = await self._echo()
        except (RealtimeError, TimeoutError) as error:
            if isinstance(error, RealtimeError) and error.code == "PrivateOnly":
                return await self._broadcast_in_private()
            raise failed("broadcast", error, self.settings("Check that Realtime is on"), PATIENCE) from None
        return Finding("broadcast", "ok", f"back in {took}")

    async def _broadcast_in_private(self) -> Finding:
        """The project allows private channels alone. That is no fault, where a policy lets this role into them."""
        await leave(self.channel)
        self.private = True
        self.channel = self._make_channel()
        only = "the project allows private channels alone"
        policy = (
            f'create policy "realtime" on realtime.messages for all to {self.role} using (true) with check (true); '
            "-- every topic: restrict it by realtime.topic()"
        )
        try:
            took = await self._echo()
        except (RealtimeError, TimeoutError) as error:
            detail = error.message if isinstance(error, RealtimeError) else "a private one accepts nothing from it"
            raise StepFailed("broadcast", f"{only}, and {self.role} may not use one: {detail}", policy) from None
        fix = "Use Channel(topic, private=True), and for a table LiveTable(..., channel=) with such a one"
        return Finding("broadcast", "warning", f"back in {took}, and {only}", fix)

    async def _echo(self) -> str:
        """Joins and sends; returns how long the message took to come back."""
        arrived = asyncio.Event()

        def on_broadcast(*_: object) -> None:
            arrived.set()

        self.channel.on_broadcast("doctor", on_broadcast)
        # Before the join, which asks for presence where there is a listener for it.
        self.channel.on_presence(lambda change: self._present.set() if change.state else None)
        await self.channel.subscribe(PATIENCE)
        began = time.monotonic()
        await self.channel.send("doctor", {})
        await asyncio.wait_for(arrived.wait(), PATIENCE)
        return elapsed(began)

    async def presence(self) -> Finding:
        """A tracked state comes back."""
        began = time.monotonic()
        try:
            await self.channel.track({"doctor": True})
            await asyncio.wait_for(self._present.wait(), PATIENCE)
            await self.channel.untrack()
        except (RealtimeError, TimeoutError) as error:
            raise failed("presence", error, self.settings("Raise the presence limit"), PATIENCE) from None
        return Finding("presence", "ok", f"tracked in {elapsed(began)}")


async def leave(channel: AsyncChannel) -> None:
    """Unsubscribes, whatever the server answers."""
    try:
        await channel.unsubscribe()
    except RealtimeError:
        pass


def _claims(token: str) -> dict[str, Any]:
    """The claims of a JWT, not verified; empty where it is none."""
    try:
        body = token.split(".")[1]
        found: object = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    claims = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    return claims if isinstance(claims.get("exp"), int | float) else {}
