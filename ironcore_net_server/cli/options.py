"""Arguments and options by which commands choose objects, and the objects that they choose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import ApiError, InvalidArgument, Unavailable
from apimachinery.scheme import KindInfo, kind_info, metadata_of
from apimachinery.selectors import parse_field_selector, parse_label_selector
from ironcore_net_server.cli.arguments import Target, parse_targets, scheme
from ironcore_net_server.cli.completion import complete_resources
from ironcore_net_server.cli.files import read_manifests
from ironcore_net_server.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])

resources_argument = click.argument("resources", nargs=-1, shell_complete=complete_resources)


@dataclass(frozen=True, slots=True)
class Selection:
    """What the selector flags ask for."""

    labels: str = ""
    fields: str = ""

    def label_selector(self) -> meta_pb2.LabelSelector | None:
        """Raises click.UsageError."""
        try:
            return parse_label_selector(self.labels) if self.labels else None
        except InvalidArgument as error:
            raise click.UsageError(f"--selector: {error}") from None

    def field_requirements(self, info: KindInfo) -> list[meta_pb2.FieldRequirement]:
        """Raises click.UsageError that names the fields of the kind."""
        try:
            return parse_field_selector(self.fields, info)
        except InvalidArgument as error:
            raise click.UsageError(f"--field-selector: {error}") from None


def selection_options(function: F) -> F:
    """-l and --field-selector."""
    function = click.option("--selector", "-l", default="", help="Labels: a=b,c!=d,e in (x,y),!f")(function)
    return click.option(
        "--field-selector", default="", help="Fields that the kind indexes: spec.nodeRef.name=x,metadata.name!=y"
    )(function)


def file_option(function: F) -> F:
    """-f, repeatable."""
    return click.option(
        "--filename", "-f", "sources", multiple=True, help='Manifest file, directory, or "-" for standard input.'
    )(function)


def object_name(obj: Message) -> str:
    """`networks.apinet/blue`, which every command takes back."""
    return f"{kind_info(obj).resource_type}/{metadata_of(obj).name}"


def targets_of(resources: Sequence[str], sources: Sequence[str], session: Session) -> list[tuple[Target, str]]:
    """(target, namespace) of what arguments or manifests name. Raises click.UsageError, InvalidArgument."""
    if sources and resources:
        raise click.UsageError("give either resources or -f")
    if not sources:
        return [(target, session.namespace_of(target.info)) for target in parse_targets(resources, scheme())]
    objects = [session.place(obj) for obj in read_manifests(sources, scheme())]
    return [(Target(kind_info(obj), metadata_of(obj).name), metadata_of(obj).namespace) for obj in objects]


async def find_objects(
    session: Session, targets: Sequence[tuple[Target, str]], selection: Selection, *, all_namespaces: bool
) -> list[Message]:
    """The objects in the order of the targets. What is missing is shown as an error and left out."""
    found: list[Message] = []
    for target, namespace in targets:
        client = session.kind(target.info)
        try:
            if target.name:
                found.append(await client.get(namespace, target.name))
            else:
                found += await client.list(
                    "" if all_namespaces else namespace,
                    labels=selection.label_selector(),
                    fields=selection.field_requirements(target.info),
                )
        except ApiError as error:
            if isinstance(error, Unavailable):
                raise
            session.failed(error, target.info)
    return found
