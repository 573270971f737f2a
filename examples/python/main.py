"""Uses every part of `favorites.py`. All that it puts it deletes again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import sys
from pathlib import Path

import nats
from nats.aio.client import Client

from favorites import Copy, Favorites, Refused

INSTRUMENT = "DE0007164600"


def variable(name: str) -> str:
    return os.environ.get(name) or sys.exit(f"{name} is not set")


async def connect() -> Client:
    """Connects as the calling service that the environment names, with inboxes of its own."""
    user = variable("GOFAVORITES_USER")
    authority = os.environ.get("GOFAVORITES_TLS_CA")
    return await nats.connect(
        variable("GOFAVORITES_URL"),
        user=user,
        password=variable("GOFAVORITES_PASSWORD"),
        inbox_prefix=os.environ.get("GOFAVORITES_INBOX_PREFIX", f"_INBOX.{user}"),
        tls=ssl.create_default_context(cafile=authority) if authority else None,
        max_reconnect_attempts=-1,
    )


async def show_favorites(favorites: Favorites) -> None:
    sap = {"isin": INSTRUMENT, "type": "stock", "ticker": "SAP"}
    put = await favorites.put("instrument", INSTRUMENT, sap, tags=["example"])
    print(f"put {put.id} at version {put.version}")

    try:
        await favorites.put("instrument", INSTRUMENT, sap | {"currency": "Eur"})
    except Refused as refused:
        print(f"refused: {refused.code} ({refused.status}), {refused.field}")

    items, _ = await favorites.list()
    print(f"listed {len(items)}, with {INSTRUMENT}: {INSTRUMENT in (item.id for item in items)}")
    got, stale = await favorites.get("instrument", INSTRUMENT)
    print(f"got {got.data['ticker']} at version {got.version}, stale: {stale}")


async def show_secrets(favorites: Favorites) -> None:
    uri = "otpauth://totp/Example:me?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    await favorites.put("otp", "example", {"uri": uri})
    print(f"a code of {len(await favorites.otp_code('example'))} digits")

    await favorites.put("codes", "example", {"codes": ["4417-2093", "8605-3316"]})
    code, remaining = await favorites.take_code("example")
    print(f"took {code}, {remaining} left")


async def show_changes(favorites: Favorites) -> None:
    """Follows the changes until the last write, from where an earlier run stopped if its copy was stored."""
    path = os.environ.get("EXAMPLE_COPY")
    stored = Path(path).read_text() if path and Path(path).exists() else None
    copy = Copy.from_json(stored) if stored else Copy()

    async with contextlib.aclosing(favorites.follow(copy)) as changes:
        async for changed in changes:
            for item in changed:
                if stored and item.deleted:
                    print(f"deleted since then: {item.key}")
            if any(item.key == "codes/example" for item in changed):
                break
    print(f"followed the changes, and hold {len(copy.items)} items")
    if path:
        Path(path).write_text(copy.to_json())


async def remove(favorites: Favorites) -> None:
    for kind, id in [("instrument", INSTRUMENT), ("otp", "example"), ("codes", "example")]:
        try:
            await favorites.delete(kind, id)
        except Refused as refused:
            if refused.code != "not_found":
                raise


async def main() -> None:
    client = await connect()
    timeout_s = float(os.environ.get("EXAMPLE_TIMEOUT_S", "10"))
    favorites = Favorites(client, variable("GOFAVORITES_TOKEN"), timeout_s)

    await remove(favorites)  # What an earlier run may have left.
    await show_favorites(favorites)
    await show_secrets(favorites)
    await show_changes(favorites)
    await remove(favorites)
    print("deleted all three")
    await client.close()


asyncio.run(main())
