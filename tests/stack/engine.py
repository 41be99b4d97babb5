"""A Docker engine for one test run, apart from any other on the machine, and stand-ins for images that it cannot pull.

Nothing of it is the machine's: data, sockets and process ids are in a folder of its own, its networks come from
addresses of its own, and the machine's packet filter is not touched. The engine's programs are those on PATH, or those
of Debian's packages, unpacked into the user's cache without being installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from otelog.cli.stack.building import Workshop
from otelog.cli.stack.files import StackError
from tests.debian import PackagesUnavailableError, cache_folder, unpack_packages
from tools.loopback import find_free_ports
from tools.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 120.0
# A folder's name is part of the sockets' names, which may have no more than 107 characters.
PLACE = Path("/tmp")
POOL = "10.213.0.0/16"
GATEWAY = "10.213.0.1"
# What `dockerd` needs beside a Debian without anything, and busybox for the stand-ins.
PACKAGES = (
    "docker.io",
    "containerd",
    "runc",
    "busybox-static",
    "iptables",
    "libdevmapper1.02.1",
    "libip4tc2",
    "libip6tc2",
    "libmnl0",
    "libnfnetlink0",
    "libnetfilter-conntrack3",
    "libnftnl11",
    "libxtables12",
    "tini",
)
WANTED = ("dockerd", "containerd", "runc", "docker-proxy", "docker-init", "iptables", "docker", "busybox")


class EngineUnavailableError(Exception):
    """There can be no engine here; the message says why."""


class Engine:
    """A running engine; a context manager for the main thread.

    Args:
        programs: folders to look for its programs in, before PATH.
        compose: the compose plugin.

    Attributes:
        environ: with this environment `docker` and `docker compose` speak to it, and know nothing of the user.
    """

    def __init__(self, programs: Programs, compose: Path) -> None:
        self.programs = programs
        self._compose = compose
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self.environ: dict[str, str] = {}

    def __enter__(self) -> Engine:
        self._folder = folder = Path(tempfile.mkdtemp(prefix="otelog-", dir=PLACE))
        plugins = folder / "client" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-compose").symlink_to(self._compose)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))}
        self.environ = {
            **environ,
            "PATH": self.programs.path,
            "DOCKER_HOST": f"unix://{folder}/socket",
            "DOCKER_CONFIG": str(folder / "client"),
            # The builder of old: the new one is a plugin of its own.
            "DOCKER_BUILDKIT": "0",
        }
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        folder = self._folder
        (folder / "engine.json").write_text("{}")
        command = [
            *("dockerd", "--config-file", str(folder / "engine.json"), "--pidfile", str(folder / "pid")),
            *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
            *("--host", f"unix://{folder}/socket", "--log-level", "warn"),
            # The machine's packet filter and its bridges are not ours. Ports are published by docker-proxy.
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none"),
            *("--default-address-pool", f"base={POOL},size=24", "--host-gateway-ip", GATEWAY),
        ]
        if shutil.which("setpriv"):
            # A test run that is killed leaves no engine behind.
            command = ["setpriv", "--pdeathsig", "TERM", *command]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**self.environ, **self.programs.libraries},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._answers, START_SECONDS)
        except TimeoutError as error:
            raise EngineUnavailableError(f"dockerd does not answer: {self.log()[-1500:]}") from error

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise EngineUnavailableError(f"dockerd ended with {self._process.returncode}: {self.log()[-1500:]}")
        return subprocess.run(["docker", "info"], env=self.environ, capture_output=True, check=False).returncode == 0

    def _stop(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        # A container that was killed with its engine leaves mounts, and in a mounted folder nothing may be removed.
        for mount in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mounts").read_text().splitlines()
        return [place for place in (line.split()[1] for line in lines) if place.startswith(f"{self._folder}/")]

    def log(self) -> str:
        """What the engine has said."""
        return (self._folder / "log").read_text(errors="replace")

    def docker(self, *arguments: str, stdin: Path | None = None) -> str:
        """Run a command of `docker`, and return what it wrote to standard output.

        Raises:
            AssertionError: it failed.
        """
        with stdin.open("rb") if stdin else contextlib.nullcontext(subprocess.DEVNULL) as source:
            done = subprocess.run(
                ["docker", *arguments],
                env=self.environ,
                stdin=source,
                capture_output=True,
                check=False,
                timeout=COMMAND_SECONDS,
            )
        assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stderr.decode(errors='replace')}"
        return done.stdout.decode()

    def import_image(self, name: str, fill: Callable[[tarfile.TarFile], None], *settings: str) -> None:
        """Make an image of one layer.

        Args:
            name: its name and tag.
            fill: adds the files.
            settings: lines as in a Dockerfile, such as ``USER 10001``.
        """
        archive = self._folder / "image.tar"
        with tarfile.open(archive, "w") as tar:
            fill(tar)
        changes = [part for line in settings for part in ("--change", line)]
        self.docker("import", *changes, "-", name, stdin=archive)
        archive.unlink()


class Programs:
    """Where the engine's programs are, and what they need to run.

    Attributes:
        path: a PATH with all of `WANTED` on it.
        libraries: further variables for `dockerd`, which hands them on to what it starts.
    """

    def __init__(self, folders: Sequence[Path], libraries: dict[str, str]) -> None:
        self.path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
        self.libraries = libraries

    def find(self, name: str) -> Path | None:
        """Returns where a program is."""
        found = shutil.which(name, path=self.path)
        return Path(found) if found else None

    def missing(self) -> list[str]:
        """Names of programs that are not there."""
        return [name for name in WANTED if self.find(name) is None]


def find_programs() -> Programs:
    """Find the engine's programs, and unpack Debian's where the machine has none.

    Raises:
        EngineUnavailableError: there are none to be had, or this user may not run them.
    """
    if os.geteuid() != 0:
        raise EngineUnavailableError("a Docker engine of the test's own needs root")
    programs = Programs([], {})
    missing = programs.missing()
    if not missing:
        return programs
    tree = _unpack_packages()
    libraries = tree / "usr" / "lib" / sysconfig.get_config_var("MULTIARCH")
    programs = Programs(
        [tree / "usr/sbin", tree / "usr/bin", tree / "bin", tree / "sbin"],
        {"LD_LIBRARY_PATH": str(libraries), "XTABLES_LIBDIR": str(libraries / "xtables")},
    )
    if missing := programs.missing():
        raise EngineUnavailableError(f"Debian's packages have no {', '.join(missing)}")
    return programs


def _unpack_packages() -> Path:
    def complete(tree: Path) -> None:
        # Installed, it would be a link through /etc. A container's name server needs it, in the container's namespace.
        (tree / "usr/sbin/iptables").symlink_to("xtables-nft-multi")

    try:
        return unpack_packages("engine", PACKAGES, complete)
    except PackagesUnavailableError as error:
        raise EngineUnavailableError(str(error)) from error


def find_compose() -> Path:
    """Return the compose plugin: the machine's, or one that is built into the user's cache.

    Raises:
        EngineUnavailableError: there is none, and it cannot be built.
    """
    own = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    for folder in (
        own,
        *(Path(place) for place in ("/usr/local/lib/docker", "/usr/libexec/docker", "/usr/lib/docker")),
    ):
        plugin = folder / "cli-plugins" / "docker-compose"
        if os.access(plugin, os.X_OK):
            return plugin
    try:
        return build_program("docker-compose")
    except StackError as error:
        raise EngineUnavailableError(f"no compose plugin: {error}") from error


def build_program(name: str) -> Path:
    """Return a program of the stack that needs no library of the machine, built into the user's cache."""
    return Workshop(ROOT, os.environ, lambda *_: None).build(name)


def make_images(engine: Engine) -> None:
    """Make stand-ins for the official images that docker-compose.yml and docker/Dockerfile name.

    They hold the same programs at the same places, with the same users, and no more than the official ones: no shell in
    the Collector's and Loki's. Grafana's is none: a web server that looks at what is mounted, and answers as healthy.
    """
    busybox = engine.programs.find("busybox")
    assert busybox is not None

    def fill_busybox(tar: tarfile.TarFile) -> None:
        add_busybox(tar, busybox)

    def fill_collector(tar: tarfile.TarFile) -> None:
        add_program(tar, build_program("otelog-collector"), "otelcol-contrib")

    def fill_loki(tar: tarfile.TarFile) -> None:
        add_program(tar, build_program("loki"), "usr/bin/loki")
        add_folder(tar, "loki", 10001)

    def fill_prometheus(tar: tarfile.TarFile) -> None:
        add_busybox(tar, busybox)
        for name in ("prometheus", "promtool"):
            add_program(tar, build_program(name), f"bin/{name}")
        add_folder(tar, "prometheus", 65534)

    def fill_alertmanager(tar: tarfile.TarFile) -> None:
        add_busybox(tar, busybox)
        for name in ("alertmanager", "amtool"):
            add_program(tar, build_program(name), f"bin/{name}")
        add_folder(tar, "alertmanager", 65534)

    def fill_jaeger(tar: tarfile.TarFile) -> None:
        # Alpine's is as busybox's.
        add_busybox(tar, busybox)
        add_program(tar, build_program("jaeger"), "cmd/jaeger/jaeger-linux")

    def fill_grafana(tar: tarfile.TarFile) -> None:
        add_busybox(tar, busybox)
        add_text(tar, "run.sh", _GRAFANA)

    def fill_python(tar: tarfile.TarFile) -> None:
        add_busybox(tar, busybox)
        add_python(tar, get_wheels())

    engine.import_image("busybox:1.37.0", fill_busybox, 'CMD ["sh"]')
    _check_containers(engine)
    engine.import_image(
        "otel/opentelemetry-collector-contrib:0.158.0",
        fill_collector,
        "USER 10001",
        'ENTRYPOINT ["/otelcol-contrib"]',
        'CMD ["--config", "/etc/otelcol-contrib/config.yaml"]',
    )
    engine.import_image(
        "grafana/loki:3.7.8",
        fill_loki,
        "USER 10001",
        'ENTRYPOINT ["/usr/bin/loki"]',
        'CMD ["-config.file=/etc/loki/local-config.yaml"]',
    )
    engine.import_image(
        "prom/prometheus:v3.12.0",
        fill_prometheus,
        "USER nobody",
        "WORKDIR /prometheus",
        "VOLUME /prometheus",
        'ENTRYPOINT ["/bin/prometheus"]',
        'CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]',
    )
    engine.import_image(
        "prom/alertmanager:v0.30.1",
        fill_alertmanager,
        "USER nobody",
        "WORKDIR /alertmanager",
        "VOLUME /alertmanager",
        'ENTRYPOINT ["/bin/alertmanager"]',
        'CMD ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]',
    )
    engine.import_image(
        "jaegertracing/jaeger:2.13.0",
        fill_jaeger,
        "USER 10001",
        "ENV JAEGER_LISTEN_HOST=0.0.0.0",
        'VOLUME ["/tmp"]',
        'ENTRYPOINT ["/cmd/jaeger/jaeger-linux"]',
    )
    engine.import_image("grafana/grafana:12.4.2", fill_grafana, "USER 472", 'ENTRYPOINT ["/run.sh"]')
    engine.import_image(
        "python:3.13-slim",
        fill_python,
        "ENV PATH=/usr/local/bin:/bin PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_ROOT_USER_ACTION=ignore",
        'CMD ["python3"]',
    )


def _check_containers(engine: Engine) -> None:
    """See that containers run here, find each other by name, and are reached through a published port.

    Raises:
        EngineUnavailableError: they do not, as inside a container without rights, or behind a strict packet filter.
    """
    (port,) = find_free_ports(1)
    where = ("--network", "probe", "--name", "probe-server", "--publish", f"127.0.0.1:{port}:80")
    look = "for _ in $(seq 50); do wget -q -O /dev/null http://probe-server/busybox && exit; sleep 0.2; done; exit 1"
    try:
        engine.docker("network", "create", "probe")
        engine.docker("run", "--detach", *where, "busybox:1.37.0", "httpd", "-f", "-h", "/bin")
        engine.docker("run", "--rm", "--network", "probe", "busybox:1.37.0", "sh", "-c", look)
        socket.create_connection(("127.0.0.1", port), 5).close()
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        raise EngineUnavailableError(f"the engine runs, but containers do not work: {error}") from error
    finally:
        subprocess.run(
            ["docker", "rm", "--force", "probe-server"], env=engine.environ, capture_output=True, check=False
        )
        subprocess.run(["docker", "network", "rm", "probe"], env=engine.environ, capture_output=True, check=False)


# What Grafana's own entry point and its server would need: the password, the provisioned files, places to write.
_GRAFANA = """#!/bin/sh
set -eu
[ "$(wc -c < "$GF_SECURITY_ADMIN_PASSWORD__FILE")" -eq 32 ]
cat /etc/grafana/provisioning/*/*.yaml > /dev/null
ls /etc/otelog/dashboards > /dev/null
touch /var/lib/grafana/grafana.db
mkdir -p /tmp/www/api
echo ok > /tmp/www/api/health
# A first process has no default for a signal.
trap 'kill $!; exit 0' TERM
httpd -f -p 3000 -h /tmp/www &
wait
"""


def add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    """Add an executable or readable file with this text."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o755, len(text.encode())
    tar.addfile(entry, io.BytesIO(text.encode()))


def add_folder(tar: tarfile.TarFile, name: str, owner: int, mode: int = 0o755) -> None:
    """Add an empty folder of an owner."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
    tar.addfile(entry)


def add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    """Add a symbolic link."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def add_program(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a program, or a library, under another name."""
    tar.add(path.resolve(), name, filter=_belong_to_root)


def add_busybox(tar: tarfile.TarFile, busybox: Path) -> None:
    """Add a shell and the usual commands, and the users' names that official images have."""
    add_program(tar, busybox, "bin/busybox")
    listed = subprocess.run([str(busybox), "--list"], capture_output=True, text=True, check=True)
    for name in set(listed.stdout.split()) - {"busybox"}:
        add_link(tar, f"bin/{name}", "busybox")
    add_text(tar, "etc/passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    add_text(tar, "etc/group", "root:x:0:\nnobody:x:65534:\n")
    add_folder(tar, "tmp", 0, 0o1777)


def add_python(tar: tarfile.TarFile, wheels: Path) -> None:
    """Add this very interpreter with its standard library, pip, the libraries that they need, and wheels."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    executable = Path(os.path.realpath(sys.executable))
    add_program(tar, executable, f"usr/local/bin/{version}")
    for name in ("python", "python3"):
        add_link(tar, f"usr/local/bin/{name}", version)

    def choose(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(entry.name).parts[4:]
        if "__pycache__" in parts or (parts and parts[0] in ("site-packages", "dist-packages", "test", "idlelib")):
            return None
        return _belong_to_root(entry)

    tar.add(library, f"usr/local/lib/{version}", filter=choose)
    pip = Path(sysconfig.get_path("purelib")) / "pip"
    tar.add(pip, f"usr/local/lib/{version}/site-packages/pip", filter=_belong_to_root)
    tar.add(wheels, "wheels", filter=_belong_to_root)
    for needed in _libraries_of([executable, *library.glob("lib-dynload/*.so")]):
        # Programs name the loader by its place; it finds the others here.
        name = str(needed).lstrip("/") if needed.name.startswith("ld-") else f"lib/{needed.name}"
        add_program(tar, needed, name)


def _libraries_of(programs: list[Path]) -> Iterator[Path]:
    listed = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = {Path(place) for place in re.findall(r"(?:=> |^\t)(/\S+)", listed, re.MULTILINE)}
    # Wheels of C++ and those that load what they need at run time.
    names = ("libstdc++.so.6", "libgcc_s.so.1", "librt.so.1", "libpthread.so.0", "libdl.so.2", "libutil.so.1")
    beside = Path("/lib") / sysconfig.get_config_var("MULTIARCH")
    usual = {path for path in (beside / name for name in names) if path.exists()}
    by_name = {path.name: path for path in sorted(found | usual)}
    yield from by_name.values()


def _belong_to_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o444 | (0o111 if entry.isdir() else 0)
    return entry


def get_wheels() -> Path:
    """Return a folder with all wheels that docker/Dockerfile installs, downloaded once for each set of pins.

    Raises:
        EngineUnavailableError: the package index does not give them.
    """
    key = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", "constraints.txt", "docker/Dockerfile"):
        key.update((ROOT / name).read_bytes())
    cache = cache_folder() / "wheels"
    folder = cache / key.hexdigest()[:16]
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as name:
        new = Path(name) / "wheels"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--wheel-dir", str(new)]
        wanted = ["--constraint", "constraints.txt", "hatchling>=1.26", f"{ROOT}[demo,gzip,metrics]"]
        done = subprocess.run([*pip, *wanted], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EngineUnavailableError(f"pip cannot get the demo's packages: {done.stderr.strip()[-500:]}")
        for own in new.glob("otelog-*"):
            own.unlink()
        with contextlib.suppress(OSError):
            new.rename(folder)
    return folder
