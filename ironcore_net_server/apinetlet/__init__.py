"""The tenant bridge: networks, virtual IPs and interfaces of tenants, realized in the fabric's API and told back."""

from __future__ import annotations

from apimachinery.controller import Controller, ControllerContext
from ironcore_net_server.apinetlet.config import ApinetletConfig
from ironcore_net_server.apinetlet.interfaces import InterfaceController
from ironcore_net_server.apinetlet.networks import NetworkController
from ironcore_net_server.apinetlet.virtual_ips import VirtualIPController

__all__ = ["ApinetletConfig", "controllers"]


def controllers(context: ControllerContext) -> list[Controller]:
    """Entry point; option api_net_namespace names the fabric's namespace that tenants are mirrored into."""
    config = ApinetletConfig(str(context.options.get("api_net_namespace", "default")))
    return [
        NetworkController(config, context).controller,
        VirtualIPController(config, context).controller,
        InterfaceController(config, context).controller,
    ]
