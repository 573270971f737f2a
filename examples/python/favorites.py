"""A client of GoFavorites. All users share one connection; a `Favorites` is one user's view of it.

- A write is repeated under one request id until its outcome is known, so it is executed once.
- A read contains at least what the same object has read and written before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nats.aio.client import Client
from nats.errors import MaxPayloadError, NoRespondersError

TRY_S = 2.0  # How long one try of a request may take.
PAUSE_S = 0.1  # The pause before the next try, unless the service asks for a longer one.
POLL_S = 15.0  # A notification may be lost, so `follow` also asks after this time.

# Refusals of a repeated write that say nothing about the try before it.
UNSETTLED = ("unauthenticated", "forbidden", "internal")


class NoAnswer(Exception):
    """No worker answered in time. Nothing was written."""


class InDoubt(Exception):
    """The write may be executed, now or later. Repeat it with this request id to find out."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"the write {request_id} is in doubt")
        self.request_id = request_id


class Refused(Exception):
    """The service refused the request. Branch on `code`."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.code: str = error["code"]
        self.status: int = error["status"]
        self.message: str = error["message"]
        self.details: dict[str, Any] = error["details"]
        self.field: str | None = self.details.get("field")
        super().__init__(f"{self.code} ({self.status}): {self.message}")

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        return "retry_after_ms" in self.details or self.code in ("deadline_exceeded", "in_doubt")


@dataclass(frozen=True)
class Item:
    """An item. A deleted one has no data, metadata and tags."""

    kind: str
    id: str
    version: int
    data: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    deleted: bool = False

    @property
    def key(self) -> str:
        """Its key in a copy."""
        return f"{self.kind}/{self.id}"

    @classmethod
    def of(cls, body: dict[str, Any]) -> Item:
        return cls(**{name: body[name] for name in cls.__dataclass_fields__ if name in body})


Items = list[Item]

@dataclass
class Copy:
    """A copy of a user's items, by `kind/id`, and how far it has come. Store all of it, or begin with an empty one."""

    items: dict[str, Item] = field(default_factory=dict)
    since: int = 0
    epoch: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Copy:
        body = json.loads(text)
        return cls({key: Item.of(item) for key, item in body["items"].items()}, body["since"], body["epoch"])


class Favorites:
    """One user's favourites. A request takes at most `timeout_s`, with all its tries.

    Give a write a request id of your own if its task may be cancelled: a `CancelledError` has none.
    """

    def __init__(self, client: Client, token: str, timeout_s: float = 10.0) -> None:
        self._client = client
        self._token = token
        self._timeout_s = timeout_s
        self._seen = 0  # The highest version of the owner in any reply.
        self._epoch: str | None = None  # The history to which that version belongs, if known.

    async def put(self, kind: str, id: str, data: dict[str, Any] | None = None, *, meta: dict[str, str] | None = None,
                  tags: Sequence[str] = (), if_version: int | None = None, request_id: str | None = None) -> Item:
        """Stores an item. Without data, one that exists keeps its data. Metadata and tags are replaced in any case."""
        body = {"kind": kind, "id": id, "data": data, "meta": meta, "tags": list(tags), "if_version": if_version}
        return Item.of((await self._write("put", body, request_id))["item"])

    async def delete(self, kind: str, id: str, *, if_version: int | None = None, request_id: str | None = None) -> Item:
        body = {"kind": kind, "id": id, "if_version": if_version}
        return Item.of((await self._write("delete", body, request_id))["item"])

    async def take_code(self, id: str, *, request_id: str | None = None) -> tuple[str, int]:
        """Returns the next code of a list, and how many are left."""
        reply = await self._write("codes.take", {"id": id}, request_id)
        return reply["code"], reply["remaining"]

    async def otp_code(self, id: str, *, request_id: str | None = None) -> str:
        """Returns a code of an otp. With HOTP this is a write, which uses a counter up.

        The body is always the same, so a request id can be repeated. So another shard may not have a new otp yet.
        """
        code: str = (await self._write("otp.code", {"id": id}, request_id))["code"]
        return code

    async def get(self, kind: str, id: str) -> tuple[Item, bool]:
        """Returns an item, and whether it may be stale because the bucket is out of reach."""
        reply = await self._read("get", {"kind": kind, "id": id})
        return Item.of(reply["item"]), reply.get("stale", False)

    async def list(self) -> tuple[Items, bool]:
        """Returns all items, and whether they may be stale."""
        items: Items = []
        page: dict[str, Any] = {}
        stale = False
        while True:
            reply = await self._read("list", page)
            items += map(Item.of, reply["items"])
            stale |= reply.get("stale", False)
            if "next_cursor" not in reply:
                return items, stale
            page = {"cursor": reply["next_cursor"]}

    async def follow(self, copy: Copy) -> AsyncGenerator[Items, None]:
        """Keeps the copy up to date, and yields what changed, deletions included.

        After `resync_required` it yields all items, and a deletion with version 0 for each that has vanished.
        Raises if the service is unavailable for too long. Follow again with the same copy then.
        """
        changed = asyncio.Event()
        subscription = None

        async def notify(_: object) -> None:
            changed.set()

        try:
            while True:
                changed.clear()
                try:
                    items, subject = await self._catch_up(copy)
                except Refused as refused:
                    if refused.code != "resync_required":
                        raise
                    copy.since, copy.epoch = 0, None  # Fetch everything.
                    continue
                if items:
                    yield items
                if subscription is None:
                    # Then ask again: something may have changed before the subscription.
                    subscription = await self._client.subscribe(subject, cb=notify)
                    await self._client.flush()
                    continue
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), POLL_S)
        finally:
            if subscription is not None:
                await subscription.unsubscribe()

    async def _catch_up(self, copy: Copy) -> tuple[Items, str]:
        """Asks for all pages of changes. Only then changes the copy."""
        page: dict[str, Any] = {"since": copy.since} | ({"epoch": copy.epoch} if copy.epoch else {})
        items: Items = []
        while True:
            reply = await self._call("changes", page)
            items += map(Item.of, reply["items"])
            if not reply["more"]:
                break
            page |= {"since": items[-1].version}
            page |= {"epoch": reply["epoch"]} if "epoch" in reply else {}
            if copy.since == 0:
                page.setdefault("floor", reply["floor"])  # That of the first reply.

        if copy.since == 0:  # These are all items: the others have vanished.
            found = {item.key for item in items}
            vanished = [item for key, item in copy.items.items() if key not in found]
            items += (Item(item.kind, item.id, 0, deleted=True) for item in vanished)
        for item in items:
            copy.items[item.key] = item
            if item.deleted:
                del copy.items[item.key]
        copy.since, copy.epoch = reply["owner_version"], reply.get("epoch")
        self._epoch = copy.epoch
        return items, reply["notify"]

    async def _read(self, operation: str, body: dict[str, Any]) -> Any:
        """Asks for a reply that contains everything that was seen before."""
        epoch = {"epoch": self._epoch} if self._epoch else {}
        seen = {"min_version": self._seen} | epoch if self._seen else {}
        try:
            return await self._call(operation, body | seen)
        except Refused as refused:
            if refused.code != "resync_required" and refused.field != "min_version":
                raise
            self._seen, self._epoch = 0, None  # The bucket has another history now.
            if "cursor" in body:  # The first pages are from the old one.
                raise
            return await self._call(operation, body)

    async def _write(self, operation: str, body: dict[str, Any], request_id: str | None) -> Any:
        given = {name: value for name, value in body.items() if value is not None}
        return await self._call(operation, given, request_id or str(uuid.uuid4()))

    async def _call(self, operation: str, body: dict[str, Any], request_id: str = "") -> Any:
        """Sends a request, and again if that is safe, until it is settled or the time is up. Only a write has an id."""
        payload = json.dumps(body).encode()
        deadline = time.monotonic() + self._timeout_s
        in_doubt = False
        error: Exception = NoAnswer("no time is left")
        while (left_s := deadline - time.monotonic()) > 0:
            pause_s = PAUSE_S
            try:
                return await self._try(operation, payload, request_id, min(TRY_S, left_s))
            except Refused as refused:
                in_doubt |= refused.code == "in_doubt"
                if not refused.may_pass:
                    if in_doubt and refused.code in UNSETTLED:
                        raise InDoubt(request_id) from refused
                    raise
                error = refused
                pause_s = max(PAUSE_S, refused.details.get("retry_after_ms", 0) / 1000)
            except NoRespondersError:
                error = NoAnswer("no worker is there")
            except asyncio.TimeoutError:
                error = NoAnswer("no answer in time")
                in_doubt = bool(request_id)
            except Exception as other:
                # It may have been sent, for instance if the connection was closed.
                if request_id and (in_doubt or not isinstance(other, MaxPayloadError)):
                    raise InDoubt(request_id) from other
                raise
            if deadline - time.monotonic() < pause_s + PAUSE_S:
                break
            await asyncio.sleep(pause_s)
        if in_doubt:
            raise InDoubt(request_id) from error
        raise error

    async def _try(self, operation: str, payload: bytes, request_id: str, timeout_s: float) -> Any:
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Request-Timeout-Ms": str(max(1, int(timeout_s * 1000))),
        }
        if request_id:
            headers["Nats-Msg-Id"] = request_id
        message = await self._client.request(f"favorites.v1.{operation}", payload, timeout_s, headers=headers)
        reply = json.loads(message.data)
        if "error" in reply:
            raise Refused(reply["error"])
        self._seen = max(self._seen, reply["owner_version"])
        return reply
