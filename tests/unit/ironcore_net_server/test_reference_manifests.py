"""Manifests as users of the reference write them apply unchanged and come back the same."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from apimachinery.manifest import parse, to_plain, to_yaml
from tests.support.kinds import SCHEME, admit

MANIFESTS = """
apiVersion: networking.ironcore.dev/v1alpha1
kind: Network
metadata: {name: blue, namespace: team-a}
spec:
  peerings:
  - name: to-green
    networkRef: {name: green, namespace: team-b}
    prefixes:
    - name: web-range
      prefix: 10.20.0.0/24
    - name: db-range
      prefixRef: {name: db-pool}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: VirtualIP
metadata: {name: front, namespace: team-a}
spec: {type: Public, ipFamily: IPv4}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: NetworkInterface
metadata: {name: vm1-eth0, namespace: team-a, labels: {role: web}}
spec:
  networkRef: {name: blue}
  ipFamilies: [IPv4]
  ips:
  - value: 10.20.0.10
  virtualIP:
    virtualIPRef: {name: front}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: NetworkInterface
metadata: {name: vm2-eth0, namespace: team-a, labels: {role: web}}
spec:
  networkRef: {name: blue}
  ipFamilies: [IPv4, IPv6]
  ips:
  - ephemeral: {prefixTemplate: {spec: {parentRef: {name: blue-v4}}}}
  - ephemeral: {prefixTemplate: {spec: {parentSelector: {matchLabels: {pool: blue-v6}}}}}
  prefixes:
  - ephemeral:
      prefixTemplate:
        spec: {ipFamily: IPv4, prefixLength: 28, parentRef: {name: blue-v4}}
  virtualIP:
    ephemeral:
      virtualIPTemplate:
        spec: {type: Public, ipFamily: IPv4, reclaimPolicy: Retain}
  attributes: {bus: pci}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: LoadBalancer
metadata: {name: web, namespace: team-a}
spec:
  type: Public
  ipFamilies: [IPv4]
  networkRef: {name: blue}
  networkInterfaceSelector: {matchLabels: {role: web}}
  ports:
  - {protocol: TCP, port: 443}
  - {protocol: UDP, port: 5000, endPort: 5010}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: LoadBalancer
metadata: {name: inner, namespace: team-a}
spec:
  type: Internal
  ipFamilies: [IPv4]
  ips:
  - value: 10.20.0.200
  networkRef: {name: blue}
  networkInterfaceSelector: {matchLabels: {role: db}}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: LoadBalancerRouting
metadata:
  name: web
  namespace: team-a
  ownerReferences:
  - apiVersion: networking.ironcore.dev/v1alpha1
    kind: LoadBalancer
    name: web
    uid: 11111111-0000-0000-0000-000000000001
    controller: true
networkRef: {name: blue, uid: 11111111-0000-0000-0000-000000000002}
destinations:
- ip: 10.20.0.10
  targetRef:
    name: vm1-eth0
    uid: 11111111-0000-0000-0000-000000000003
    providerID: ironcore-net://fabric/0f1e2d3c-aaaa-5bbb-8ccc-000000000000/p1.host7/11111111-0000-0000-0000-000000000004
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: NATGateway
metadata: {name: out, namespace: team-a}
spec: {type: Public, ipFamily: IPv4, networkRef: {name: blue}, portsPerNetworkInterface: 1024}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: NetworkPolicy
metadata: {name: db-in, namespace: team-a}
spec:
  networkRef: {name: blue}
  networkInterfaceSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - objectSelector: {kind: NetworkInterface, matchLabels: {role: web}}
    - ipBlock: {cidr: 10.30.0.0/16, except: [10.30.9.0/24]}
    ports:
    - {protocol: TCP, port: 5432, endPort: 5432}
  egress:
  - to: [{ipBlock: {cidr: 0.0.0.0/0}}]
    ports: [{protocol: TCP, port: 1, endPort: 65535}]
---
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata: {name: blue-v4, namespace: team-a, labels: {pool: blue}}
spec: {prefix: 10.20.0.0/16}
---
apiVersion: ipam.ironcore.dev/v1alpha1
kind: Prefix
metadata: {name: db-pool, namespace: team-a}
spec: {ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {pool: blue}}}
---
apiVersion: ipam.ironcore.dev/v1alpha1
kind: PrefixAllocation
metadata:
  name: db-pool-x1
  namespace: team-a
  labels: {ipam.ironcore.dev/requester-uid: 11111111-0000-0000-0000-000000000005}
spec: {ipFamily: IPv4, prefixLength: 24, prefixSelector: {matchLabels: {pool: blue}}}
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: Network
metadata: {name: settled, namespace: team-a}
spec: {providerID: "ironcore-net://fabric/u/200/v"}
status:
  state: Available
  peerings: [{name: to-green, state: Ready, prefixes: [{name: web-range, prefix: 10.20.0.0/24}]}]
---
apiVersion: networking.ironcore.dev/v1alpha1
kind: NetworkInterface
metadata: {name: settled, namespace: team-a}
spec:
  networkRef: {name: blue}
  machineRef: {name: vm1, uid: u}
  ipFamilies: [IPv4]
  ips: [{value: 10.20.0.10}]
status:
  state: Available
  lastStateTransitionTime: "2026-01-02T03:04:05Z"
  ips: [10.20.0.10]
  prefixes: [10.30.0.0/28]
  virtualIP: 203.0.113.9
---
apiVersion: core.apinet.ironcore.dev/v1alpha1
kind: Network
metadata: {name: u, namespace: fabric}
spec:
  id: "200"
  peerings: [{name: to-green, id: "201", prefixes: [{name: web-range, prefix: 10.20.0.0/24}]}]
status:
  peerings:
    p1: [{id: 201, state: Ready}]
    p2: [{id: 201, state: Pending}]
---
apiVersion: core.apinet.ironcore.dev/v1alpha1
kind: NetworkInterface
metadata: {name: w, namespace: fabric}
spec:
  nodeRef: {name: p1.host7}
  networkRef: {name: u}
  ips: [10.20.0.10]
  prefixes: [10.30.0.1/28]
  natGateways: [{ipFamily: IPv6, claimRef: {name: gw, uid: g}}]
  hostname: vm1
  publicIPs: [{name: 203.0.113.9, ipFamily: IPv4, ip: 203.0.113.9}]
status:
  state: Ready
  pciAddress: {domain: "0000", bus: "06", slot: "00", function: "3"}
  tapDevice: {name: tap0}
  publicIPs: [203.0.113.9]
  natIPs: [203.0.113.10]
---
apiVersion: core.apinet.ironcore.dev/v1alpha1
kind: DaemonSet
metadata: {name: lb-l, namespace: fabric}
spec:
  nodeSelector: {matchLabels: {app: lb}}
  template:
    metadata: {labels: {app: lb}}
    spec: {type: LoadBalancer, loadBalancerType: Public, networkRef: {name: u}, ips: [203.0.113.9]}
---
apiVersion: core.apinet.ironcore.dev/v1alpha1
kind: NATTable
metadata: {name: g, namespace: fabric}
ips:
- ip: 203.0.113.10
  sections:
  - ip: 10.20.0.10
    port: 1024
    endPort: 3071
    targetRef: {uid: 11111111-0000-0000-0000-000000000004, name: w, nodeRef: {name: p1.host7}}
---
apiVersion: core.apinet.ironcore.dev/v1alpha1
kind: NetworkPolicyRule
metadata: {name: n, namespace: fabric}
networkRef: {name: u, uid: 11111111-0000-0000-0000-000000000002}
targets: [{ip: 10.20.0.10, targetRef: {name: w, uid: 11111111-0000-0000-0000-000000000004}}]
priority: 0
ingressRule:
- ipBlock: [{cidr: 10.30.0.0/16, except: [10.30.9.0/24]}]
  ips: [{ipFamily: IPv4, prefix: 10.20.0.11/32}]
  networkPolicyPorts: [{protocol: SCTP, port: 7}]
"""
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(MANIFESTS))


def in_any_order(value: Any) -> Any:
    """Orders of keys do not count."""
    if isinstance(value, dict):
        return {key: in_any_order(value[key]) for key in sorted(value)}
    return [in_any_order(element) for element in value] if isinstance(value, list) else value


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}")
def test_accepted_and_written_back_the_same(document: dict[str, Any]) -> None:
    _, violations = admit(document)
    assert violations == []
    (obj,) = parse(yaml.safe_dump(document), SCHEME)
    assert in_any_order(to_plain(obj)) == in_any_order(document)
    assert parse(to_yaml([obj]), SCHEME) == [obj]
