"""Supabase's own Python client, as an application uses it. Each step is told on stdout as a line of JSON; the test does
its part (SQL, a restart) and answers with a line on stdin."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from realtime import AsyncRealtimeClient, RealtimeSubscribeStates
from supabase import acreate_client

ARGUMENTS = json.loads(sys.argv[1])


async def told(step: str, **facts: Any) -> None:
    print(json.dumps({"step": step, **facts}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def until(condition: Callable[[], object], what: str) -> None:
    late = time.monotonic() + 15
    while not condition():
        if time.monotonic() > late:
            raise TimeoutError(what)
        await asyncio.sleep(0.01)


async def joined(channel: Any) -> Any:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def state(status: Any, error: Any) -> None:
        if done.done():
            return
        if status == RealtimeSubscribeStates.SUBSCRIBED:
            done.set_result(channel)
        elif status == RealtimeSubscribeStates.CHANNEL_ERROR:
            done.set_exception(error)

    await channel.subscribe(state)
    return await done


def systems(channel: Any) -> list[str]:
    found: list[str] = []
    channel.on_system(lambda payload: found.append(payload.message))
    return found


async def ready(found: list[str], times: int = 1) -> None:
    await until(lambda: found.count("Subscribed to PostgreSQL") >= times, "Subscribed to PostgreSQL")


def plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


async def main() -> None:
    url, anon = ARGUMENTS["url"], ARGUMENTS["anon"]
    project = await acreate_client(url, anon)
    one = project.realtime
    two = AsyncRealtimeClient(f"{url}/realtime/v1", token=anon)

    # Broadcast, and over HTTP. This client has no acknowledgement and no bytes to receive.
    heard: dict[str, list[Any]] = {"one": [], "two": []}
    config = {"config": {"broadcast": {"ack": True, "self": True}, "presence": {"key": ""}, "private": False}}
    room_one, room_two = one.channel("room", config), two.channel("room")
    room_one.on_broadcast("text", lambda message: heard["one"].append([message["event"], message["payload"]]))
    room_two.on_broadcast("*", lambda message: heard["two"].append([message["event"], message["payload"]]))
    await joined(room_one)
    await joined(room_two)
    await room_one.send_broadcast("text", {"n": 1, "umlaut": "ü"})
    await room_two.http_send("http", {"n": 2})
    await room_two.http_send("http bytes", b"\x09\x00")
    await room_one.send_broadcast("text", {"n": 3})
    await until(lambda: len(heard["one"]) == 2 and len(heard["two"]) >= 2, "broadcasts")
    await told("broadcast", **heard)

    # Presence.
    events: list[str] = []

    def here(client: Any, key: str) -> Any:
        options = {"config": {"broadcast": None, "presence": {"key": key, "enabled": True}, "private": False}}
        return client.channel("here", options)

    here_one, here_two = here(one, "ana"), here(two, "bob")
    here_two.on_presence_join(lambda key, *_: events.append(f"join {key}"))
    here_two.on_presence_leave(lambda key, *_: events.append(f"leave {key}"))
    here_two.on_presence_sync(lambda: events.append("sync"))
    await joined(here_one)
    await here_one.track({"mood": "fine"})
    await joined(here_two)

    def mood() -> list[str]:
        return [presence["mood"] for presence in here_two.presence_state().get("ana", [])]

    await until(lambda: mood() == ["fine"], "presence")
    await here_two.track({"mood": "ok"})
    await until(lambda: len(here_one.presence_state()) == 2, "both present")
    await here_one.track({"mood": "better"})
    await until(lambda: mood() == ["better"], "presence update")
    await here_one.untrack()
    await until(lambda: mood() == [], "untrack")
    await told("presence", events=[event for event in events if event != "sync"], synced="sync" in events)

    # Row changes: every event, one event, a filter.
    changes: dict[str, list[Any]] = {"all": [], "open": [], "gone": []}
    rows = one.channel("rows")
    rows_ready = systems(rows)

    def note(name: str) -> Callable[[Any], None]:
        def take(change: Any) -> None:
            data = plain(change)["data"]
            found = [data["type"], data.get("record"), data.get("old_record"), data["errors"]]
            changes[name].append([*found, len(data["commit_timestamp"])])

        return take

    rows.on_postgres_changes("*", note("all"), table="official", schema="public")
    rows.on_postgres_changes("INSERT", note("open"), table="official", schema="public", filter="status=eq.open")
    rows.on_postgres_changes("DELETE", note("gone"), table="official", schema="public")
    await joined(rows)
    await ready(rows_ready)
    await told("subscribed")
    await until(lambda: len(changes["gone"]) == 1, "row changes")
    await told("changes", **changes)
    found = await project.table("official").select("id,status,doc").eq("status", "open").order("id").limit(5).execute()
    await told("rows", rows=found.data)

    # A token that is replaced: first ana's rows, then bob's. And a private channel.
    person = AsyncRealtimeClient(f"{url}/realtime/v1", token=anon)
    await person.set_auth(ARGUMENTS["ana"])
    mine = person.channel("mine")
    mine_ready = systems(mine)
    seen: list[int] = []
    mine.on_postgres_changes(
        "INSERT",
        lambda change: seen.append(plain(change)["data"]["record"]["id"]),
        table="official_private",
        schema="public",
    )
    await joined(mine)
    await ready(mine_ready)
    await told("as ana")
    await until(lambda: len(seen) == 1, "her row")
    await person.set_auth(ARGUMENTS["bob"])
    await ready(mine_ready, 2)
    await told("as bob")
    await until(lambda: len(seen) == 2, "his row")
    await told("seen", seen=seen)
    private = {"config": {"broadcast": {"ack": True, "self": True}, "presence": {"key": ""}, "private": True}}
    team = person.channel("team", private)
    messages: list[Any] = []
    for event in ("hello", "from_db"):
        team.on_broadcast(event, lambda message: messages.append([message["event"], message["payload"]]))
    await joined(team)
    await team.send_broadcast("hello", {"n": 3})
    await until(lambda: len(messages) == 1, "private broadcast")
    await told("private")
    await until(lambda: len(messages) == 2, "a broadcast from the database")
    try:
        await joined(person.channel("elsewhere", private))
        refused = "no"
    except Exception as error:
        refused = str(error)
    await told("private done", messages=messages, refused=refused)

    # The server goes away and comes back: the channel joins again by itself, and hears of rows again.
    before = len(changes["all"])
    await told("restart")
    await ready(rows_ready, 2)
    await told("back")
    await until(lambda: len(changes["all"]) > before, "a change after the restart")
    await told("healed", row=changes["all"][-1][1])
    for client in (one, two, person):
        await client.close()


asyncio.run(main())
