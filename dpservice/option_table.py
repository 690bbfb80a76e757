"""Every option of the command line and the config file. Names, ranges and defaults of the first part are those of the
reference; the second part is this service's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dpservice.option_values import (
    choice,
    integer,
    ipv4_lenient,
    ipv6,
    listen,
    listen_tcp,
    maglev_size,
    on_off,
    text,
    virtual_service,
)

_NAME = text(15)
_MAX_ALLOW = 127
_MAX_LOCKFILE = 255
_MAX_DNS4 = 63
_MAX_DNS6 = 15
_MAX_VIRTUAL_SERVICES = 256
_SECONDS = integer(1, 1 << 24)
_COUNT = integer(1, 1 << 30)


@dataclass(frozen=True, slots=True)
class Option:
    """One option. Without `argument` it is a flag that sets its field to `flag_value`."""

    name: str
    target: str
    argument: str = ""
    help: str = ""
    convert: Callable[[str], object] = field(default=str)
    flag_value: bool = True
    limit: int = 0
    """More than 0: a list of at most so many values."""


REFERENCE_OPTIONS = (
    Option("help", "", help="display this help and exit"),
    Option("version", "", help="display version and exit"),
    Option("pf0", "pf0", "IFNAME", "first physical interface (e.g. eth0)", _NAME),
    Option("pf1", "pf1", "IFNAME", "second physical interface (e.g. eth1)", _NAME),
    Option("ipv6", "ipv6", "ADDR6", "IPv6 underlay address of this host", ipv6),
    Option("vf-pattern", "vf_pattern", "PATTERN", "interfaces with this in their name belong to VMs (e.g. vf)", _NAME),
    Option("dhcp-mtu", "dhcp_mtu", "SIZE", "MTU told by DHCPv4, 68..1500", integer(68, 1500)),
    Option("dhcp-dns", "dhcp_dns", "IPv4", "name server told by DHCPv4 (repeatable)", ipv4_lenient, limit=_MAX_DNS4),
    Option("dhcpv6-dns", "dhcpv6_dns", "ADDR6", "name server told by DHCPv6 (repeatable)", ipv6, limit=_MAX_DNS6),
    Option(
        "udp-virtsvc",
        "udp_virtual_services",
        "IPv4,port,IPv6,port",
        "IPv4 endpoint for VMs that stands for an IPv6 server (repeatable)",
        virtual_service,
        limit=_MAX_VIRTUAL_SERVICES,
    ),
    Option(
        "tcp-virtsvc",
        "tcp_virtual_services",
        "IPv4,port,IPv6,port",
        "IPv4 endpoint for VMs that stands for an IPv6 server (repeatable)",
        virtual_service,
        limit=_MAX_VIRTUAL_SERVICES,
    ),
    Option("wcmp", "wcmp", "PERCENTAGE", "share of flows that leave by PF0, 0..100", integer(0, 100)),
    Option("nic-type", "nic_type", "NICTYPE", "mellanox, tap or bluefield2", choice("mellanox", "tap", "bluefield2")),
    Option(
        "no-stats", "stats", help="accepted and ignored: nothing is printed, see --metrics-listen", flag_value=False
    ),
    Option("enable-ipv6-overlay", "ipv6_overlay", help="neighbour discovery and router advertisements towards VMs"),
    Option("no-offload", "offload", help="forward in software only", flag_value=False),
    Option("graphtrace-loglevel", "graphtrace_level", "LEVEL", "0..2, accepted and ignored", integer(0, 2)),
    Option("color", "color", "MODE", "colours of text logs: never, always or auto", choice("never", "always", "auto")),
    Option("log-format", "log_format", "FORMAT", "text or json", choice("text", "json")),
    Option("grpc-port", "grpc_port", "PORT", "gRPC port, 1024..65535", integer(1024, 65535)),
    Option("flow-timeout", "flow_timeout", "SECONDS", "idle time of flows not established, 1..300", integer(1, 300)),
    Option("multiport-eswitch", "multiport_eswitch", help="the uplinks share one e-switch; needs --no-offload"),
    Option("active-lockfile", "active_lockfile", "PATH", "forward only while this file is locked", text(_MAX_LOCKFILE)),
    Option("sync-tap", "sync_tap", "IFNAME", "device that leads to the other engine of a pair", _NAME),
    Option("debug-coredumps", "debug_coredumps", help="dump all memory when crashing"),
)

OWN_OPTIONS = (
    Option("poll-mode", "poll_mode", "MODE", "adaptive or busy", choice("adaptive", "busy")),
    Option(
        "grpc-listen",
        "grpc_listen",
        "ADDRESS",
        "host:port, [IPv6]:port or unix:/path (repeatable; else --grpc-port)",
        listen,
        limit=16,
    ),
    Option("tls-cert", "tls_cert", "FILE", "certificate of the gRPC server (PEM)"),
    Option("tls-key", "tls_key", "FILE", "key of --tls-cert (PEM)"),
    Option("tls-client-ca", "tls_client_ca", "FILE", "serve only clients with a certificate of this CA"),
    Option("insecure", "insecure", help="serve beyond this machine without mutual TLS"),
    Option("metrics-listen", "metrics_listen", "ADDRESS", "serve Prometheus metrics at host:port", listen_tcp),
    Option(
        "log-level",
        "log_level",
        "LEVEL",
        "debug, info, warning or error",
        choice("debug", "info", "warning", "error"),
    ),
    Option(
        "firewall",
        "firewall",
        "MODE",
        "enforce, observe (count what rules would drop) or off",
        choice("enforce", "observe", "off"),
    ),
    Option(
        "reference-firewall-api",
        "reference_firewall_api",
        "on|off",
        "refuse firewall rules that drop (441), as the reference does",
        on_off,
    ),
    Option("antispoof", "antispoof", "on|off", "VMs send only from their own addresses", on_off),
    Option("ipv6-public", "ipv6_public", "on|off", "VIP and NAT addresses may be IPv6", on_off),
    Option("multipath", "multipath", "on|off", "a prefix may have several next hops", on_off),
    Option("flow-label", "flow_label", "on|off", "outer flow labels differ by flow", on_off),
    Option("capture", "capture", "on|off", "packets can be captured in software", on_off),
    Option("meter-taps", "meter_taps", "on|off", "rate limits hold on TAP devices too", on_off),
    Option(
        "flow-table-size",
        "flow_table_size",
        "ENTRIES",
        "flow entries, two per connection, 1024..268435456",
        integer(1024, 1 << 28),
    ),
    Option("flow-quota", "flow_quota", "COUNT", "connections of one interface, 0: no limit", integer(0, (1 << 32) - 1)),
    Option(
        "timeout-tcp-established", "timeout_tcp_established", "SECONDS", "idle time of established TCP flows", _SECONDS
    ),
    Option("timeout-tcp-forwarded", "timeout_tcp_forwarded", "SECONDS", "of those to targets of other hosts", _SECONDS),
    Option(
        "timeout-tcp-transitory", "timeout_tcp_transitory", "SECONDS", "of other TCP (else --flow-timeout)", _SECONDS
    ),
    Option("timeout-udp", "timeout_udp", "SECONDS", "of UDP (else --flow-timeout)", _SECONDS),
    Option("timeout-icmp", "timeout_icmp", "SECONDS", "of ICMP (else --flow-timeout)", _SECONDS),
    Option("timeout-other", "timeout_other", "SECONDS", "of other protocols (else --flow-timeout)", _SECONDS),
    Option("max-vnis", "max_vnis", "COUNT", "networks on this host, 1..16777216", integer(1, 1 << 24)),
    Option("max-routes", "max_routes", "COUNT", "routes of a network and family", _COUNT),
    Option("max-underlay-addresses", "max_underlay_addresses", "COUNT", "underlay addresses of this host", _COUNT),
    Option("max-nat-flows", "max_nat_flows", "COUNT", "NAT port mappings", _COUNT),
    Option("max-public-addresses", "max_public_addresses", "COUNT", "VIP and NAT addresses, by network", _COUNT),
    Option("max-neighbor-nats", "max_neighbor_nats", "COUNT", "NAT ranges of other hosts", _COUNT),
    Option("max-load-balancers", "max_load_balancers", "COUNT", "load balancers, 1..65536", integer(1, 65536)),
    Option(
        "max-load-balancer-targets", "max_load_balancer_targets", "COUNT", "of one of them, 1..65535", integer(1, 65535)
    ),
    Option("maglev-size", "maglev_size", "PRIME", "slots by which targets are chosen, 0: by their number", maglev_size),
    Option("enable-underlay-type", "underlay_type", help="generated underlay addresses tell their type"),
    Option("enable-static-underlay-ip", "static_underlay", help="predictable underlay addresses (for tests)"),
)

FILE_ONLY_OPTIONS = (
    Option("a-pf0", "allow_pf0", "DEVICE", convert=text(_MAX_ALLOW)),
    Option("a-pf1", "allow_pf1", "DEVICE", convert=text(_MAX_ALLOW)),
)
