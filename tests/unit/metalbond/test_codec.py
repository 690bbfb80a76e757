"""Bytes on the wire: known frames, round trips, hostile input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ironcore.metalbond.v1 import metalbond_pb2 as pb

from metalbond import codec
from metalbond.codec import Hello, MessageType
from metalbond.types import Destination, HopType, NextHop, Route

NET = Destination.parse("10.0.0.0/24")
LB = Destination.parse("10.5.5.1/32")

# What other implementations of the protocol write and read.
CONTROL = [
    ("01 00 02 01 08 05", codec.encode_hello(Hello(5))),
    ("01 00 04 01 08 05 10 01", codec.encode_hello(Hello(5, is_server=True))),
    ("01 00 00 02", codec.KEEPALIVE),
    ("01 00 02 03 08 64", codec.encode_subscription(100, True)),
    ("01 00 00 03", codec.encode_subscription(0, True)),
    ("01 00 05 03 08 ff ff ff 07", codec.encode_subscription(16777215, True)),
    ("01 00 02 04 08 64", codec.encode_subscription(100, False)),
]
UPDATES = [
    (
        "01 00 20 05 10 64 1a 08 12 04 0a 00 00 00 18 18 22 12 0a 10 fd" + " 00" * 14 + " 02",
        (True, Route(100, NET, NextHop.to("fd00::2"))),
    ),
    (
        "01 00 22 05 08 01 10 64 1a 08 12 04 0a 00 00 00 18 18 22 12 0a 10 fd" + " 00" * 14 + " 02",
        (False, Route(100, NET, NextHop.to("fd00::2"))),
    ),
    (
        "01 00 1e 05 10 64 1a 06 12 04 00 00 00 00 22 12 0a 10 fd" + " 00" * 14 + " 01",
        (True, Route(100, Destination.parse("0.0.0.0/0"), NextHop.to("fd00::1"))),
    ),
    (
        "01 00 2c 05 10 64 1a 14 08 01 12 10" + " 00" * 16 + " 22 12 0a 10 fd" + " 00" * 14 + " 01",
        (True, Route(100, Destination.parse("::/0"), NextHop.to("fd00::1"))),
    ),
    (
        "01 00 2f 05 10 7b 1a 17 08 01 12 10 fd 00 00 01"
        + " 00" * 11
        + " 01 18 80 01 22 12 0a 10 fc"
        + " 00" * 14
        + " 05",
        (True, Route(123, Destination.parse("fd00:1::1/128"), NextHop.to("fc00::5"))),
    ),
    (
        "01 00 28 05 10 7b 1a 08 12 04 14 14 14 14 18 20 22 1a 0a 10 fc" + " 00" * 14 + " 07 18 01 20 e8 07 28 d0 0f",
        (
            True,
            Route(
                123, Destination.parse("20.20.20.20"), NextHop.to("fc00::7", HopType.NAT, nat_from=1000, nat_to=2000)
            ),
        ),
    ),
    (
        "01 00 22 05 10 7b 1a 08 12 04 0a 05 05 01 18 20 22 14 0a 10 fc" + " 00" * 14 + " 09 18 02",
        (True, Route(123, LB, NextHop.to("fc00::9", HopType.LOADBALANCER_TARGET))),
    ),
    (
        "01 00 22 05 10 7b 1a 08 12 04 0a 05 05 01 18 20 22 14 0a 10 fc" + " 00" * 14 + " 09 10 4d",
        (True, Route(123, LB, NextHop.to("fc00::9", vni=77))),
    ),
]


@pytest.mark.parametrize(("wire", "frame"), CONTROL, ids=[wire for wire, _ in CONTROL])
def test_control_frames_are_the_known_bytes(wire: str, frame: bytes) -> None:
    assert frame.hex(" ") == wire


@pytest.mark.parametrize(("wire", "update"), UPDATES, ids=[str(update[1]) for _, update in UPDATES])
def test_updates_are_the_known_bytes_in_both_directions(wire: str, update: tuple[bool, Route]) -> None:
    assert codec.encode_update(*update).hex(" ") == wire
    [(kind, payload)], used = codec.split(bytes.fromhex(wire))
    assert (kind, used) == (MessageType.UPDATE, len(bytes.fromhex(wire)))
    assert codec.decode_update(payload) == update


def test_hellos_of_the_original_protocol_are_understood() -> None:
    assert codec.decode_hello(bytes.fromhex("0805")) == Hello(5)
    assert codec.decode_hello(bytes.fromhex("08051001")) == Hello(5, is_server=True)


addresses = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
destinations = addresses.flatmap(lambda a: st.builds(Destination, st.just(a), st.integers(0, 8 * len(a))))
vnis = st.integers(0, 2**32 - 1)
ports = st.integers(0, 65535)
other_types = st.integers(-(2**31), 2**31 - 1).filter(lambda number: number != HopType.NAT)
hops = st.one_of(
    st.builds(NextHop, addresses, vnis, other_types, st.just(0), st.just(0)),
    st.builds(NextHop, addresses, vnis, st.just(int(HopType.NAT)), ports, ports),
)
routes = st.builds(Route, vnis, destinations, hops)
hellos = st.builds(
    Hello, st.integers(1, 2**32 - 1), st.booleans(), st.integers(0, 9), st.integers(0, 9999), st.binary(max_size=64)
)


@given(st.booleans(), routes)
def test_updates_survive_the_round_trip_and_are_short(add: bool, route: Route) -> None:
    assert not route.fault()
    frame = codec.encode_update(add, route)
    assert len(frame) <= 4 + 90
    [(kind, payload)], _ = codec.split(frame)
    assert kind is MessageType.UPDATE
    assert codec.decode_update(payload) == (add, route)


@given(hellos)
def test_hellos_survive_the_round_trip(hello: Hello) -> None:
    [(kind, payload)], _ = codec.split(codec.encode_hello(hello))
    assert kind is MessageType.HELLO
    assert codec.decode_hello(payload) == hello


@given(st.lists(st.tuples(st.sampled_from(MessageType), st.binary(max_size=40)), max_size=20), st.data())
def test_frames_are_found_however_the_stream_is_cut(
    frames: list[tuple[MessageType, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(codec.frame(*frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    found, rest = [], b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        rest += stream[start:end]
        some, used = codec.split(rest)
        found += some
        rest = rest[used:]
    assert found == frames
    assert rest == b""


@given(st.binary(max_size=3000))
def test_any_bytes_end_in_frames_or_a_typed_error(stream: bytes) -> None:
    try:
        frames, used = codec.split(stream)
    except codec.ProtocolError as error:
        assert error.reason in {"bad_version", "unknown_type", "payload_too_long"}
        return
    assert used == sum(codec.HEADER_BYTES + len(payload) for _, payload in frames)
    assert len(stream) - used < codec.HEADER_BYTES + codec.MAX_PAYLOAD


@given(st.binary(max_size=100))
def test_any_payload_is_decoded_or_refused_by_type(payload: bytes) -> None:
    for decode in (codec.decode_hello, codec.decode_subscription):
        try:
            decode(payload)
        except codec.BadPayloadError:
            continue
    try:
        _, route = codec.decode_update(payload)
    except (codec.BadPayloadError, codec.InvalidRouteError):
        return
    assert not route.fault()


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"\x02", codec.BadVersionError),
        (b"\x01\x00\x00\x00", codec.UnknownTypeError),
        (b"\x01\x00\x00\x06", codec.UnknownTypeError),
        (b"\x01\xff\xff\x05", codec.PayloadTooLongError),
        (b"\x01\x04\xa5\x05", codec.PayloadTooLongError),
    ],
)
def test_broken_frames_are_refused_at_once(stream: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        codec.split(stream)


def test_the_longest_payload_is_1188_bytes() -> None:
    frame = codec.frame(MessageType.UPDATE, bytes(1188))
    assert codec.split(frame)[1] == 1192
    with pytest.raises(codec.PayloadTooLongError):
        codec.frame(MessageType.UPDATE, bytes(1189))


def update(**fields: object) -> bytes:
    """A valid update with some fields replaced; None removes one."""
    message = pb.Update(
        vni=1,
        destination=pb.Destination(prefix=bytes(4), prefix_length=8),
        next_hop=pb.NextHop(target_address=bytes(16)),
    )
    for path, value in fields.items():
        target, _, field = path.rpartition("__")
        part = getattr(message, target) if target else message
        if value is None:
            part.ClearField(field)
        else:
            setattr(part, field, value)
    return message.SerializeToString()


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        update(destination=None),
        update(next_hop=None),
        update(destination__prefix=bytes(5)),
        update(destination__prefix=None),
        update(next_hop__target_address=bytes(3)),
    ],
)
def test_updates_that_break_the_protocol(payload: bytes) -> None:
    with pytest.raises(codec.BadPayloadError):
        codec.decode_update(payload)


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (update(action=2), "action"),
        (update(destination__ip_version=1), "ip_version"),
        (update(destination__prefix=bytes(16)), "ip_version"),
        (update(destination__prefix_length=200), "prefix_length"),
        (update(destination__prefix_length=4294967295), "prefix_length"),
        (update(next_hop__type=1, next_hop__nat_port_range_to=65536), "nat_port_range"),
    ],
)
def test_updates_that_mean_nothing_name_the_field(payload: bytes, field: str) -> None:
    with pytest.raises(codec.InvalidRouteError, match=field):
        codec.decode_update(payload)


def test_what_is_kept_as_it_came() -> None:
    _, route = codec.decode_update(update(destination__prefix=bytes([10, 2, 0, 5]), destination__prefix_length=24))
    assert str(route.destination) == "10.2.0.5/24"
    _, route = codec.decode_update(update(next_hop__type=77))
    assert route.hop.type == 77
    assert b"\x18\x4d" in codec.encode_update(True, route)


def test_ports_of_other_types_are_no_part_of_the_identity() -> None:
    _, with_ports = codec.decode_update(update(next_hop__nat_port_range_from=5))
    _, without = codec.decode_update(update())
    assert with_ports == without


def test_unknown_fields_are_ignored() -> None:
    extended = codec.encode_hello(Hello(5, revision=1, hold=30, identity=b"n"))[4:] + b"\xf8\x01\x07"
    assert codec.decode_hello(extended) == Hello(5, revision=1, hold=30, identity=b"n")


@pytest.mark.parametrize("payload", [b"", b"\x08\x00", b"\x08\x05\x92\x01\x41" + bytes(65)])
def test_bad_hellos(payload: bytes) -> None:
    with pytest.raises(codec.BadPayloadError, match="hello"):
        codec.decode_hello(payload)
