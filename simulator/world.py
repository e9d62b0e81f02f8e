"""The clock, the queue of what happens next, and how what happens becomes a record.

Everything that acts is a process: a generator that yields the time of its next step (Unix ms) and, when resumed, finds that time
in `World.now`. One queue holds one entry a process, so memory is bounded by accounts and open sessions, not by events.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from schemas.records import ConsentRecord, EventType, RawEvent
from simulator.config import DAY_MS, HONEST, SimulationConfig
from simulator.devices import Device, Spot
from simulator.geography import City, Geography, draw_address, draw_mobile_address
from simulator.identity import Mint
from simulator.people import Account

Process = Generator[int, None, None]

IDENTIFYING: Final = frozenset({"LOGIN", "PAYMENT", "PURCHASE", "ACCOUNT_CHANGE"})
PAYING: Final = frozenset({"PAYMENT", "PURCHASE"})
OPTIONAL_PURPOSES: Final = ("analytics", "personalisation", "marketing", "sale")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record with the truth about it, which no detector may see.

    `label` is `honest`, a scenario's name, or `malformed` or `duplicate` where dirt was asked for. `at_ms` is when the record reaches
    the gateway (Unix ms); without dirt that is its own time.
    """

    record: RawEvent | ConsentRecord
    label: str
    at_ms: int


class World:
    """Everything that changes while a simulation runs."""

    def __init__(self, config: SimulationConfig, geography: Geography) -> None:
        self.config = config
        self.geography = geography
        self.rng = random.Random(f"usher simulation {config.seed}")
        self.event_ids = Mint(self.rng)
        self.mint = Mint(self.rng)
        self.now = config.start_ms
        self.period_ms = int(config.period_days * DAY_MS)
        self.beat_ms = config.heartbeat_s * 1000
        self.accounts: list[Account] = []
        self.out: list[Labelled] = []
        self.events = 0
        self.staged: Counter[str] = Counter()
        self.queue: list[tuple[int, int, Process]] = []
        self._spawned = 0
        self._days: dict[int, str] = {}

    # --- what happens next

    def spawn(self, process: Process) -> None:
        """Starts a process: runs it to its first yield now."""
        first = next(process, None)
        if first is not None:
            heapq.heappush(self.queue, (max(first, self.now), self.tick(), process))

    def tick(self) -> int:
        """A growing number that keeps the order of what happens at the same time."""
        self._spawned += 1
        return self._spawned

    def in_s(self, shortest_s: float, longest_s: float) -> int:
        """A time between the two numbers of seconds from now."""
        return self.now + int(self.rng.uniform(shortest_s, longest_s) * 1000)

    @property
    def progress(self) -> float:
        """How much of the simulation is over, in [0, 1]."""
        if self.config.events is not None:
            return min(1.0, self.events / self.config.events)
        return min(1.0, (self.now - self.config.start_ms) / self.period_ms)

    @property
    def remaining_ms(self) -> int:
        """How much time is probably left, at least an hour."""
        elapsed = self.now - self.config.start_ms
        done = self.progress
        left = elapsed * (1 - done) / done if done > 0.02 else self.period_ms
        return max(3_600_000, int(left))

    # --- what is reported

    def emit(
        self,
        account: Account,
        device: Device,
        kind: EventType,
        spot: Spot,
        label: str = HONEST,
        *,
        content: str = "",
        session: str | None = None,
        error: str | None = None,
        amount: float | None = None,
        purpose: str | None = None,
        consented: bool | None = None,
    ) -> None:
        """Reports an event that happens now. `purpose` ("" for none) and `consented` override what is usual for the account."""
        if purpose is None:
            purposes = account.purposes
            purpose = purposes[int(self.rng.random() * len(purposes))]
        if label == HONEST:
            account.seen_ms = self.now
            account.seen_at = spot
            account.seen_device = device
        else:
            self.staged[label] += 1
        self.events += 1
        event = RawEvent(
            event_id=f"evt_{self.event_ids.number():016x}",
            user_id=account.user_id,
            device_id=device.device_id,
            content_id=content,
            event_type=kind if device.upper else kind.lower(),
            timestamp=self._written(device, spot),
            region=spot.region,
            is_eu=spot.is_eu,
            has_consent=account.consented if consented is None else consented,
            ip_address=spot.address,
            subscription_plan=account.plan,
            error_code=error,
            extra_metadata=device.texts[spot.network],
            payment_token=account.payment_token if kind in PAYING else None,
            email_hash=account.email_hash if kind in IDENTIFYING else None,
            user_agent=device.agent,
            session_id=session,
            purpose=purpose or None,
            consent_string=account.consent_string,
            amount=amount,
            tenant_id=account.tenant_id,
        )
        self.out.append(Labelled(event, label, self.now))

    def consent(self, account: Account, *, granted: bool, purposes: tuple[str, ...], effective_ms: int | None = None) -> None:
        """Reports a decision about optional processing."""
        source = self.rng.choice(("app", "web", "crm"))
        for purpose in purposes:
            record = ConsentRecord(
                consent_id=f"con_{self.mint.text()}",
                tenant_id=account.tenant_id or "default",
                user_id=account.user_id,
                purpose=purpose,
                granted=granted,
                effective_at=self.now if effective_ms is None else effective_ms,
                source=source,
            )
            self.out.append(Labelled(record, HONEST, self.now))

    def _written(self, device: Device, spot: Spot) -> int | str:
        """The time of now as the device's gateway writes it, always to the millisecond."""
        clock = device.clock
        if clock == "epoch":
            return self.now
        if clock == "zulu":
            return self._text(self.now, "Z")
        if clock == "offset":
            return self._text(self.now, "+00:00")
        offset_ms = spot.city.offset_ms
        sign = "-" if offset_ms < 0 else "+"
        minutes = abs(offset_ms) // 60_000
        return self._text(self.now + offset_ms, f"{sign}{minutes // 60:02d}:{minutes % 60:02d}")

    def _text(self, at_ms: int, zone: str) -> str:
        day, rest = divmod(at_ms, DAY_MS)
        date = self._days.get(day)
        if date is None:
            date = self._days[day] = datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%dT")
        second, ms = divmod(rest, 1000)
        minute, second = divmod(second, 60)
        return f"{date}{minute // 60:02d}:{minute % 60:02d}:{second:02d}.{ms:03d}{zone}"

    # --- where somebody is

    def mobile_spot(self, city: City) -> Spot:
        """The address a phone in this city has at the moment: one of the operators' shared ones."""
        country = self.geography.by_code[city.country]
        gateways = 4 + int(len(self.accounts) * country.weight / 1500)
        return Spot(draw_mobile_address(self.rng, country, gateways), city.region, city.is_eu, "cellular", city)

    def foreign_spot(self, city: City) -> Spot:
        """An access line somewhere in this city that belongs to nobody simulated: a hotel, a stranger, a hijacked router."""
        country = self.geography.by_code[city.country]
        return Spot(draw_address(self.rng, country.networks), city.region, city.is_eu, "wifi", city)

    def exit_spot(self, *, vpn: bool) -> Spot:
        """An exit of a VPN service, or a rented server."""
        one = self.rng.choice([exits for exits in self.geography.exits if exits.vpn == vpn])
        city = self.geography.by_code[one.code].cities[0]
        return Spot(draw_address(self.rng, one.networks), one.code, one.is_eu, "wifi", city)
