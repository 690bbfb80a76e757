"""Capture files (pcap 2.4, Ethernet), as tcpdump and Wireshark read them."""

from __future__ import annotations

import struct
from typing import BinaryIO

SNAP_LENGTH = 9100
_MAGIC = 0xA1B2C3D4
_ETHERNET = 1


class PcapWriter:
    """Writes to a file that is open for binary writing; the caller closes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        file.write(struct.pack("=IHHiIII", _MAGIC, 2, 4, 0, 0, SNAP_LENGTH, _ETHERNET))

    def write(self, timestamp_ns: int, frame: bytes, length: int) -> None:
        """Adds a frame of `length` bytes, of which `frame` is the beginning."""
        seconds, rest = divmod(timestamp_ns, 1_000_000_000)
        kept = frame[:SNAP_LENGTH]
        self._file.write(struct.pack("=IIII", seconds, rest // 1000, len(kept), length) + kept)
        self._file.flush()
