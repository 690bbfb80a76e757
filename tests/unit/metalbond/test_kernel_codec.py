"""rtnetlink bytes: against a message by hand, back and forth, and of other people's routes."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from metalbond.kernel import codec
from metalbond.kernel.plan import PROTOCOL, Installed, Key, choose, key_of
from metalbond.types import Destination

DEVICE = 7
A, B = (bytes.fromhex("fd00" + 27 * "0" + digit) for digit in "12")
V4, V6 = key_of(77, Destination.parse("10.1.0.0/24")), key_of(77, Destination.parse("fd10::/64"))
# Removal of 10.1.0.0/24 in table 77 with protocol 254, of any scope and type, as linux/rtnetlink.h lays it out.
BY_HAND = bytes.fromhex(
    "02180000 00feff00 00000000"  # rtmsg
    "08000100 0a010000"  # destination
    "08000f00 4d000000"  # table
)


def bare(key: Key) -> bytes:
    """A unicast route without next hops, for attributes to be appended."""
    header = bytearray(codec.encode_route(key, (), DEVICE))
    header[6:8] = (0, 1)
    return bytes(header)


addresses = st.binary(min_size=16, max_size=16)
keys = st.builds(
    key_of,
    st.integers(1, 0xFFFFFF),
    st.one_of(
        st.builds(Destination, st.binary(min_size=4, max_size=4), st.integers(0, 32)),
        st.builds(Destination, st.binary(min_size=16, max_size=16), st.integers(0, 128)),
    ),
)


def test_header_destination_and_table_are_those_of_the_kernel() -> None:
    assert codec.encode_route(V4, (), DEVICE) == BY_HAND


@given(keys, st.sets(addresses, min_size=1, max_size=8).map(choose))
def test_what_is_written_is_read_back(key: Key, hops: tuple[bytes, ...]) -> None:
    assert codec.decode_route(codec.encode_route(key, hops, DEVICE), DEVICE) == (key, Installed(hops))


def test_the_kernels_single_next_hop_form_is_the_same_route() -> None:
    """It answers with these attributes beside the destination, and not with a list of one."""
    oif = struct.pack("=HHI", 8, 4, DEVICE)
    plain = bare(V4) + oif + codec.encapsulation(A)
    assert codec.decode_route(plain, DEVICE) == (V4, Installed((A,)))
    gateway = struct.pack("=HH16s", 20, 5, codec.GATEWAY)
    onlink = bytearray(bare(V6) + oif + codec.encapsulation(A) + gateway)
    assert codec.decode_route(bytes(onlink), DEVICE) == (V6, Installed((), proper=False))
    onlink[8] = 4
    assert codec.decode_route(bytes(onlink), DEVICE) == (V6, Installed((A,)))


def test_other_devices_encapsulations_and_types_are_not_proper() -> None:
    mine = codec.encode_route(V4, (A, B), DEVICE)
    assert codec.decode_route(mine, DEVICE + 1) == (V4, Installed((), proper=False))
    through = struct.pack("=HHI", 8, 4, DEVICE)
    assert codec.decode_route(bare(V4) + through, DEVICE) == (V4, Installed((), proper=False))
    with_id = bytearray(mine)
    with_id[with_id.index(struct.pack("=HH", 12, 1)) + 11] = 9
    assert codec.decode_route(bytes(with_id), DEVICE) == (V4, Installed((B,), proper=False))
    blackhole = bytearray(mine)
    blackhole[7] = 6
    assert codec.decode_route(bytes(blackhole), DEVICE) == (V4, Installed((A, B), proper=False))


def test_other_protocols_and_cached_routes_are_passed_over() -> None:
    theirs = bytearray(codec.encode_route(V4, (A,), DEVICE))
    theirs[5] = 4
    assert codec.decode_route(bytes(theirs), DEVICE) is None
    cached = bytearray(codec.encode_route(V4, (A,), DEVICE))
    cached[8:12] = struct.pack("=I", 0x200)
    assert codec.decode_route(bytes(cached), DEVICE) is None


def test_events_tell_table_and_protocol() -> None:
    assert codec.route_of_event(codec.encode_route(V6, (A,), DEVICE)) == (77, PROTOCOL)
    assert codec.route_of_event(codec.encode_route(key_of(70_000, V4.destination), (), DEVICE)) == (70_000, PROTOCOL)


@given(st.binary(max_size=80))
def test_no_bytes_hang_or_break_the_reader(noise: bytes) -> None:
    codec.decode_route(struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 5, PROTOCOL, 0, 1, 0) + noise, DEVICE)
