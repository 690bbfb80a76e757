"""What tests of the packet path over TAP devices begin with; each module has its process, the fixture `running`."""

from collections.abc import Iterator

import pytest
from ironcore.dpdk.v1 import dpdk_pb2 as pb

from tests.support.dataplane import VM4, VM6, VNI, Host


@pytest.fixture
def host(running: Host) -> Iterator[Host]:
    """A VM with default routes in both families, and whatever the test adds; all of it goes in the end."""
    running.interface(0, VNI, VM4, VM6)
    for prefix in ("0.0.0.0/0", "::/0"):
        running.route(VNI, prefix)
    yield running
    running.reset()


@pytest.fixture
def underlay(host: Host) -> str:
    """Of that VM."""
    return host.stub.GetInterface(pb.GetInterfaceRequest(interface_id=b"vm0")).interface.underlay_route.decode()
