"""Devices: what they are, how they name themselves and how their gateway writes events."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from simulator.geography import City
from simulator.identity import Mint

Kind = Literal["tv", "phone", "tablet", "laptop"]
Network = Literal["ethernet", "wifi", "cellular"]
Clock = Literal["epoch", "zulu", "offset", "local"]
"""How a gateway writes time: milliseconds, ISO 8601 with Z, with +00:00, or with the viewer's own offset."""

_CLOCKS: Final[tuple[Clock, ...]] = ("zulu", "epoch", "zulu", "offset", "epoch", "local")
_CHROME: Final = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"


@dataclass(frozen=True, slots=True)
class Model:
    """A line of devices; `agent` is its user agent, `share` how common it is among its kind."""

    prefix: str
    kind: Kind
    name: str
    agent: str
    share: float


MODELS: Final[tuple[Model, ...]] = (
    Model("tv_lg", "tv", "LG_OLED_55", "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 Chrome/108.0.5359.211 Safari/537.36", 3),
    Model(
        "tv_samsung", "tv", "SAMSUNG_QN90", "Mozilla/5.0 (SMART-TV; LINUX; Tizen 7.0) AppleWebKit/537.36 Version/7.0 TV Safari/537.36", 4
    ),
    Model("stick_fire", "tv", "AFTKA", "Mozilla/5.0 (Linux; Android 9; AFTKA Build/PS7652) AppleWebKit/537.36 Silk/112.5 Safari/537.36", 2),
    Model("tv_chromecast", "tv", "CHROMECAST_GTV", "Mozilla/5.0 (Linux; Android 12; Chromecast) AppleWebKit/537.36 CrKey/1.56", 2),
    Model(
        "phone_ios", "phone", "IPHONE_15", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_2 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148", 4
    ),
    Model(
        "phone_ios", "phone", "IPHONE_13", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148", 3
    ),
    Model(
        "phone_android",
        "phone",
        "PIXEL_8",
        "Mozilla/5.0 (Linux; Android 15; Pixel 8) AppleWebKit/537.36 Chrome/131.0.0.0 Mobile Safari/537.36",
        2,
    ),
    Model(
        "phone_android",
        "phone",
        "SM_S921B",
        "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 Chrome/130.0.0.0 Mobile Safari/537.36",
        5,
    ),
    Model("tablet_ios", "tablet", "IPAD_10", "Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148", 3),
    Model(
        "tablet_android",
        "tablet",
        "SM_X210",
        "Mozilla/5.0 (Linux; Android 14; SM-X210) AppleWebKit/537.36 Chrome/129.0.0.0 Safari/537.36",
        2,
    ),
    Model("web", "laptop", "WINDOWS_PC", _CHROME.format("Windows NT 10.0; Win64; x64", 131), 5),
    Model("web", "laptop", "MACBOOK", _CHROME.format("Macintosh; Intel Mac OS X 10_15_7", 130), 3),
)
_VERSIONS: Final = ("7.4.0", "7.4.2", "7.5.0", "7.5.1", "7.6.0")
_BY_KIND: Final[dict[Kind, tuple[Model, ...]]] = {
    kind: tuple(one for one in MODELS if one.kind == kind) for kind in ("tv", "phone", "tablet", "laptop")
}
_SHARES: Final[dict[Kind, list[float]]] = {kind: [one.share for one in models] for kind, models in _BY_KIND.items()}


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a device is on the network: its public address and the region a gateway there claims."""

    address: str
    region: str
    is_eu: bool
    network: Network
    city: City


@dataclass(slots=True, eq=False)
class Device:
    """A device and where it stands at the moment of the simulation.

    Attributes:
        texts: `extra_metadata` by network.
        abroad: where it is while it travels, else None.
        away_until_ms: it is on the way and off the network until then (event time, ms).
        busy: it plays at the moment.
        signed_in: it holds a token.
    """

    device_id: str
    kind: Kind
    interface: int
    clock: Clock
    upper: bool
    agent: str
    texts: dict[Network, str]
    abroad: Spot | None = None
    away_until_ms: int = 0
    busy: bool = False
    signed_in: bool = True


def draw_device(rng: random.Random, mint: Mint, kind: Kind, *, signed_in: bool = True) -> Device:
    """A device of this kind with its gateway's habits. Honest and other people buy from the same shelf."""
    model = rng.choices(_BY_KIND[kind], weights=_SHARES[kind])[0]
    number = mint.number()
    version = rng.choice(_VERSIONS)
    texts: dict[Network, str] = {}
    networks: tuple[Network, ...] = ("ethernet", "wifi", "cellular")
    for network in networks:
        words = {"app_version": version, "network_type": network, "device_model": model.name}
        texts[network] = msgspec.json.encode(words).decode()
    return Device(
        device_id=f"{model.prefix}_{number:016x}",
        kind=kind,
        interface=(number >> 1) | 1,
        clock=rng.choice(_CLOCKS),
        upper=rng.random() < 0.75,
        agent=model.agent,
        texts=texts,
        signed_in=signed_in,
    )
