"""A deployment of Switchboard on this machine: two edges, two instances of all services, Postgres, NATS, Prometheus."""

import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import uuid

import psycopg

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKEN = "a-token-between-services"
SECRET = "the-dashboard's-secret-of-32-bytes"
SERVICES = "identity,chat,location,notification,presence"
SCRAPE_S = 2
READY_S = 60


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(what, is_so):
    give_up = time.monotonic() + READY_S
    while not is_so():
        if time.monotonic() > give_up:
            raise SystemExit(f"dashboard: {what}: not in {READY_S} s")
        time.sleep(0.1)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Stage:
    """Everything that runs; `close` ends it."""

    def __init__(self, directory, postgres):
        self.directory = pathlib.Path(directory)
        self.running = {}
        self.begun = {}
        self.is_over = threading.Event()
        self.loads = []
        nats, prometheus = free_ports(2)
        self.nats_port, self.prometheus_url = nats, f"http://127.0.0.1:{prometheus}"
        name = f"dashboard_{uuid.uuid4().hex}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        self.store = postgres.rsplit("/", 1)[0] + f"/{name}"
        self.postgres, self.database = postgres, name
        self.ports = {one: dict(zip(("edge", "grpc", "admin"), free_ports(3)))
                      for one in ("edge-1", "edge-2", "services-1", "services-2")}
        self.nats()
        for one in ("services-1", "services-2", "edge-1", "edge-2"):
            self.switchboard(one)
        for one in self.ports:
            self.is_ready(one)
        self.start_prometheus(prometheus)

    def spawn(self, name, command, **variables):
        log = open(self.directory / f"{name}.log", "ab")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SWITCHBOARD_")}
        self.running[name] = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**environment, **variables}, cwd=self.directory)

    def end(self, name, how=signal.SIGTERM):
        process = self.running.pop(name)
        process.send_signal(how)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def nats(self):
        self.spawn("nats", ["nats-server", "-a", "127.0.0.1", "-p", self.nats_port])
        until("NATS", lambda: listens(self.nats_port))

    def services(self):
        urls = ",".join(f"http://127.0.0.1:{self.ports[one]['grpc']}" for one in ("services-1", "services-2"))
        return {f"SWITCHBOARD_SERVICES__{one.upper()}": urls for one in SERVICES.split(",")}

    def switchboard(self, name):
        ports = self.ports[name]
        self.spawn(
            name, [self.binary("switchboard"), "serve", "--role", "edge" if name.startswith("edge") else SERVICES],
            SWITCHBOARD_DATA_DIR=str(self.directory / f"data-{name}"),
            SWITCHBOARD_EDGE__LISTEN=f"127.0.0.1:{ports['edge']}",
            SWITCHBOARD_EDGE__SOCKETS_PER_USER_MAX="20",
            SWITCHBOARD_EDGE__DRAIN_SPREAD_S="3",
            SWITCHBOARD_GRPC__LISTEN=f"127.0.0.1:{ports['grpc']}",
            SWITCHBOARD_GRPC__TOKEN=TOKEN,
            SWITCHBOARD_ADMIN__LISTEN=f"127.0.0.1:{ports['admin']}",
            SWITCHBOARD_AUTH__JWT__SECRET=SECRET,
            SWITCHBOARD_STORE__URL=self.store,
            SWITCHBOARD_BUS__URL=f"nats://127.0.0.1:{self.nats_port}",
            **self.services())

    def is_ready(self, name):
        command = [self.binary("switchboard"), "health"]
        variables = {
            "SWITCHBOARD_ADMIN__LISTEN": f"127.0.0.1:{self.ports[name]['admin']}",
            "SWITCHBOARD_GRPC__LISTEN": f"127.0.0.1:{self.ports[name]['grpc']}",
            "SWITCHBOARD_EDGE__LISTEN": f"127.0.0.1:{self.ports[name]['edge']}",
            "SWITCHBOARD_DATA_DIR": str(self.directory / f"data-{name}"),
        }
        until(name, lambda: subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True).returncode == 0)

    def start_prometheus(self, port):
        jobs = "".join(
            f'      - {{ targets: ["127.0.0.1:{ports["admin"]}"], labels: {{ instance: {name} }} }}\n'
            for name, ports in self.ports.items())
        (self.directory / "prometheus.yaml").write_text(
            f"global: {{ scrape_interval: {SCRAPE_S}s, evaluation_interval: {SCRAPE_S}s }}\n"
            f"rule_files: [{ROOT}/deploy/prometheus/alerts.yaml]\n"
            f"scrape_configs:\n  - job_name: switchboard\n    static_configs:\n{jobs}")
        self.spawn("prometheus", [
            "prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=prometheus",
            f"--web.listen-address=127.0.0.1:{port}"])
        until("Prometheus", lambda: listens(port))

    def binary(self, name):
        return ROOT / "target/debug" / name

    def load(self, edge, *scenario):
        """A load generator that is started anew whenever it ends."""
        command = [
            self.binary("load"), "--url", f"ws://127.0.0.1:{self.ports[edge]['edge']}", "--jwt-secret", SECRET,
            "--grpc-url", f"http://127.0.0.1:{self.ports['services-1']['grpc']}", "--grpc-token", TOKEN, *scenario]

        def run():
            while not self.is_over.is_set():
                with open(self.directory / f"load-{scenario[0]}.log", "ab") as log:
                    process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
                    while process.poll() is None and not self.is_over.wait(0.2):
                        pass
                    process.kill()
                    process.wait()
                self.is_over.wait(1)

        thread = threading.Thread(target=run)
        thread.start()
        self.loads.append(thread)

    def provision(self):
        subprocess.run(
            [self.binary("switchboard"), "provision", ROOT / "deploy/switchboard/demo/people.jsonl"], check=True,
            stdout=subprocess.DEVNULL, env={
                **os.environ, **self.services(), "SWITCHBOARD_GRPC__TOKEN": TOKEN,
                "SWITCHBOARD_DATA_DIR": str(self.directory / "data-provision")})

    def grpc(self, method, message):
        address = f"127.0.0.1:{self.ports['services-1']['grpc']}"
        return subprocess.run(
            ["grpcurl", "-plaintext", "-H", f"authorization: Bearer {TOKEN}", "-d", message, address, method],
            check=True, capture_output=True, text=True).stdout

    def close(self):
        self.is_over.set()
        for thread in self.loads:
            thread.join()
        for process in self.running.values():
            process.kill()
            process.wait()
        with psycopg.connect(self.postgres, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
