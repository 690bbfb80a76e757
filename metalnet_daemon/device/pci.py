"""Virtual functions of SmartNICs: found in sysfs or generated, and the name that the engine gives to each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .types import Device, PciAddress

SYSFS = Path("/sys")
MELLANOX_VENDOR = 0x15B3
NETWORK_CLASS = 0x02
# A data processing unit shows its host's functions nowhere in sysfs: as many as the device offers, behind the PF.
GENERATED_FUNCTIONS = 126
GENERATED_OFFSET = 3
_VIRTUAL_FUNCTION = re.compile(r"virtfn\d+")


def find_virtual_functions(
    base: PciAddress | None = None, *, multiport: bool = False, sysfs: Path = SYSFS
) -> list[Device]:
    """All virtual functions of the host; if there is none and `base` (a PF) is given, those generated behind it.

    multiport: the NIC runs in multiport e-switch mode, which names representors differently.
    """
    found = sorted({address for pf in _physical_functions(sysfs) for address in _virtual_functions(pf)})
    if not found and base is not None:
        found = [base.offset(GENERATED_OFFSET + number) for number in range(GENERATED_FUNCTIONS)]
    return [Device(str(address), representor(address, multiport=multiport, sysfs=sysfs), address) for address in found]


def representor(address: PciAddress, *, multiport: bool = False, sysfs: Path = SYSFS) -> str:
    """The engine's name of a virtual function: its PF's address and its number among the PF's functions."""
    directory = sysfs / "bus/pci/devices" / str(address)
    parent = directory / "physfn"
    if parent.exists():
        pf = PciAddress.parse(parent.resolve().name)
        offset, stride = _integer(parent / "sriov_offset"), _integer(parent / "sriov_stride") or 1
    else:
        pf, offset, stride = PciAddress(address.domain, address.bus, 0, 0), GENERATED_OFFSET, 1
    number = (_routing_id(address) - _routing_id(pf) - offset) // stride
    if number < 0:
        raise ValueError(f"{address} lies before the first virtual function of {pf}")
    return f"{pf}_representor_{'c0pf0vf' if multiport else 'vf'}{number}"


def _physical_functions(sysfs: Path) -> Iterator[Path]:
    devices = sysfs / "bus/pci/devices"
    if not devices.is_dir():
        return
    for directory in sorted(devices.iterdir()):
        try:
            usable = (
                _integer(directory / "vendor") == MELLANOX_VENDOR
                and _integer(directory / "class") >> 16 == NETWORK_CLASS
                and _integer(directory / "sriov_numvfs") > 0
            )
        except (OSError, ValueError):
            continue  # not an SR-IOV device
        if usable:
            yield directory


def _virtual_functions(pf: Path) -> Iterator[PciAddress]:
    for link in pf.iterdir():
        if _VIRTUAL_FUNCTION.fullmatch(link.name):
            yield PciAddress.parse(link.resolve().name)


def _routing_id(address: PciAddress) -> int:
    return address.bus << 8 | address.device << 3 | address.function


def _integer(path: Path) -> int:
    return int(path.read_text().strip(), 0)
