"""Commands about the service as a whole: init, version, VNIs, capture, completion."""

from __future__ import annotations

from importlib.metadata import version

import click
from click.shell_completion import add_completion_class, get_completion_class
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from dpservice.cli import objects
from dpservice.cli.api import CliError, client_error
from dpservice.cli.commands import IP, UINT32
from dpservice.cli.frame import Command, Group, Session, with_session
from dpservice.cli.objects import Object
from dpservice.cli.powershell import PowershellComplete
from dpservice.cli.reading import get

PROGRAM = "dpservice-cli"
add_completion_class(PowershellComplete)
_VNI_TYPES = {"ipv4": 0, "0": 0, "ipv6": 1, "1": 1, "both": 2, "2": 2}
_PROTOCOL = "v1"


@click.command("init", cls=Command)
@with_session
def init(session: Session) -> None:
    """Initialize the service once; refuses if it already is."""
    with session.connect() as client:
        try:
            done = client.call("CheckInitialized", pb.CheckInitializedRequest())
        except CliError as error:
            if error.message != "not initialized":
                raise
        else:
            raise client_error(f"dp-service already initialized, uuid: {done.uuid}")
        reply = client.call("Initialize", pb.InitializeRequest())
    session.show(objects.make("Initialized", {}, {"uuid": reply.uuid}), "table")


@get.command("init")
@with_session
def get_init(session: Session) -> None:
    """Show the uuid of an initialized service."""
    with session.connect() as client:
        reply = client.call("CheckInitialized", pb.CheckInitializedRequest())
    session.show(objects.make("Initialized", {}, {"uuid": reply.uuid}), "table")


@get.command("version")
@with_session
def get_version(session: Session) -> None:
    """Show versions of the service and of this client."""
    own = {"client_protocol": _PROTOCOL, "client_name": PROGRAM, "client_version": version("ironcore-network")}
    with session.connect() as client:
        reply = client.call("GetVersion", pb.GetVersionRequest(**own))
    service = {"service_protocol": reply.service_protocol, "service_version": reply.service_version}
    session.show(objects.make("Version", own, service), "table")


@get.command("vni")
@click.option("--vni", type=UINT32, required=True)
@click.option("--vni-type", type=click.IntRange(0, 255), required=True, help="0: IPv4, 1: IPv6.")
@with_session
def get_vni(session: Session, vni: int, vni_type: int) -> None:
    """Tell whether a VNI is in use."""
    request = pb.CheckVniInUseRequest(vni=vni)
    request.type = vni_type  # type: ignore[assignment]  # the server judges unknown types
    with session.connect() as client:
        reply = client.call("CheckVniInUse", request)
    session.show(objects.make("Vni", {"vni": vni, "vni_type": vni_type}, {"in_use": reply.in_use}), "table")


@click.group(cls=Group)
def reset() -> None:
    """Reset a part of the service."""


@reset.command("vni")
@click.option("--vni", type=UINT32, required=True)
@click.option(
    "--vni-type", type=click.Choice(list(_VNI_TYPES), case_sensitive=False), default="both", show_default=True
)
@with_session
def reset_vni(session: Session, vni: int, vni_type: str) -> None:
    """Drop all routes of a VNI that were created through the API."""
    request = pb.ResetVniRequest(vni=vni)
    request.type = _VNI_TYPES[vni_type]  # type: ignore[assignment]  # an enum is a number here
    with session.connect() as client:
        client.call("ResetVni", request)
    session.show(objects.make("Vni", {"vni": vni, "vni_type": _VNI_TYPES[vni_type]}, {}), "name", "reset")


@click.group(cls=Group)
def capture() -> None:
    """Capture received packets."""


@capture.command("start")
@click.option("--sink-node-ip", type=IP, required=True)
@click.option("--udp-src-port", type=UINT32, required=True)
@click.option("--udp-dst-port", type=UINT32, required=True)
@click.option("--pf", multiple=True, help="Uplinks, for example 0,1 (repeatable).")
@click.option("--vf", multiple=True, help="Interface ids, separated by commas (repeatable).")
@with_session
def capture_start(
    session: Session, sink_node_ip: str, udp_src_port: int, udp_dst_port: int, pf: tuple[str, ...], vf: tuple[str, ...]
) -> None:
    """Start to capture."""
    uplinks, owners = ([word for one in words for word in one.split(",") if word] for words in (pf, vf))
    if not all(word in ("0", "1") for word in uplinks):
        raise click.UsageError("--pf takes 0 and 1")
    config = pb.CaptureConfig(
        sink_node_ip=objects.ip_message(sink_node_ip),
        udp_src_port=udp_src_port,
        udp_dst_port=udp_dst_port,
        interfaces=[
            *(pb.CapturedInterface(interface_type=pb.SINGLE_PF, pf_index=int(word)) for word in uplinks),
            *(pb.CapturedInterface(interface_type=pb.SINGLE_VF, vf_name=word.encode()) for word in owners),
        ],
    )
    with session.connect() as client:
        client.call("CaptureStart", pb.CaptureStartRequest(capture_config=config))
    metadata = {"capture_config": _capture_config(config)}
    session.show(objects.make("CaptureStart", metadata, {"interfaces": _captured(config)}), "table")


def _capture_config(config: pb.CaptureConfig) -> Object:
    return {
        "sink_node_ip": config.sink_node_ip.address.decode(),
        "udp_src_port": config.udp_src_port,
        "udp_dst_port": config.udp_dst_port,
    }


def _captured(config: pb.CaptureConfig) -> dict[str, list[str]]:
    captured: dict[str, list[str]] = {"pf": [], "vf": []}
    for one in config.interfaces:
        if one.interface_type == pb.SINGLE_PF:
            captured["pf"].append(str(one.pf_index))
        else:
            captured["vf"].append(one.vf_name.decode())
    return captured


@capture.command("stop")
@with_session
def capture_stop(session: Session) -> None:
    """Stop to capture."""
    with session.connect() as client:
        reply = client.call("CaptureStop", pb.CaptureStopRequest())
    session.show(objects.make("CaptureStop", {}, {"iface_cnt": reply.stopped_interface_cnt}), "table")


@capture.command("status")
@with_session
def capture_status(session: Session) -> None:
    """Tell what is captured."""
    with session.connect() as client:
        reply = client.call("CaptureStatus", pb.CaptureStatusRequest())
    spec: Object = {"operation_status": "ACTIVE" if reply.is_active else "NOT_ACTIVE"}
    if reply.is_active:
        config = reply.capture_config
        spec |= {"capture_config": _capture_config(config), "interfaces": _captured(config)}
    session.show(objects.make("CaptureStatus", {}, spec), "table")


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands in a shell."""
    completion_class = get_completion_class(shell)
    assert completion_class is not None
    click.echo(completion_class(context.find_root().command, {}, PROGRAM, "_DPSERVICE_CLI_COMPLETE").source())
