#!/usr/bin/env python3
"""Times a shop on Docker against docker-compose and `docker build`, by turns in one run. Prints Markdown.

The shop is the reference one: gateway, web and two of orders, PostgreSQL with the orders, and a Redis that orders are handed.
Its programs are built once; what is timed begins with them and ends when the gateway answers with what orders read from the database.
Beside each change of a service stands what the engine alone takes to start and to take away as many containers of the same kind.

Needs a Docker engine with `platform/postgres:15` and `platform/redis:7` (`.ci/docker` makes them), docker-compose, cargo, and
`platform` in `PLATFORM` or `target/release`. `RUNS` says how many rounds (5), `PROFILE` how the shop's programs are built (release).
Everything it starts has a project name of its own and is taken away at the end.
"""

import concurrent.futures
import http.client
import json
import os
import pathlib
import platform as machine
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLATFORM = os.environ.get("PLATFORM", str(ROOT / "target/release/platform"))
RUNS = int(os.environ.get("RUNS", "5"))
PROFILE = os.environ.get("PROFILE", "release")
NAME = f"bench{os.getpid()}"
LABEL = f"platform.bench={NAME}"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


PORT = free_port()
BLUEPRINT = """[project]
name = "{name}"

[services.orders]
build = {{ program = "orders" }}
port = 8081
replicas = 2
needs = ["orders-db", "cache"]
health = {{ ready = "/health/ready", interval = "200ms" }}
limits = {{ memory = "128MiB" }}
env = {{ EDITION = "{edition}" }}

[services.web]
build = {{ program = "web" }}
port = 8082
needs = ["orders"]
health = {{ ready = "/health/ready", interval = "200ms" }}
limits = {{ memory = "128MiB" }}
env = {{ EDITION = "{page}" }}

[resources.orders-db]
kind = "postgres"
version = "15"
image = "platform/postgres:15"

[resources.cache]
kind = "redis"
version = "7"
image = "platform/redis:7"

[gateway]
port = {port}

[[routes]]
path = "/api/v1/orders"
service = "orders"

[[routes]]
path = "/"
service = "web"

[rollout]
strategy = "rolling"
surge = {surge}
hold = "0s"
bake = "0s"
analysis = false

[environments.docker]
provider = "docker"
"""
ORDER = {"customer": "ada", "currency": "EUR", "items": [{"sku": "tea", "quantity": 2, "unit_price": 350}]}


def call(*words, cwd):
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def ask(path, body=None):
    """What the gateway answers, or nothing where that is no success."""
    headers = {"content-type": "application/json", "idempotency-key": f"{NAME}-{time.monotonic()}"}
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", json.dumps(body).encode() if body else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.read().decode()
    except OSError:
        return None


def healthy(holds):
    """Waits until orders are answered from the database, `holds` among them, and there is a page; polls every 5 ms."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if holds in (ask("/api/v1/orders") or "nothing") and "<html" in (ask("/") or ""):
            return
        time.sleep(0.005)
    raise SystemExit("the shop never was healthy")


def timed(work):
    os.sync()  # What the one before wrote is not waited for by the next.
    began = time.monotonic()
    work()
    return time.monotonic() - began


def shown(samples):
    return f"{statistics.median(samples):.2f} ({min(samples):.2f}–{max(samples):.2f})"


def row(what, ours, theirs, bare=None):
    times = statistics.median(theirs) / statistics.median(ours)
    engine = shown(bare) if bare else ""
    print(f"| {what} | {shown(ours)} | {shown(theirs)} | {times:.1f}× | {engine} |", flush=True)


class Engine(http.client.HTTPConnection):
    """The engine itself, with no program of anybody's between."""

    def __init__(self):
        super().__init__("docker", timeout=60)

    def connect(self):
        place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(place)

    @classmethod
    def ask(cls, method, path, body=None):
        engine = cls()
        text = None if body is None else json.dumps(body)
        engine.request(method, path, text, {"content-type": "application/json"})
        answer = engine.getresponse()
        said = answer.read()
        engine.close()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {said.decode()}")
        return json.loads(said) if said else None


def like(container):
    """Asks for a container of the same kind, of the bench's own."""
    seen = Engine.ask("GET", f"/containers/{container}/json")
    network = next(iter(seen["NetworkSettings"]["Networks"]))
    own = {**seen["Config"], "Labels": {"platform.bench": NAME}, "Hostname": ""}
    return {**own, "HostConfig": seen["HostConfig"], "NetworkingConfig": {"EndpointsConfig": {network: {}}}}


def come(kind):
    made = Engine.ask("POST", "/containers/create", kind)["Id"]
    Engine.ask("POST", f"/containers/{made}/start")
    return made


def go(made):
    Engine.ask("POST", f"/containers/{made}/stop?t=10")
    Engine.ask("DELETE", f"/containers/{made}?force=1")


def replaced(kind, count, at_once):
    """Seconds that the engine takes for as many new containers and the end of as many old ones, start-first as a deploy does it."""
    with concurrent.futures.ThreadPoolExecutor() as beside:
        old = list(beside.map(come, [kind] * count))
        new = []

        def by_turns():
            going = []
            for one in old:
                new.append(come(kind))
                # While the next one comes.
                going.append(beside.submit(go, one))
            concurrent.futures.wait(going)

        def together():
            new.extend(beside.map(come, [kind] * count))
            list(beside.map(go, old))

        took = timed(together if at_once else by_turns)
        list(beside.map(go, new))
    return took


def programs(folder):
    """Builds the shop's programs static, as `platform` does, and puts them into a folder."""
    target = f"{machine.machine()}-unknown-linux-gnu"
    flags = f'target.{target}.rustflags=["-C","target-feature=+crt-static"]'
    call("cargo", "build", "--quiet", "--locked", "--profile", PROFILE, "--target", target, "--config", flags,
         "-p", "orders", "-p", "web", cwd=ROOT)
    built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / target
    for name in ["orders", "web"]:
        shutil.copy(built / ("debug" if PROFILE == "dev" else PROFILE) / name, folder / name)


def runs_edition(edition, filters, page="one"):
    """Fails unless both instances of orders, and the one of web, are of an edition."""
    found = call("docker", "ps", "-q", *filters, cwd=ROOT).split()
    seen = call("docker", "inspect", "-f", "{{.Config.Env}}", *found, cwd=ROOT)
    of_orders, of_web = (len([line for line in seen.splitlines() if f"EDITION={one}" in line and f"PORT={port}" in line])
                         for one, port in [(edition, 8081), (page, 8082)])
    if (of_orders, of_web) != (2, 1) or seen.count("EDITION=") != 3:
        raise SystemExit(f"{of_orders} instances of orders are of edition {edition}, {of_web} of web of {page}: {seen}")


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="platform-bench-"))
    programs(folder)

    def write(edition, surge=1, page="one"):
        text = BLUEPRINT.format(name=NAME, port=PORT, edition=edition, surge=surge, page=page)
        (folder / "platform.toml").write_text(text)

    def platform(*words):
        return call(PLATFORM, "-e", "docker", *words, cwd=folder)

    def compose(*words):
        return call("docker-compose", "-p", f"{NAME}c", *words, cwd=folder)

    def up(start, holds):
        def work():
            start()
            healthy(holds)
        return timed(work)

    deploy = lambda: platform("deploy", "--yes")
    composed = lambda: compose("up", "-d")
    kind_of = lambda service: like(call("docker", "ps", "-q", *own, "--filter", f"label=platform.service={service}", cwd=folder).split()[0])
    own = ["--filter", f"label=platform.project={NAME}"]
    theirs_own = ["--filter", f"label=com.docker.compose.project={NAME}c"]

    def keep_program():
        """Gives the image of our own program a name of the bench's, so that rounds begin with it on the engine, as Compose's do."""
        platform("export", "compose", "--force")
        found = call("docker", "images", "--filter", "label=platform.build", "--format", "{{.ID}} {{.Repository}}", cwd=folder)
        own = [line.split()[0] for line in found.splitlines() if line.endswith("platform.local/platform")]
        call("docker", "tag", own[0], f"{NAME}:program", cwd=folder)

    try:
        write("one")
        keep_program()
        print("| what | platform, s | docker-compose or docker build, s | times faster | the engine alone, s |")
        print("| --- | ---: | ---: | ---: | ---: |")
        first, again, at_once, one, their_first, their_again, their_one = [], [], [], [], [], [], []
        bare_again, bare_at_once, bare_one = [], [], []
        for _ in range(RUNS):
            write("one")
            shutil.rmtree(folder / ".platform", ignore_errors=True)
            first.append(up(deploy, "["))
            ask("/api/v1/orders", ORDER)
            write("two")
            again.append(up(deploy, "ada"))
            runs_edition("two", own)
            write("three", surge=2)
            at_once.append(up(deploy, "ada"))
            runs_edition("three", own)
            write("three", page="two")
            one.append(up(deploy, "ada"))
            runs_edition("three", own, page="two")
            orders, web = kind_of("orders"), kind_of("web")
            bare_again.append(replaced(orders, 2, at_once=False))
            bare_at_once.append(replaced(orders, 2, at_once=True))
            bare_one.append(replaced(web, 1, at_once=True))
            platform("destroy", "--yes", "--data")
            write("one")
            platform("export", "compose", "--force")
            their_first.append(up(composed, "["))
            ask("/api/v1/orders", ORDER)
            write("two")
            platform("export", "compose", "--force")
            their_again.append(up(composed, "ada"))
            runs_edition("two", theirs_own)
            write("two", page="two")
            platform("export", "compose", "--force")
            their_one.append(up(composed, "ada"))
            runs_edition("two", theirs_own, page="two")
            compose("down", "-v", "-t", "1")
        row("from built programs to a healthy shop", first, their_first)
        row("orders changed, its two instances by turns", again, their_again, bare_again)
        row("the same, both at once (`surge = 2`)", at_once, their_again, bare_at_once)
        row("web changed, its one instance", one, their_one, bare_one)

        dockerfile = "FROM debian:bookworm-slim\nCOPY orders /app/orders\nUSER 65532\nENTRYPOINT [\"/app/orders\"]\n"
        (folder / "Dockerfile").write_text(dockerfile)
        (folder / ".dockerignore").write_text("*\n!orders\n")
        image, theirs = [], []
        debian = ["docker", "build", "--no-cache", "-q", "--label", LABEL, "-t", f"{NAME}:debian", "."]
        for _ in range(RUNS):
            image.append(timed(lambda: platform("build", "--service", "orders", "--again")))
            theirs.append(timed(lambda: call(*debian, cwd=folder)))
        row("an image from a built program", image, theirs)
        size = lambda name: int(call("docker", "image", "inspect", "-f", "{{.Size}}", name, cwd=folder))
        ours = call("docker", "images", "-q", f"platform.local/{NAME}-orders", cwd=folder).split()[0]
        print(f"\nImage: {size(ours) / 1e6:.1f} MB; on `debian:bookworm-slim`: {size(f'{NAME}:debian') / 1e6:.1f} MB.")
    finally:
        subprocess.run(["docker-compose", "-p", f"{NAME}c", "down", "-v", "-t", "1"], cwd=folder, capture_output=True)
        subprocess.run([PLATFORM, "-e", "docker", "destroy", "--yes", "--data"], cwd=folder, capture_output=True)
        left = f"docker ps -aq --filter label={LABEL} | xargs -r docker rm -f"
        subprocess.run(["sh", "-c", left], capture_output=True)
        # Each build but the last has lost its name to the next.
        images = f"docker images -q --filter label={LABEL} | sort -u | xargs -r docker rmi -f"
        subprocess.run(["sh", "-c", images], capture_output=True)
        subprocess.run(["docker", "rmi", f"{NAME}:program"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
