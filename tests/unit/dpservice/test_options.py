"""The command line and the config file, as values."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpservice import _engine
from dpservice.getopt import ScanError, scan
from dpservice.listen import parse_address
from dpservice.main import engine_options, flow_timeouts
from dpservice.options import DROP_IN, Options, UsageError, parse, parse_config, parse_service_arguments, usage

NO_FILE = {"DP_CONF": ""}


def service(*arguments: str) -> Options:
    return parse(["--", *arguments], NO_FILE).options


def error(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(["--", *arguments], NO_FILE)
    return str(caught.value)


def test_defaults() -> None:
    options = service()
    assert (options.grpc_port, options.dhcp_mtu, options.wcmp, options.nic_type) == (1337, 1500, 100, "mellanox")
    assert [str(address) for address in options.grpc_addresses()] == ["[::1]:1337", "127.0.0.1:1337"]


def test_command_line_of_a_reference_deployment() -> None:
    words = "-l 0,1 --vdev=net_tap0 -- --pf0=tap0 --pf1 tap1 --vf-pattern=vf --ipv6=fc00:1::1 --nic-type=tap"
    options = parse(f"{words} --enable-ipv6-overlay --no-offload --no-stats".split(), NO_FILE).options
    assert options.eal_args == ("-l", "0,1", "--vdev=net_tap0")
    assert (options.pf0, options.pf1, options.vf_pattern) == ("tap0", "tap1", "vf")
    assert options.ipv6 == socket.inet_pton(socket.AF_INET6, "fc00:1::1")
    assert (options.ipv6_overlay, options.offload, options.stats) == (True, False, False)


def test_defaults_of_the_two_programs() -> None:
    own = service()
    assert (own.firewall, own.antispoof, own.multipath, own.ipv6_public, own.meter_taps) == ("enforce",) + (True,) * 4
    assert not own.reference_firewall_api
    drop_in = parse(["--"], NO_FILE, DROP_IN).options
    assert (drop_in.firewall, drop_in.antispoof, drop_in.multipath, drop_in.ipv6_public) == ("observe",) + (False,) * 3
    assert (drop_in.meter_taps, drop_in.reference_firewall_api, drop_in.served_everywhere) == (False, True, True)
    assert [str(address) for address in drop_in.grpc_addresses()] == ["[::]:1337"]


def test_the_drop_in_listens_where_it_is_told() -> None:
    def drop_in(*words: str) -> Options:
        return parse(["--", *words], NO_FILE, DROP_IN).options

    assert [str(address) for address in drop_in("--grpc-port=2000").grpc_addresses()] == ["[::]:2000"]
    local = drop_in("--grpc-listen=127.0.0.1")
    assert ([str(address) for address in local.grpc_addresses()], local.served_everywhere) == (
        ["127.0.0.1:1337"],
        False,
    )
    with pytest.raises(UsageError, match="--insecure"):
        drop_in("--grpc-listen=0.0.0.0")
    with pytest.raises(UsageError, match="other machines"):
        drop_in("--metrics-listen=192.0.2.1:9064")
    with pytest.raises(UsageError, match=r"^dpservice-bin: unrecognized option '--bogus'$"):
        drop_in("--bogus")
    assert usage(DROP_IN).startswith("Usage: dpservice-bin [EAL options]")


def test_telemetry_is_served_by_one_of_us() -> None:
    def eal(*words: str) -> tuple[bool, list[str]]:
        options = parse([*words, "--"], NO_FILE).options
        return options.telemetry, options.effective_eal_args()

    assert eal("-l", "0") == (True, ["-l", "0", "--no-telemetry"])
    assert eal("--telemetry") == (False, ["--telemetry"])
    assert eal("--no-telemetry") == (False, ["--no-telemetry"])


def test_idle_times() -> None:
    def seconds(*words: str) -> tuple[int, ...]:
        found = flow_timeouts(service(*words))
        return found.tcp_established, found.tcp_transitory, found.udp, found.icmp, found.other

    assert seconds() == (86400, 30, 30, 30, 30)
    assert seconds("--flow-timeout=7") == (86400, 7, 7, 7, 7)
    assert flow_timeouts(service("--timeout-tcp-forwarded=77")).tcp_forwarded == 77
    words = ["--timeout-udp=9", "--timeout-tcp-established=100", "--flow-timeout=7", "--timeout-icmp=16777216"]
    assert seconds(*words, "--timeout-tcp-transitory=1", "--timeout-other=2") == (100, 1, 9, 16777216, 2)


def test_every_own_option_reaches_the_engine() -> None:
    words = {
        "flow-quota": ("flow_quota", 5),
        "max-vnis": ("max_vnis", 6),
        "max-routes": ("max_routes_per_vni", 7),
        "max-underlay-addresses": ("max_underlay_addresses", 8),
        "max-nat-flows": ("max_nat_flows", 9),
        "max-public-addresses": ("max_public_addresses", 10),
        "max-neighbor-nats": ("max_neighbor_nats", 11),
        "max-load-balancers": ("max_load_balancers", 12),
        "max-load-balancer-targets": ("max_load_balancer_targets", 13),
        "maglev-size": ("maglev_size", 65537),
    }
    switches = {
        "antispoof": "antispoof",
        "ipv6-public": "ipv6_public",
        "multipath": "multipath",
        "flow-label": "flow_label_entropy",
        "meter-taps": "meter_software_devices",
    }
    given = service(*(f"--{name}={value}" for name, (_, value) in words.items()), "--firewall=off")
    engine = engine_options(given)
    assert {field: getattr(engine, field) for field, _ in words.values()} == dict(words.values())
    assert engine.firewall is _engine.FirewallMode.OFF
    for name, field in switches.items():
        for text, value in (("on", True), ("off", False)):
            assert getattr(engine_options(service(f"--{name}={text}")), field) is value


def test_virtual_services() -> None:
    words = ("--tcp-virtsvc", "169.254.1.2,1,2001:db8::1,65535", "--udp-virtsvc=169.254.1.1,53,2001:db8::53,54")
    found = [
        (service.protocol, service.virtual_address, service.virtual_port, service.server_port)
        for service in engine_options(service(*words)).virtual_services
    ]
    assert found == [(17, bytes([169, 254, 1, 1]), 53, 54), (6, bytes([169, 254, 1, 2]), 1, 65535)]


def test_without_separator_everything_is_for_the_eal() -> None:
    command = parse(["-l", "0", "--pf0=x"], NO_FILE)
    assert command.options.eal_args == ("-l", "0", "--pf0=x")
    assert command.options.pf0 == ""


def test_last_scalar_wins_and_lists_accumulate() -> None:
    options = service("--wcmp=1", "--dhcp-dns=8.8.8.8", "--wcmp", "50", "--dhcp-dns", "1.1")
    assert options.wcmp == 50
    assert options.dhcp_dns == (bytes([8, 8, 8, 8]), bytes([1, 0, 0, 1]))


def test_list_limits() -> None:
    assert len(service(*["--dhcp-dns=1.1.1.1"] * 63).dhcp_dns) == 63
    assert error(*["--dhcp-dns=1.1.1.1"] * 64) == "More than 63 values\nInvalid argument for '--dhcp-dns'"
    assert len(service(*["--dhcpv6-dns=::1"] * 15).dhcpv6_dns) == 15
    assert "--dhcpv6-dns" in error(*["--dhcpv6-dns=::1"] * 16)


def test_abbreviations() -> None:
    assert service("--dhcp-m=1400").dhcp_mtu == 1400
    assert service("--no-of").offload is False
    # Own options never make an abbreviation of the reference ambiguous.
    assert service("--grpc=2000").grpc_port == 2000
    assert service("--enable").ipv6_overlay is True
    assert service("--flow=7").flow_timeout == 7
    assert service("--poll=busy").poll_mode == "busy"
    assert "ambiguous" in error("--pf=x")
    assert "'--no-stats' '--no-offload'" in error("--no")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--bogus"], "unrecognized option '--bogus'"),
        (["--pf0"], "option '--pf0' requires an argument"),
        (["--no-stats=1"], "option '--no-stats' doesn't allow an argument"),
        (["-x"], "invalid option -- 'x'"),
    ],
)
def test_scan_errors_name_the_option(words: list[str], text: str) -> None:
    assert error(*words) == f"dpservice: {text}"


@pytest.mark.parametrize(
    "word",
    [
        "--pf0=sixteen-letters-",
        "--ipv6=10.0.0.1",
        "--ipv6=::1%lo",
        "--dhcp-mtu=67",
        "--dhcp-mtu=1501",
        "--dhcp-mtu=1e3",
        "--dhcp-mtu=",
        "--dhcp-dns=1.2.3.4.5",
        "--dhcpv6-dns=1.2.3.4",
        "--wcmp=101",
        "--wcmp=-1",
        "--nic-type=virtio",
        "--color=blue",
        "--log-format=xml",
        "--grpc-port=1023",
        "--grpc-port=65536",
        "--flow-timeout=0",
        "--flow-timeout=301",
        "--poll-mode=lazy",
        "--grpc-listen=:1",
        "--grpc-listen=unix:relative",
        "--metrics-listen=unix:/x",
        "--flow-table-size=1000",
        "--udp-virtsvc=169.254.1.1,53,::1",
        "--udp-virtsvc=169.254.1,53,::1,53",
        "--tcp-virtsvc=169.254.1.1,0,::1,53",
        "--tcp-virtsvc=169.254.1.1,53,::1,65536",
        "--graphtrace-loglevel=3",
        "--firewall=on",
        "--antispoof=yes",
        "--timeout-udp=0",
        "--timeout-tcp-established=16777217",
        "--flow-quota=-1",
        "--max-vnis=0",
        "--max-load-balancers=65537",
        "--max-load-balancer-targets=65536",
        "--maglev-size=504",
        "--maglev-size=2",
        "--maglev-size=1048577",
    ],
)
def test_bad_values_give_a_reason_and_the_option(word: str) -> None:
    reason, _, last = error(word).partition("\n")
    assert reason
    assert last == f"Invalid argument for '{word.partition('=')[0]}'"


def test_help_and_version_stop_the_scan() -> None:
    assert parse(["--", "--wcmp=1", "-h", "--bogus"], NO_FILE).show == "help"
    assert parse(["--", "-v"], NO_FILE).show == "version"
    assert parse(["--help"], NO_FILE).show == "help"
    with pytest.raises(UsageError):
        parse(["--", "--bogus", "--help"], NO_FILE)


def test_usage_lists_every_option() -> None:
    text = usage()
    for name in ("--pf0=IFNAME", "--poll-mode=MODE", "-h, --help", "--no-stats"):
        assert name in text


def test_combinations() -> None:
    assert error("--multiport-eswitch") == "--multiport-eswitch needs --no-offload"
    assert service("--multiport-eswitch", "--no-offload").multiport_eswitch
    pair = engine_options(service("--active-lockfile=/run/lock", "--sync-tap=sync0"))
    assert (pair.active_lockfile, pair.sync_tap) == ("/run/lock", "sync0")
    assert "--tls-key" in error("--tls-cert=/c")
    assert "--insecure" in error("--grpc-listen=0.0.0.0:1337")
    assert "--insecure" in error("--grpc-listen=[::]", "--tls-cert=/c", "--tls-key=/k")
    assert "other machines" in error("--metrics-listen=192.0.2.1:9064")
    assert service("--grpc-listen=[::]", "--insecure").grpc_addresses()[0].port == 1337
    assert service("--grpc-listen=[::]:1", "--tls-cert=/c", "--tls-key=/k", "--tls-client-ca=/a").tls() is not None
    assert service("--grpc-listen=unix:/run/dp.sock").grpc_addresses()[0].path == "/run/dp.sock"


def test_config_file_comes_before_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_text(
        "# comment\npf0 eth0 ignored\nno-stats\n\nwcmp\t30\n  dhcp-dns \t 9.9.9.9\na-pf0 0000:01:00.0,x=[0-3]\n"
    )
    options = parse(["-l", "1", "--", "--wcmp=40", "--dhcp-dns=8.8.8.8"], {"DP_CONF": str(path)}).options
    assert (options.pf0, options.stats, options.wcmp) == ("eth0", False, 40)
    assert options.dhcp_dns == (bytes([9] * 4), bytes([8] * 4))
    assert options.effective_eal_args() == ["-l", "1", "-a", "0000:01:00.0,x=[0-3]", "--no-telemetry"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("help", "c:1: unknown key 'help'"),
        ("version", "c:1: unknown key 'version'"),
        ("pf0 a\nbogus 1", "c:2: unknown key 'bogus'"),
        ("pf0", "c:1: key 'pf0' requires a value"),
        ("   ", "c:1: unknown key ''"),
        (" # indented", "c:1: unknown key '#'"),
        ("wcmp 200", "c:1: Value '200' is out of range 0..100\nInvalid argument for '--wcmp'"),
        ("pf", "c:1: unknown key 'pf'"),
        (
            "a-pf1 " + "x" * 128,
            f"c:1: Value '{'x' * 128}' is longer than 127 characters\nInvalid argument for '--a-pf1'",
        ),
    ],
)
def test_config_errors_name_the_line(text: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_config("c", text)
    assert str(caught.value) == expected


def test_config_file_location(tmp_path: Path) -> None:
    assert parse(["--"], {"DP_CONF": ""}).options == Options()
    assert parse(["--"], {"DP_CONF": ""}, DROP_IN).options == DROP_IN.defaults
    with pytest.raises(UsageError, match="No such file"):
        parse(["--"], {"DP_CONF": str(tmp_path / "missing")})
    with pytest.raises(UsageError, match="directory"):
        parse(["--"], {"DP_CONF": str(tmp_path)})


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=6))
def test_any_words_give_options_or_a_usage_error(words: list[str]) -> None:
    try:
        parse_service_arguments(words, Options())
    except UsageError as problem:
        assert str(problem)


@given(st.text(max_size=80))
def test_any_config_text_gives_options_or_an_error_with_a_line(text: str) -> None:
    try:
        parse_config("c", text)
    except UsageError as problem:
        assert str(problem).startswith("c:")


@given(
    st.integers(68, 1500),
    st.integers(0, 100),
    st.lists(st.binary(min_size=16, max_size=16), max_size=15),
    st.permutations(["mtu", "wcmp", "dns"]),
    st.booleans(),
)
def test_what_is_written_is_read(mtu: int, wcmp: int, servers: list[bytes], order: list[str], joined: bool) -> None:
    texts = [socket.inet_ntop(socket.AF_INET6, server) for server in servers]
    pairs = {"mtu": [("dhcp-mtu", str(mtu))], "wcmp": [("wcmp", str(wcmp))], "dns": [("dhcpv6-dns", t) for t in texts]}
    chosen = [pair for key in order for pair in pairs[key]]
    words = [word for name, value in chosen for word in ([f"--{name}={value}"] if joined else [f"--{name}", value])]
    options = service(*words)
    assert (options.dhcp_mtu, options.wcmp, options.dhcpv6_dns) == (mtu, wcmp, tuple(servers))
    from_file = parse_config("c", "\n".join(f"{name} {value}" for name, value in chosen))
    assert (from_file.dhcp_mtu, from_file.wcmp, from_file.dhcpv6_dns) == (mtu, wcmp, tuple(servers))


def test_scan_skips_stray_words_and_stops_at_the_second_separator() -> None:
    found = list(scan(["a", "--x", "--y", "b", "-", "--", "--z"], {"x": True, "z": False}, {}, preferred=frozenset()))
    assert found == [("x", "--y")]
    with pytest.raises(ScanError):
        list(scan(["--z=1"], {"z": False}, {}, preferred=frozenset()))


@pytest.mark.parametrize("text", ["[::1]:5", "127.0.0.1:0", "unix:/a b", "localhost:65535"])
def test_addresses_round_trip(text: str) -> None:
    assert str(parse_address(text)) == text
    assert parse_address(text).is_local


@pytest.mark.parametrize("text", ["", ":1", "a:b", "a:65536", "[::1", "[::1]x", "[x]:1", "host", "a:-1", "1:2:3:g"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_address(text)


@pytest.mark.parametrize(("text", "local"), [("::", False), ("[::]:1", False), ("10.0.0.1:1", False), ("::1", True)])
def test_what_is_local(text: str, local: bool) -> None:
    assert parse_address(text, 1).is_local is local
