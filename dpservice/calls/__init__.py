"""What each RPC does: arguments are checked in the order and with the texts clients know, then the engine is asked."""

# Importing a topic registers its calls.
from dpservice.calls import capture, firewall, interfaces, load_balancers, prefixes, process, public_addresses, routes
from dpservice.calls.registry import CALLS, SERVICE, Api, RpcError, answer

__all__ = [
    "CALLS",
    "SERVICE",
    "Api",
    "RpcError",
    "answer",
    "capture",
    "firewall",
    "interfaces",
    "load_balancers",
    "prefixes",
    "process",
    "public_addresses",
    "routes",
]
