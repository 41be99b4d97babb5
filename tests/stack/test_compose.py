"""docker-compose.yml: what Compose makes of it, and the whole stack run by a real engine of the test's own.

The images are stand-ins with the real programs (see `tests.stack.engine`). Grafana's has none: only what Grafana is
given is looked at. The demo's image is built by docker/Dockerfile.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import trustme
import yaml

from tests.stack.engine import Engine, EngineUnavailableError, find_compose, find_programs, make_images
from tests.stack.running import RunningStack, Sender
from tools.collector import open_url
from tools.loopback import find_free_ports
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PORTS = (
    "OTLP_GRPC",
    "OTLP_HTTP",
    "COLLECTOR_HEALTH",
    "COLLECTOR_METRICS",
    "APPLICATIONS",
    "LOKI",
    "PROMETHEUS",
    "ALERTMANAGER",
    "JAEGER",
    "GRAFANA",
)
PROFILES = ("alerting", "demo")
UP_SECONDS = 150
SHOP = '{service_name="otelog-shop"}'
# What a server says when a host cannot be found or reached.
_ATTEMPT = re.compile(r"no such host|network is unreachable|i/o timeout|server misbehaving|bad address", re.IGNORECASE)
_HOST = re.compile(r"(?<![\w.])(?:[a-z0-9-]+\.)+(?:com|org|net|io|dev)(?![\w.])", re.IGNORECASE)
_OWN_HOST = re.compile(r"go\.opentelemetry\.io|github\.com")
SECRETS = {
    "OTELOG_TOKEN_FILE": ("OTELOG_TOKEN_FILE",),
    "TLS": ("OTELOG_TLS_CERTIFICATE", "OTELOG_TLS_KEY"),
    "OTELOG_TLS_CLIENT_CA": ("OTELOG_TLS_CLIENT_CA",),
}


class Project:
    """One compose project, with ports and settings of its own.

    Args:
        environ: the environment of `docker`.
        name: the project's name.
        settings: variables of docker-compose.yml.
        folder: where docker-compose.yml is.
        compose: the command; the plugin alone does where no `docker` is.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        name: str,
        settings: Mapping[str, str] | None = None,
        *,
        folder: Path = ROOT,
        compose: Sequence[str] = ("docker", "compose"),
    ) -> None:
        self._folder = folder
        self._compose = compose
        clean = {key: value for key, value in environ.items() if not key.startswith(("OTELOG_", "OTEL_"))}
        self.name = name
        self.ports = dict(zip(PORTS, find_free_ports(len(PORTS)), strict=True))
        ports = {f"OTELOG_PORT_{key}": str(port) for key, port in self.ports.items()}
        self._environ = {**clean, **ports, **(settings or {})}

    def run(self, *arguments: str, profiles: tuple[str, ...] = PROFILES) -> subprocess.CompletedProcess[str]:
        """Run a command of `docker compose`."""
        chosen = [part for name in profiles for part in ("--profile", name)]
        command = [*self._compose, "--ansi", "never", "--project-name", self.name, *chosen, *arguments]
        return subprocess.run(command, cwd=self._folder, env=self._environ, capture_output=True, text=True, check=False)

    def compose(self, *arguments: str) -> str:
        """Run a command of `docker compose` that must succeed; returns its standard output."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}:\n{done.stderr[-4000:]}"
        return done.stdout

    def up(self) -> None:
        """Start everything, and wait until it is healthy; in words of docs/how-to/stack.md."""
        done = self.run("up", "--detach", "--wait", "--wait-timeout", str(UP_SECONDS), "--pull", "never")
        logs = "" if done.returncode == 0 else self.run("logs", "--tail", "15").stdout
        assert done.returncode == 0, f"{done.stderr[-3000:]}\n{self.run('ps', '--all').stdout}\n{logs}"

    def down(self) -> None:
        """End everything, and remove its data."""
        self.compose("down", "--volumes", "--remove-orphans")

    def config(self, profiles: tuple[str, ...] = PROFILES) -> dict[str, Any]:
        """What Compose makes of the file."""
        done = self.run("config", "--format", "json", profiles=profiles)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine says of each service's container."""
        ids = self.compose("ps", "--all", "--quiet").split()
        done = subprocess.run(
            ["docker", "inspect", *ids], env=self._environ, capture_output=True, text=True, check=True
        )
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in json.loads(done.stdout)}

    def get(self, port: str, path: str, **query: str) -> Any:
        """Ask one of the services, through its published port."""
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        with open_url(f"{url}?{urlencode(query)}" if query else url, timeout=10) as answer:
            return json.loads(answer.read())

    def count_in_loki(self, selector: str) -> int:
        """How many records Loki holds."""
        query = f"sum(count_over_time({selector}[1h]))"
        found = self.get("LOKI", "/loki/api/v1/query", query=query)["data"]["result"]
        return int(found[0]["value"][1]) if found else 0

    def end_demo(self) -> dict[str, Any]:
        """Stop the demo; returns its final ledger."""
        self.compose("stop", "demo-customers", "demo")
        last = self.compose("logs", "--no-log-prefix", "demo").strip().splitlines()[-1]
        return dict(json.loads(last))


@pytest.fixture(scope="module")
def plugin() -> Path:
    """Compose alone, which needs no engine to say what it makes of a file."""
    try:
        return find_compose()
    except EngineUnavailableError as error:
        pytest.skip(str(error))


def describe(
    plugin: Path, settings: Mapping[str, str] | None = None, profiles: tuple[str, ...] = PROFILES
) -> dict[str, Any]:
    """What Compose makes of docker-compose.yml with these settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "DOCKER_"))}
    return Project(environ, "otelog", settings, compose=[str(plugin)]).config(profiles)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine that has all images but the demo's."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(Engine(find_programs(), find_compose()))
            make_images(running)
        except EngineUnavailableError as error:
            pytest.skip(str(error))
        yield running


@pytest.fixture(scope="module")
def stack(engine: Engine) -> Iterator[Project]:
    """Everything, both profiles included, healthy."""
    project = Project(engine.environ, "otelog-plain")
    try:
        project.up()
        yield project
    finally:
        project.down()


def combinations() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """All sets of profiles with all sets of secrets."""
    for profiles in itertools.chain.from_iterable(itertools.combinations(PROFILES, n) for n in range(3)):
        for secrets in itertools.chain.from_iterable(
            itertools.combinations(SECRETS, n) for n in range(len(SECRETS) + 1)
        ):
            yield profiles, secrets


def test_compose_understands_every_combination_of_profiles_and_secrets(plugin: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for profiles, chosen in combinations():
        settings = {name: str(secret) for one in chosen for name in SECRETS[one]}
        config = describe(plugin, settings, profiles)
        command = config["services"]["collector"]["command"]
        overlays = [Path(argument).stem for argument in command]
        expected = ["otelcol", "jaeger"]
        expected += ["token"] if "OTELOG_TOKEN_FILE" in chosen else []
        expected += ["tls"] if "TLS" in chosen else []
        assert overlays == expected, (profiles, chosen)
        services = set(config["services"])
        assert ("alertmanager" in services) == ("alerting" in profiles)
        assert ({"demo", "demo-customers"} <= services) == ("demo" in profiles)
        assert all((ROOT / "collector" / f"{name}.yaml").is_file() for name in overlays)


def test_ports_are_those_of_the_native_stack_unless_told_otherwise_and_on_loopback_alone(
    plugin: Path,
) -> None:
    settings = {f"OTELOG_PORT_{name}": "" for name in PORTS}
    services = describe(plugin, settings)["services"].values()
    published = [port for one in services for port in one.get("ports", ())]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert all(port["published"] == str(port["target"]) for port in published)
    assert {port["target"] for port in published} == {4317, 4318, 13133, 8888, 8889, 3100, 9090, 9093, 16686, 3000}


def test_every_image_is_pinned_and_every_service_that_stays_is_bounded(plugin: Path) -> None:
    for name, service in describe(plugin)["services"].items():
        if "build" not in service and service["image"] != "otelog-demo":
            tag = service["image"].rpartition(":")[2]
            assert tag[-1].isdigit() and tag.count(".") == 2, name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert service["restart"] == ("no" if name == "init" else "unless-stopped"), name


def test_grafana_lets_nobody_in_without_the_password_and_calls_nobody(plugin: Path) -> None:
    config = describe(plugin)
    environ = config["services"]["grafana"]["environment"]
    assert environ["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert environ["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert environ["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/otelog/admin-password"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in environ
    asking = ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES", "FEEDBACK_LINKS_ENABLED")
    assert {environ[f"GF_ANALYTICS_{name}"] for name in asking} == {"false"}
    assert environ["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    # Grafana's own welcome page asks a foreign host for news.
    home = Path(environ["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home == Path("/etc/otelog/dashboards/otelog-logs.json")
    assert (ROOT / "dashboards" / home.name).is_file(), "Grafana would show its own page"
    sources = yaml.safe_load((ROOT / "dashboards/provisioning/datasources/otelog.yaml").read_text())["datasources"]
    assert [one["uid"] for one in sources] == ["otelog-loki", "otelog-prometheus", "otelog-jaeger"]
    assert sources[0]["jsonData"]["manageAlerts"] is False
    assert sources[0]["jsonData"]["maxLines"] <= 1000
    # A data source is a service of this file, at its own port.
    ports = {
        name: {port["target"] for port in service.get("ports", ())} for name, service in config["services"].items()
    }
    for source in sources:
        url = urlsplit(source["url"])
        assert url.port in ports[str(url.hostname)], source
    providers = yaml.safe_load((ROOT / "dashboards/provisioning/dashboards/otelog.yaml").read_text())["providers"]
    mounted = {volume["target"] for volume in config["services"]["grafana"]["volumes"]}
    assert {provider["options"]["path"] for provider in providers} <= mounted


def test_everything_is_healthy_and_prometheus_reaches_it(stack: Project) -> None:
    containers = stack.containers()
    states = {
        name: (one["State"]["Status"], one["State"].get("Health", {}).get("Status")) for name, one in containers.items()
    }
    assert states == {
        "init": ("exited", None),
        # It has nothing that could ask it; collector-health does.
        "collector": ("running", None),
        "demo-customers": ("running", None),
        **dict.fromkeys(
            ("alertmanager", "collector-health", "demo", "grafana", "jaeger", "loki", "prometheus"),
            ("running", "healthy"),
        ),
    }
    assert containers["init"]["State"]["ExitCode"] == 0

    def targets() -> dict[str, str]:
        found = stack.get("PROMETHEUS", "/api/v1/targets")["data"]["activeTargets"]
        return {one["labels"]["instance"]: one["health"] for one in found}

    expected = dict.fromkeys(
        (
            "collector:8888",
            "collector:8889",
            "loki:3100",
            "prometheus:9090",
            "alertmanager:9093",
            "jaeger:8888",
        ),
        "up",
    )
    wait_until(lambda: targets() == expected, 30, what=f"all targets up: {targets()}")
    alertmanagers = stack.get("PROMETHEUS", "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    assert [one["url"] for one in alertmanagers] == ["http://alertmanager:9093/api/v2/alerts"]


def test_every_port_is_published_on_loopback_alone(stack: Project) -> None:
    published = set()
    for name, one in stack.containers().items():
        for bindings in (one["NetworkSettings"]["Ports"] or {}).values():
            for binding in bindings or ():
                assert binding["HostIp"] == "127.0.0.1", name
                published.add(int(binding["HostPort"]))
    assert published == set(stack.ports.values())


def test_no_process_is_root_or_has_rights_or_can_write_to_its_image(stack: Project) -> None:
    containers = stack.containers()
    init = containers.pop("init")
    assert sorted(init["HostConfig"]["CapAdd"]) == ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]
    assert init["HostConfig"]["NetworkMode"] == "none"
    for name, one in containers.items():
        # What the kernel says of the first process, not what was asked for.
        lines = Path(f"/proc/{one['State']['Pid']}/status").read_text().splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        assert 0 not in map(int, status["Uid"]), name
        assert int(status["CapEff"][0], 16) == int(status["CapBnd"][0], 16) == 0, name
        assert status["NoNewPrivs"] == ["1"], name
        assert one["HostConfig"]["ReadonlyRootfs"] and not one["HostConfig"]["Privileged"], name
        assert one["HostConfig"]["Memory"] > 0 and one["HostConfig"]["PidsLimit"] > 0, name


def find_remote_hosts(pid: int) -> set[str]:
    """The addresses that the processes of a container are connected to, or want to be, or ask by UDP."""
    found = set()
    for name in ("tcp", "udp", "tcp6", "udp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            address = line.split()[2].split(":")[0]
            packed = b"".join(bytes.fromhex(address[n : n + 8])[::-1] for n in range(0, len(address), 8))
            found.add(ipaddress.ip_address(packed))
    return {str(getattr(one, "ipv4_mapped", None) or one) for one in found if int(one)}


def test_nobody_asks_a_foreign_host(stack: Project, engine: Engine) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.2", 9))
        assert "127.0.0.2" in find_remote_hosts(os.getpid()), "it would be seen"
    own = {
        address["IPAddress"]
        for one in stack.containers().values()
        for address in one["NetworkSettings"]["Networks"].values()
    }
    network = json.loads(engine.docker("network", "inspect", f"{stack.name}_default"))[0]
    own |= {one["Gateway"] for one in network["IPAM"]["Config"]}
    # Docker's own name server, which is in the container's loopback.
    allowed = own | {"127.0.0.1", "127.0.0.11", "::1"}
    for name, one in stack.containers().items():
        if one["State"]["Pid"]:
            foreign = find_remote_hosts(one["State"]["Pid"]) - allowed
            assert not foreign, f"{name} speaks to {foreign}"
    # There is no way out of its network: an attempt would be in a server's log, as an error.
    for line in stack.compose("logs", "--no-color").splitlines():
        # The Collector's neighbours are still starting.
        attempt = _ATTEMPT.search(line)
        hosts = {host for host in _HOST.findall(line) if not _OWN_HOST.fullmatch(host)}
        assert not (attempt and hosts), line


def test_a_record_of_the_demo_leads_to_its_trace(stack: Project) -> None:
    query = f'{SHOP} | event_name="order.paid"'

    def find_ids() -> list[str]:
        found = stack.get("LOKI", "/loki/api/v1/query_range", query=query, limit="20")["data"]["result"]
        return [one["stream"]["trace_id"] for one in found]

    ids = wait_until(find_ids, 60, what="a payment")

    def find_trace() -> dict[str, Any] | None:
        try:
            return dict(stack.get("JAEGER", f"/api/traces/{ids[0]}")["data"][0])
        except urllib.error.HTTPError as error:
            error.close()
            return None

    trace = wait_until(find_trace, 60, what="its trace")
    assert "POST /pay" in {span["operationName"] for span in trace["spans"]}


def test_the_password_is_made_once_and_is_for_grafana_alone(stack: Project, engine: Engine) -> None:
    volume = f"{stack.name}_grafana-secrets:/secrets:ro"

    def read(user: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "run", "--rm", "--network", "none", "--volume", volume, "--user", user, "busybox:1.37.0"]
        script = "cat /secrets/admin-password && stat -c ' %u %a' /secrets/admin-password"
        return subprocess.run(
            [*command, "sh", "-c", script], env=engine.environ, capture_output=True, text=True, check=False
        )

    password, owner, mode = read("472:0").stdout.split()
    assert len(password) == 32 and owner == "472" and mode == "400"
    assert read("10001:10001").returncode != 0
    before = {name: (one["Id"], one["State"]["StartedAt"]) for name, one in stack.containers().items()}
    stack.up()
    assert read("472:0").stdout.split()[0] == password
    after = {name: (one["Id"], one["State"]["StartedAt"]) for name, one in stack.containers().items()}
    # A second start changes nothing; init runs again, in the same container.
    assert {name for name in before if before[name] != after[name]} <= {"init"}
    assert before["init"][0] == after["init"][0]
    assert password not in json.dumps(stack.containers())


def test_every_record_of_the_demo_is_in_loki_also_when_the_collector_was_killed(stack: Project) -> None:
    wait_until(lambda: stack.count_in_loki(SHOP) > 100, 60, what="the demo's records in Loki")
    collector = stack.containers()["collector"]
    os.kill(collector["State"]["Pid"], signal.SIGKILL)
    wait_until(
        lambda: stack.containers()["collector"]["RestartCount"] > collector["RestartCount"],
        30,
        what="the Collector's restart by the engine",
    )
    before = stack.count_in_loki(SHOP)
    wait_until(lambda: stack.count_in_loki(SHOP) > before + 100, 60, what="records after the restart")
    try:
        check_demo(stack)
    finally:
        stack.up()


def check_demo(project: Project) -> None:
    """End the demo, and see that Loki holds every record that it says it has delivered, once."""
    ledger = project.end_demo()
    assert ledger["created"] == ledger["exported"] > 0
    selector = f'{SHOP} | service_instance_id="{ledger["instance"]}"'
    wait_until(lambda: project.count_in_loki(selector) >= ledger["exported"], 30, what=f"{ledger} in Loki")
    assert project.count_in_loki(selector) == ledger["exported"]


class Certificates:
    """A server's certificate, a client's, and the CA of both, as files that only their owner may read."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        server = authority.issue_cert("collector", "localhost", "127.0.0.1")
        client = authority.issue_cert("demo.client")
        self.authority = self._write(folder / "ca.pem", authority.cert_pem.bytes())
        chain = b"".join(part.bytes() for part in server.cert_chain_pems)
        self.server = self._write(folder / "server.pem", chain)
        self.server_key = self._write(folder / "server-key.pem", server.private_key_pem.bytes())
        self.client = self._write(folder / "client.pem", client.cert_chain_pems[0].bytes())
        self.client_key = self._write(folder / "client-key.pem", client.private_key_pem.bytes())

    @staticmethod
    def _write(path: Path, content: bytes) -> str:
        path.write_bytes(content)
        path.chmod(stat.S_IRUSR)
        # Not root's, as on a developer's machine: init has to be able to read it all the same.
        os.chown(path, 1000, 1000)
        return str(path)


def ask_collector(project: Project, certificates: Certificates, token: str, *, client: bool) -> int:
    """Send an empty request over TLS; returns the status, or 0 if it did not come so far."""
    context = ssl.create_default_context(cafile=certificates.authority)
    if client:
        context.load_cert_chain(certificates.client, certificates.client_key)
    request = urllib.request.Request(
        f"https://127.0.0.1:{project.ports['OTLP_HTTP']}/v1/logs",
        data=b"{}",
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError as error:
        # On a busy machine an answer may take long: that is no refusal.
        if isinstance(getattr(error, "reason", error), TimeoutError):
            raise
        return 0


def test_with_token_and_mtls_only_who_has_both_is_let_in_and_down_leaves_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    token = tmp_path / "token"
    token.write_text("s3cret+token/that~needs=quoting==")
    token.chmod(stat.S_IRUSR)
    project = Project(
        engine.environ,
        "otelog-secured",
        {
            "OTELOG_TOKEN_FILE": str(token),
            "OTELOG_TLS_CERTIFICATE": certificates.server,
            "OTELOG_TLS_KEY": certificates.server_key,
            "OTELOG_TLS_CLIENT_CA": certificates.authority,
            "OTEL_EXPORTER_OTLP_CERTIFICATE": certificates.authority,
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": certificates.client,
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": certificates.client_key,
        },
    )
    try:
        project.up()
        secret = token.read_text().strip()
        assert ask_collector(project, certificates, secret, client=True) == 200
        assert ask_collector(project, certificates, "another", client=True) == 401
        assert ask_collector(project, certificates, secret, client=False) == 0
        wait_until(lambda: project.count_in_loki(SHOP) > 0, 60, what="the demo's records")
        assert secret not in json.dumps(project.containers())
        check_demo(project)
    finally:
        project.down()
    label = f"label=com.docker.compose.project={project.name}"
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert engine.docker(*kind, "--quiet", "--filter", label) == "", kind


def test_a_named_but_empty_secret_stops_the_start(engine: Engine, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for settings, said in (
        ({"OTELOG_TOKEN_FILE": str(empty)}, "OTELOG_TOKEN_FILE is empty"),
        ({"OTELOG_TLS_CERTIFICATE": str(ROOT / "LICENSE")}, "TLS needs a key"),
        ({"OTELOG_TLS_KEY": str(ROOT / "LICENSE")}, "TLS needs a certificate"),
        ({"OTELOG_TLS_CLIENT_CA": str(empty)}, "TLS needs a certificate"),
    ):
        project = Project(engine.environ, "otelog-refused", settings)
        try:
            done = project.run("up", "--detach", "--wait", "--pull", "never", "collector", profiles=())
            assert done.returncode != 0
            assert said in project.compose("logs", "init")
            assert "collector" not in {
                name for name, one in project.containers().items() if one["State"]["Status"] == "running"
            }
        finally:
            project.down()


def test_files_that_the_servers_cannot_read_stop_the_start(engine: Engine, tmp_path: Path) -> None:
    for name in ("collector", "dashboards", "docker"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / "collector" / "loki.yaml").chmod(0o640)
    project = Project(engine.environ, "otelog-unreadable", folder=tmp_path)
    try:
        assert project.run("up", "--detach", "--wait", "--pull", "never", "loki", profiles=()).returncode != 0
        assert "collector/loki.yaml is not readable to all: chmod" in project.compose("logs", "init")
    finally:
        project.down()


# What one command of `otelog stack` prints a row of, where Docker is.
SERVERS = {"collector", "loki", "prometheus", "alertmanager", "jaeger", "grafana"}
COMMAND_LABEL = "label=com.docker.compose.project=otelog"


def find_started(engine: Engine) -> dict[str, str]:
    """When each container of `otelog stack` was started, by its id."""
    ids = engine.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", COMMAND_LABEL).split()
    found = json.loads(engine.docker("inspect", *ids)) if ids else []
    service = "com.docker.compose.service"
    # init runs at every start, in the same container.
    return {one["Id"]: "" if one["Config"]["Labels"][service] == "init" else one["State"]["StartedAt"] for one in found}


def ask_without_token(stack: RunningStack) -> int:
    """The status of an empty request that brings no token."""
    request = urllib.request.Request(f"{stack.endpoint}/v1/logs", b"{}", {"Content-Type": "application/json"})
    try:
        with open_url(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_otelog_stack_does_the_same_through_docker_from_up_to_down(engine: Engine, tmp_path: Path) -> None:
    webhook = "http://127.0.0.1:9/a-secret-path"
    token = tmp_path / "token"
    token.write_text("s3cret-token")
    stack = RunningStack(tmp_path / "stack", engine.environ, mode="--docker")
    options = ("--port", "collector-health={}".format(*find_free_ports(1)))
    try:
        said = stack.up("--token-file", str(token), "--webhook", webhook, *options)
        rows = {line.split()[0]: line for line in said.splitlines() if line}
        assert all("running (healthy)" in rows[name] for name in SERVERS), said
        assert stack.endpoint in rows["collector"]
        started = find_started(engine)

        # What was chosen once holds until `down`, and a second start changes nothing.
        stack.up()
        assert find_started(engine) == started

        assert stack.run("status").returncode == 0
        assert {name: one["state"] for name, one in stack.statuses().items()} == dict.fromkeys(
            SERVERS, "running (healthy)"
        )

        assert ask_without_token(stack) == 401
        accepted = Sender(stack.endpoint, "shop", 10, {"headers": {"authorization": "Bearer s3cret-token"}}).finish()
        assert (accepted["exported"], accepted["lost"]) == (10, 0)
        refused = Sender(stack.endpoint, "thief", 10).finish()
        assert (refused["exported"], refused["lost"]) == (0, 10)
        wait_until(lambda: stack.held() == {"shop": 10}, 30, what="the records in Loki, and no others")
        volume = "otelog_alertmanager-config:/config:ro"
        read = ("run", "--rm", "--network", "none", "--user", "65534:65534", "--volume", volume, "busybox:1.37.0")
        assert engine.docker(*read, "cat", "/config/webhook-url").strip() == webhook
        assert webhook not in engine.docker("inspect", *started)

        assert "Everything is ready" in stack.run("logs", "--lines", "1000", "collector").stdout
        config = yaml.safe_load(stack.run("config").stdout)
        assert config["services"]["loki"]["ports"][0]["published"] == str(stack.ports["loki"])

        impossible = stack.run("up", "--scrape", "127.0.0.1:1234", check=False)
        assert impossible.returncode == 1
        assert "--scrape is for native processes" in impossible.stderr
        assert find_started(engine) == started

        engine.docker("kill", "otelog-alertmanager-1")
        assert stack.run("status", check=False).returncode == 1
        # With a secret that is gone nothing starts, but all can be ended.
        token.unlink()
        assert f"{token} is not a file" in stack.run("up", check=False).stderr
    finally:
        stack.down("--volumes")
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert engine.docker(*kind, "--quiet", "--filter", COMMAND_LABEL) == "", kind
    assert not stack.folder.exists()
