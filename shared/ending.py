"""Ends tasks, also those that lost a cancellation.

Whoever cancels a task and waits for it waits for ever if the task did not notice. Ours do; but a wait with a time limit
in a library may end in the same turn of the loop as the cancellation comes, and before Python 3.12 ``asyncio.wait_for``
then keeps the result and forgets the cancellation: psycopg's pool, as it hands a connection to one who waited for it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

#: So long a task may take to end before it is cancelled again: longer than anything of ours takes to tidy up.
AGAIN_S: Final = 10.0


async def end(*tasks: asyncio.Task[Any], again_s: float = AGAIN_S) -> list[Any]:
    """Cancel ``tasks`` until each has ended, and return what they came to: results and exceptions."""
    living = {task for task in tasks if not task.done()}
    while living:
        for task in living:
            task.cancel()
        _, living = await asyncio.wait(living, timeout=again_s)
    return await asyncio.gather(*tasks, return_exceptions=True)
