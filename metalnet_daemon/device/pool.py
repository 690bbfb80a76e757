"""The device pool as the operator writes it, and the choice of a device for each interface."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .types import Device

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_NAME = 15
MAX_ENGINE_NAME = 63
MAX_DEVICES = 4096


def parse_pool(text: str) -> list[Device]:
    """Devices of one pool entry "NAME=ENGINE_NAME", each with at most one range "{first..last}" of equal length.

    "dtapvf_{0..3}=net_tap{2..5}" stands for dtapvf_0 (net_tap2 in the engine) to dtapvf_3. Raises ValueError.
    """
    name_pattern, separator, engine_pattern = text.partition("=")
    if not separator:
        raise ValueError(f"{text!r} has no '=' between the device and the engine's name of it")
    names, engines = _expand(name_pattern), _expand(engine_pattern)
    if len(names) != len(engines):
        raise ValueError(f"{text!r} names {len(names)} devices, but {len(engines)} engine devices")
    for name in names:
        if not 0 < len(name) <= MAX_NAME or "/" in name or any(character.isspace() for character in name):
            raise ValueError(f"{name!r} is not the name of a network device (1 to {MAX_NAME} characters)")
    for engine in engines:
        if not 0 < len(engine) <= MAX_ENGINE_NAME:
            raise ValueError(f"{engine!r} is not an engine device (1 to {MAX_ENGINE_NAME} characters)")
    return [Device(name, engine) for name, engine in zip(names, engines, strict=True)]


def combine(devices: Iterable[Device]) -> list[Device]:
    """The pool of several entries. Raises ValueError if a device is there twice."""
    pool: list[Device] = []
    names, engines = set[str](), set[str]()
    for device in devices:
        if device.name in names or device.engine in engines:
            raise ValueError(f"device {device.name} ({device.engine}) is in the pool twice")
        names.add(device.name)
        engines.add(device.engine)
        pool.append(device)
    return pool


@dataclass(frozen=True, slots=True)
class Assignment:
    """devices: by interface id. new: ids whose claim has to be recorded. problems: why an id got no device."""

    devices: Mapping[str, Device]
    new: Collection[str]
    problems: Mapping[str, str]


def assign(
    pool: Sequence[Device], claims: Mapping[str, str], wanted: Collection[str], engine_devices: Mapping[str, str]
) -> Assignment:
    """Choose a device for every wanted interface: the claimed one, the one it has in the engine, or the first free one.

    claims: device name by interface id, of wanted and other ids. engine_devices: engine device by id, as programmed.
    No device goes to two ids.
    """
    by_name = {device.name: device for device in pool}
    by_engine = {device.engine: device for device in pool}
    owners = _owners(claims, {uid: by_engine[name].name for uid, name in engine_devices.items() if name in by_engine})
    taken = set(owners)
    devices: dict[str, Device] = {}
    problems: dict[str, str] = {}
    unclaimed: list[str] = []
    for uid in sorted(wanted):
        name = claims.get(uid)
        if name is None or owners.get(name) != uid:
            unclaimed.append(uid)
        elif name in by_name:
            devices[uid] = by_name[name]
        else:
            problems[uid] = f"claimed device {name} is not in the device pool"
    new: list[str] = []
    free = iter([device for device in pool if device.name not in taken])
    for uid in unclaimed:
        held = by_engine.get(engine_devices.get(uid, ""))
        chosen = held if held is not None and owners.get(held.name) == uid else next(free, None)
        if chosen is None:
            problems[uid] = f"no device is free: all {len(pool)} of the pool are taken"
        else:
            devices[uid] = chosen
            new.append(uid)
    return Assignment(devices, new, problems)


def _owners(claims: Mapping[str, str], programmed: Mapping[str, str]) -> dict[str, str]:
    """Device name -> the one id that has it. Of several claims the programmed one counts, else the lowest id."""
    owners: dict[str, str] = {}
    for uid in sorted(claims):
        owners.setdefault(claims[uid], uid)
    for uid in sorted(programmed):
        if claims.get(uid, programmed[uid]) == programmed[uid]:
            owners[programmed[uid]] = uid
        else:
            owners.setdefault(programmed[uid], uid)
    return owners


def _expand(pattern: str) -> list[str]:
    parts = _RANGE.split(pattern)
    if len(parts) == 1:
        return [pattern]
    if len(parts) != 4:
        raise ValueError(f"{pattern!r} has more than one range")
    before, first, last, after = parts[0], int(parts[1]), int(parts[2]), parts[3]
    if not first <= last < first + MAX_DEVICES:
        raise ValueError(f"{pattern!r} has an empty range or one of more than {MAX_DEVICES} devices")
    return [f"{before}{number}{after}" for number in range(first, last + 1)]
