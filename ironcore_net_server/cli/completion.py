"""Shell completion: the script for the shell, and the words for resource arguments."""

import asyncio
import os

import click
from click.shell_completion import CompletionItem, get_completion_class

from apimachinery.client import Client
from apimachinery.errors import ApiError
from apimachinery.scheme import DEFAULT_NAMESPACE, KindInfo, metadata_of
from ironcore_net_server.cli.arguments import scheme
from ironcore_net_server.cli.session import DEFAULT_SERVER

# A shell waits for the answer, so a server that does not answer is given up soon.
_LIMIT_SECONDS = 1.0


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the completion script of a shell: source <(ironctl completion bash)"""
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(root.command, {}, "ironctl", "_IRONCTL_COMPLETE").source())


def complete_resources(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Types for the first word, then names; TYPE/NAME in one word. No server, no names."""
    given = context.params.get("resources") or ()
    kind, slash, _name = incomplete.partition("/")
    if slash:
        return [
            CompletionItem(f"{kind}/{name}")
            for name in _names(kind, context)
            if f"{kind}/{name}".startswith(incomplete)
        ]
    if given and "/" not in given[0]:
        return [CompletionItem(name) for name in _names(given[0], context) if name.startswith(incomplete)]
    return [CompletionItem(word) for word in type_words() if word.startswith(incomplete)]


def type_words() -> list[str]:
    """Every plural: alone for the group that it means, with its group for the others."""
    words: dict[str, None] = {}
    for info in scheme():
        words[info.resource_type if info.plural in words else info.plural] = None
    return list(words)


def _names(kind: str, context: click.Context) -> list[str]:
    found = scheme().find(kind)
    if not found:
        return []
    server = context.params.get("server") or os.environ.get("IRONCTL_SERVER") or DEFAULT_SERVER
    namespace = context.params.get("namespace") or DEFAULT_NAMESPACE
    try:
        return asyncio.run(_list_names(str(server), found[0], str(namespace)))
    except (ApiError, ValueError, OSError):
        return []


async def _list_names(server: str, info: KindInfo, namespace: str) -> list[str]:
    async with Client(server, timeout=_LIMIT_SECONDS) as client:
        objects = await client.kind(info.message_class).list(namespace if info.namespaced else "")
        return [metadata_of(obj).name for obj in objects]
