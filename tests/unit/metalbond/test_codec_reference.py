"""The parser of updates against the protobuf library, on damaged updates: same verdict, same values."""

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from ironcore.metalbond.v1 import metalbond_pb2 as pb

from metalbond import codec
from metalbond.codec import BadPayloadError, InvalidRouteError
from metalbond.types import Destination, HopType, NextHop, Route

numbers = st.one_of(st.integers(0, 40), st.sampled_from([127, 128, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]))
addresses = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16), st.binary(max_size=17))
enums = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 2)
destinations = st.builds(pb.Destination, ip_version=enums, prefix=addresses, prefix_length=numbers)
hops = st.builds(
    pb.NextHop,
    target_address=addresses,
    target_vni=numbers,
    type=enums,
    nat_port_range_from=numbers,
    nat_port_range_to=numbers,
)
messages = st.builds(
    pb.Update, action=enums, vni=numbers, destination=destinations, next_hop=hops, origin=st.binary(max_size=4)
)
damages = st.lists(
    st.tuples(st.integers(0, 200), st.sampled_from(["set", "insert", "delete", "repeat"]), st.integers(0, 255)),
    max_size=4,
)


def damaged(payload: bytes, damage: list[tuple[int, str, int]]) -> bytes:
    data = bytearray(payload)
    for at, how, value in damage:
        at %= len(data) + 1
        match how:
            case "set":
                data[at : at + 1] = bytes([value])
            case "insert":
                data[at:at] = bytes([value])
            case "delete":
                del data[at : at + 1 + value % 8]
            case "repeat":
                data[at:at] = data[at : at + value]
    return bytes(data[: codec.MAX_PAYLOAD])


def reference(payload: bytes) -> tuple[bool, Route] | type[Exception]:
    message = pb.Update()
    try:
        message.ParseFromString(payload)
    except DecodeError:
        return BadPayloadError
    to, via = message.destination, message.next_hop
    if len(to.prefix) not in (4, 16) or len(via.target_address) not in (4, 16):
        return BadPayloadError
    family = pb.IPV4 if len(to.prefix) == 4 else pb.IPV6
    if message.action not in (pb.ADD, pb.REMOVE) or to.ip_version != family or to.prefix_length > 8 * len(to.prefix):
        return InvalidRouteError
    low = high = 0
    if via.type == HopType.NAT:
        low, high = via.nat_port_range_from, via.nat_port_range_to
        if low > 65535 or high > 65535:
            return InvalidRouteError
    hop = NextHop(via.target_address, via.target_vni, via.type, low, high)
    return message.action == pb.ADD, Route(message.vni, Destination(to.prefix, to.prefix_length), hop)


def has_group(payload: bytes) -> bool:
    """Groups of the protobuf of old: the library skips them, the parser refuses them."""
    return any(byte & 7 in (3, 4) for byte in payload)


@settings(max_examples=1000)
@given(messages, damages)
def test_the_parser_agrees_with_the_library(message: pb.Update, damage: list[tuple[int, str, int]]) -> None:
    payload = damaged(message.SerializeToString(), damage)
    expected = reference(payload)
    try:
        found: object = codec.decode_update(payload)
    except (BadPayloadError, InvalidRouteError) as error:
        found = type(error)
    if found != expected:
        assert found is BadPayloadError and has_group(payload), f"{payload.hex()}: {found}, the library says {expected}"
