"""The process around the engine: start, listening, health, metrics, signals, exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from ironcore.dpdk.v1 import dpdk_pb2 as pb
from ironcore.dpdk.v1 import dpdk_pb2_grpc

from dpservice.calls import SERVICE
from tests.lab.pki import Authority
from tests.lab.process import ProcessError
from tests.support.dpservice import EXECUTABLE, NULL_DEVICES, NULL_OPTIONS, Dpservice, eal_arguments

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {"DP_CONF": "", "RUNTIME_DIRECTORY": directory} | (env or {})
        return subprocess.run(
            [EXECUTABLE, *words], capture_output=True, text=True, timeout=60, env=environment, check=False
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dpservice]:
    with Dpservice(tmp_path_factory.mktemp("dpservice")) as running:
        yield running


def test_help_and_version() -> None:
    assert run("--", "--help").stdout.startswith("Usage: dpservice [EAL options] -- [service options]\n")
    assert run("--", "-v").stdout.startswith("DP Service version v")
    assert run("--", "-h").returncode == run("--", "--version").returncode == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--", "--bogus"), "unrecognized option '--bogus'"),
        (("--", "--wcmp=200"), "Invalid argument for '--wcmp'"),
        (("--", "--grpc-listen=0.0.0.0:1"), "--insecure"),
    ],
)
def test_usage_errors(words: tuple[str, ...], text: str) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert text in done.stderr


def test_config_file(tmp_path: Path) -> None:
    conf = tmp_path / "dpservice.conf"
    conf.write_text("pf0 net_null0\npf1 net_null1\nvf-pattern net_null\nnic-type tap\nipv6 fc00:1::1\n")
    with Dpservice(tmp_path, base_options=(), env={"DP_CONF": str(conf)}) as running:
        assert running.stub().Initialize(pb.InitializeRequest()).status.code == 0
    conf.write_text("pf0\n")
    done = run("--", "--help", env={"DP_CONF": str(conf)})
    assert (done.returncode, done.stderr) == (1, f"{conf}:1: key 'pf0' requires a value\n")


@pytest.mark.parametrize(
    ("devices", "options", "text"),
    [
        (NULL_DEVICES, ("--pf0=missing", "--vf-pattern=net_null"), "missing"),
        (NULL_DEVICES[:2], NULL_OPTIONS, "net_null"),
        (("--vdev=bogus_driver0",), NULL_OPTIONS, "EAL"),
    ],
)
def test_an_engine_that_cannot_start_says_why(devices: tuple[str, ...], options: tuple[str, ...], text: str) -> None:
    done = run(*eal_arguments(), *devices, "--", *options, "--log-format=json")
    assert done.returncode == 1
    error = json.loads(done.stdout.splitlines()[-1])
    assert (error["msg"], error["level"], error["logger"]) == ("engine cannot start", "error", "service")
    assert (error["thread_name"], type(error["thread_id"])) == ("MainThread", int)
    assert re.fullmatch(r"main\.py:\d+:run\(\)", error["caller"])
    assert error.keys() == {"ts", "thread_id", "thread_name", "level", "logger", "msg", "error", "caller"}
    assert text in error["error"]


def test_an_address_in_use_is_a_failure_to_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError, match=rf"(?s)ended with 1.*cannot listen on 127.0.0.1:{port}"):
            Dpservice(tmp_path, f"--grpc-listen=127.0.0.1:{port}").__enter__()


def test_health(service: Dpservice) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel())
    for name, status in (("", SERVING), (SERVICE.full_name, SERVING), ("bogus", UNKNOWN)):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == status
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="bogus"))
    with pytest.raises(grpc.RpcError) as caught:
        next(watch)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "Service not found")


def test_reflection_names_the_service(service: Dpservice) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel())
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    [reply] = stub.ServerReflectionInfo(iter([request]))
    names = {one.name for one in reply.list_services_response.service}
    assert {SERVICE.full_name, "grpc.health.v1.Health"} <= names


def test_requests_of_many_clients_are_all_answered(service: Dpservice) -> None:
    stub = service.stub()
    stub.Initialize(pb.InitializeRequest())
    answers: list[int] = []

    def ask() -> None:
        request = pb.CheckVniInUseRequest(vni=1)
        answers.extend(stub.CheckVniInUse(request, timeout=30).status.code for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [0] * 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with Dpservice(tmp_path) as running:
        watch = health_pb2_grpc.HealthStub(running.channel()).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        os.kill(running.process.pid, number)
        assert next(watch).status == NOT_SERVING
        popen = running.process._popen
        assert popen is not None
        assert popen.wait(15) == 0


def test_metrics(tmp_path: Path) -> None:
    port = free_port()
    with Dpservice(tmp_path, f"--metrics-listen=127.0.0.1:{port}") as running:
        stub = running.stub()
        stub.Initialize(pb.InitializeRequest())
        request = pb.CreateInterfaceRequest(
            interface_id=b"vm",
            vni=1,
            ipv4_config=pb.IpConfig(primary_address=b"10.0.0.1"),
            ipv6_config=pb.IpConfig(primary_address=b"::"),
            device_name="net_null2",
        )
        assert stub.CreateInterface(request).status.code == 0
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            text = reply.read().decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples['dpservice_port_rx_packets_total{device="net_null2",interface="vm",netdev="net_null2"}'] == "0.0"
    assert samples['dpservice_table_used{table="interfaces"}'] == "1.0"
    assert samples['dpservice_drops_total{reason="spoofed_source"}'] == "0.0"
    assert float(samples['dpservice_worker_polls_total{lcore="0"}']) > 0


def test_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    server, client = authority.issue("dpservice", ["localhost", "127.0.0.1"]), authority.issue("orchestrator")
    port = free_port()
    files = [f"--tls-cert={server.certificate}", f"--tls-key={server.key}", f"--tls-client-ca={server.authority}"]
    options = [f"--grpc-listen=127.0.0.1:{port}", *files]
    with Dpservice(tmp_path, *options):
        roots = server.authority.read_bytes()
        own = {"private_key": client.key.read_bytes(), "certificate_chain": client.certificate.read_bytes()}

        def initialize(credentials: grpc.ChannelCredentials | None) -> str:
            target = f"127.0.0.1:{port}"
            channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
            with channel:
                uuid: str = dpdk_pb2_grpc.DPDKironcoreStub(channel).Initialize(pb.InitializeRequest(), timeout=10).uuid
                return uuid

        assert initialize(grpc.ssl_channel_credentials(roots, **own))
        for refused in (grpc.ssl_channel_credentials(roots), None):
            with pytest.raises(grpc.RpcError) as caught:
                initialize(refused)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
