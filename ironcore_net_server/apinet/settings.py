"""Settings of the apinet group, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from apimachinery.errors import FieldViolation, InvalidArgument
from ironcore_net_server.allocation.pool import Pool, address_pools

MIN_NETWORK_ID: Final = 1
MAX_NETWORK_ID: Final = (1 << 24) - 1
DEFAULT_MIN_NETWORK_ID: Final = 200
DEFAULT_QUARANTINE_SECONDS: Final = 60
MAX_QUARANTINE_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class ApinetSettings:
    """What the group hands out.

    ipv4, ipv6:         pools of public addresses, in the order of use.
    network_ids:        pool of network ids; ids outside it are refused.
    quarantine_seconds: how long a released address or network id stays taken, so that no data plane still sends to its
                        former holder when it is handed out again.
    """

    ipv4: tuple[Pool, ...]
    ipv6: tuple[Pool, ...]
    network_ids: Pool
    quarantine_seconds: int

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> ApinetSettings:
        """From the options public_prefixes (texts), min_vni, max_vni, quarantine_seconds (integers).

        Raises InvalidArgument that names the option.
        """
        prefixes = options.get("public_prefixes", ())
        if not isinstance(prefixes, Sequence) or isinstance(prefixes, str):
            raise _invalid("public_prefixes", "must be a list of prefixes")
        try:
            pools = address_pools([str(prefix) for prefix in prefixes])
        except ValueError as error:
            raise _invalid("public_prefixes", str(error)) from None
        low = _integer(options, "min_vni", DEFAULT_MIN_NETWORK_ID, MIN_NETWORK_ID, MAX_NETWORK_ID)
        high = _integer(options, "max_vni", MAX_NETWORK_ID, MIN_NETWORK_ID, MAX_NETWORK_ID)
        if low > high:
            raise _invalid("min_vni", f"must not exceed max_vni, which is {high}")
        quarantine = _integer(options, "quarantine_seconds", DEFAULT_QUARANTINE_SECONDS, 0, MAX_QUARANTINE_SECONDS)
        return cls(tuple(pools[4]), tuple(pools[6]), Pool(f"network ids {low}-{high}", low, high), quarantine)


def _integer(options: Mapping[str, object], name: str, default: int, low: int, high: int) -> int:
    value = options.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _invalid(name, f"must be an integer between {low} and {high}")
    return value


def _invalid(name: str, message: str) -> InvalidArgument:
    return InvalidArgument("the settings of the apinet group are invalid", violations=[FieldViolation(name, message)])
