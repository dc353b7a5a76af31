"""What the station's page says of the station before any script runs."""

from __future__ import annotations

from edge.api.health import HealthSource
from shared.api.web import Summary
from shared.privacy import View
from shared.sayings import said


async def summary_of(health: HealthSource, view: View) -> Summary:
    """Return the station in a word and, to those who work there, in facts."""
    if view.principal.role == "viewer":
        return Summary(status=health.status())
    detail = await health.detail()
    waiting = 0 if detail.cloud is None else sum(each.items for each in detail.cloud.waiting.values())
    receipt = None if detail.cloud is None else detail.cloud.last_receipt_at
    used_pct = 100 - 100 * detail.disk.free_bytes // max(detail.disk.total_bytes, 1)
    return Summary(
        status=detail.status,
        reasons=detail.said or detail.reasons,
        facts=[
            ("clock", said("message.clock", at=f"{detail.clock.now:%Y-%m-%d %H:%M}", clock=detail.clock.state)),
            ("receipt", "-" if receipt is None else f"{receipt:%Y-%m-%d %H:%M} UTC"),
            ("waiting", str(waiting)),
            ("disk", f"{used_pct} %"),
            ("fixes", str(detail.store.fixes)),
            ("undecoded", str(detail.ledger.undecoded)),
            ("links", ", ".join(f"{'✓' if link.is_up else '⚠'} {link.name}" for link in detail.links) or "-"),
            ("version", detail.version),
        ],
    )
