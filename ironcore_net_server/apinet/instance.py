"""Instance: rules of its spec, which templates share, and its binding to a node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc
from ironcore.apinet.v1 import instance_pb2, types_pb2
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import FailedPrecondition, FieldViolation
from apimachinery.resource import ExtraMethod, ResourceAccess, ResourceHooks
from apimachinery.selectors import check_label_selector
from ironcore_net_server.rules import check_balanced_ports, check_selector, check_template_metadata

Context = grpc.aio.ServicerContext[Any, Any]
Instance = instance_pb2.Instance

# The only field of a node that affinity may name.
_NODE_FIELD = "metadata.name"


class InstanceHooks(ResourceHooks[Instance]):
    """Bound to a node once, by the scheduler."""

    def validate(self, obj: Instance, old: Instance | None) -> Iterable[FieldViolation]:
        return check_instance_spec(obj.spec, "spec")

    def extra_methods(self, access: ResourceAccess[Instance]) -> Mapping[str, ExtraMethod]:
        async def bind(request: instance_pb2.BindInstanceRequest, context: Context) -> Instance:
            return await access.mutate(
                request.namespace, request.name, lambda obj: bind_to(obj, request.node_ref.name), uid=request.uid
            )

        return {"Bind": bind}


def bind_to(obj: Instance, node: str) -> None:
    """Puts the instance on a node, in place. Raises FailedPrecondition if it is on another one."""
    bound = obj.spec.node_ref.name
    if bound and bound != node:
        raise FailedPrecondition(f"instance {obj.metadata.name} is on node {bound}", reason="ALREADY_BOUND")
    obj.spec.node_ref.name = node


def check_template(template: types_pb2.InstanceTemplate, path: str) -> Iterator[FieldViolation]:
    """Labels and annotations only; no node; a valid spec if there is one."""
    yield from check_template_metadata(template.metadata, f"{path}.metadata")
    if template.HasField("spec"):
        if template.spec.HasField("node_ref"):
            yield FieldViolation(f"{path}.spec.node_ref", "must not be set in a template")
        yield from check_instance_spec(template.spec, f"{path}.spec")


def check_instance_spec(spec: types_pb2.InstanceSpec, path: str) -> Iterator[FieldViolation]:
    """Rules beyond the field options, with violations below `path`."""
    if spec.type == types_pb2.INSTANCE_TYPE_LOAD_BALANCER and not spec.load_balancer_type:
        yield FieldViolation(f"{path}.load_balancer_type", "is required for instances of load balancers")
    yield from check_balanced_ports(spec.load_balancer_ports, f"{path}.load_balancer_ports")
    at = f"{path}.affinity.node_affinity.required.node_selector_terms"
    for index, term in enumerate(spec.affinity.node_affinity.required.node_selector_terms):
        yield from _check_requirements(term.match_expressions, f"{at}[{index}]")
        yield from _check_requirements(term.match_fields, f"{at}[{index}]", fields=True)
    at = f"{path}.affinity.instance_anti_affinity.required"
    for index, other in enumerate(spec.affinity.instance_anti_affinity.required):
        yield from check_selector(other, "label_selector", f"{at}[{index}]")
    for index, constraint in enumerate(spec.topology_spread_constraints):
        yield from check_selector(constraint, "label_selector", f"{path}.topology_spread_constraints[{index}]")


def _check_requirements(
    requirements: Iterable[meta_pb2.LabelSelectorRequirement], path: str, *, fields: bool = False
) -> Iterator[FieldViolation]:
    selector = meta_pb2.LabelSelector(match_expressions=requirements)
    where = "match_fields" if fields else "match_expressions"
    for violation in check_label_selector(selector, path):
        yield FieldViolation(violation.field.replace("match_expressions", where), violation.message)
    for index, requirement in enumerate(selector.match_expressions if fields else ()):
        if requirement.key not in ("", _NODE_FIELD):
            yield FieldViolation(f"{path}.match_fields[{index}].key", f"must be {_NODE_FIELD}")
