"""What a device of the pool is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_PCI = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


@dataclass(frozen=True, slots=True, order=True)
class PciAddress:
    """Address of a PCI function. domain 0..0xffff, bus 0..0xff, device 0..31, function 0..7."""

    domain: int
    bus: int
    device: int
    function: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "0000:3b:02.1"; the domain may be missing. Raises ValueError."""
        match = _PCI.fullmatch(text.lower())
        if match is None:
            raise ValueError(f"{text!r} is not a PCI address")
        domain, bus, device = (int(part or "0", 16) for part in match.groups()[:3])
        if device > 31:
            raise ValueError(f"{text!r} has a device number above 1f")
        return cls(domain, bus, device, int(match[4]))

    def offset(self, functions: int) -> PciAddress:
        """The address so many functions further; carries into device and bus."""
        number = (self.bus << 8 | self.device << 3 | self.function) + functions
        return PciAddress(self.domain, number >> 8, number >> 3 & 0x1F, number & 0x7)

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"


@dataclass(frozen=True, slots=True)
class Device:
    """One device that an interface can be put on.

    name: what the machine provider is told and what claims record: a network device or a PCI address.
    engine: the engine's name of the same device. pci: set for PCI functions.
    """

    name: str
    engine: str
    pci: PciAddress | None = None
