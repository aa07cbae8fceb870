"""Create an order: ``python order.py ORDER ITEM ...``."""

import asyncio
import sys

from oneiric.app import App


async def main(order: str, items: list[str]) -> None:
    """Emit the event of an order, and say what came of it."""
    async with App.open("settings") as app:
        for result in await app.events.emit("orders.created", {"order": order, "items": items}):
            print(f"{result.handler}: {'queued' if result.success else result.error}")


asyncio.run(main(sys.argv[1], sys.argv[2:]))
