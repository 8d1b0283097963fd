#!/usr/bin/env python3
"""Times a Docker environment against docker-compose and `docker build`, by turns in one run. Prints Markdown.

Needs a Docker engine with `platform/postgres:15` (`.ci/docker` makes it), docker-compose, rustc, and `platform` in
`PLATFORM` or `target/release`. Everything it starts has a project name of its own and is taken away at the end.
"""

import os
import pathlib
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
NAME = f"bench{os.getpid()}"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


PORT = free_port()
BLUEPRINT = """[project]
name = "{name}"

[services.api]
build = {{ program = "api" }}
command = ["api", "--exact", "serves_when_a_blueprint_asks", "--nocapture"]
port = 9000
replicas = 2
needs = ["db"]
health = {{ ready = "/health", interval = "200ms" }}
env = {{ RESPOND = "{answer}" }}

[services.web]
build = {{ program = "api" }}
command = ["api", "--exact", "serves_when_a_blueprint_asks", "--nocapture"]
port = 9001
health = {{ ready = "/health", interval = "200ms" }}
env = {{ RESPOND = "web" }}

[resources.db]
kind = "postgres"
version = "15"
image = "platform/postgres:15"

[gateway]
port = {port}

[[routes]]
path = "/"
service = "api"

[[routes]]
path = "/web"
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


def call(*words, cwd, quiet=True):
    done = subprocess.run(words, cwd=cwd, capture_output=quiet, text=True)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def answers(what):
    """Waits until the gateway answers so; polls every 5 ms."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=2) as answer:
                if answer.read().decode().startswith(what):
                    return
        except OSError:
            pass
        time.sleep(0.005)
    raise SystemExit(f"it never answered {what}")


def timed(work):
    os.sync()  # What the one before wrote is not waited for by the next.
    began = time.monotonic()
    work()
    return time.monotonic() - began


def shown(samples):
    return f"{statistics.median(samples):.2f} ({min(samples):.2f}–{max(samples):.2f})"


def row(what, ours, theirs):
    times = statistics.median(theirs) / statistics.median(ours)
    print(f"| {what} | {shown(ours)} | {shown(theirs)} | {times:.1f}× |", flush=True)


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="platform-bench-"))
    source = ROOT / "tests/e2e/responder.rs"
    call("rustc", "--edition", "2024", "--test", "-O", "-C", "target-feature=+crt-static", "--cap-lints", "allow",
         "-o", str(folder / "api"), str(source), cwd=folder)

    def write(answer, surge=1):
        text = BLUEPRINT.format(name=NAME, port=PORT, answer=answer, surge=surge)
        (folder / "platform.toml").write_text(text)

    def platform(*words):
        return call(PLATFORM, "-e", "docker", *words, cwd=folder)

    def compose(*words):
        return call("docker-compose", "-p", f"{NAME}c", *words, cwd=folder)

    def up(answer, start):
        def work():
            start()
            answers(answer)
        return work

    try:
        print("| what | platform, s | docker-compose or docker build, s | times faster |")
        print("| --- | ---: | ---: | ---: |")
        first, again, at_once, their_first, their_again = [], [], [], [], []
        for _ in range(RUNS):
            write("one")
            shutil.rmtree(folder / ".platform", ignore_errors=True)
            first.append(timed(up("one", lambda: platform("deploy", "--yes"))))
            write("two")
            again.append(timed(up("two", lambda: platform("deploy", "--yes"))))
            write("three", surge=2)
            at_once.append(timed(up("three", lambda: platform("deploy", "--yes"))))
            platform("destroy", "--yes", "--data")
            write("one")
            platform("export", "compose", "--force")
            their_first.append(timed(up("one", lambda: compose("up", "-d"))))
            write("two")
            platform("export", "compose", "--force")
            their_again.append(timed(up("two", lambda: compose("up", "-d"))))
            compose("down", "-v", "-t", "1")
        row("from a built program to the first good answer", first, their_first)
        row("one of two services changed, its two instances by turns", again, their_again)
        row("the same, both at once (`surge = 2`)", at_once, their_again)

        (folder / "Dockerfile").write_text("FROM debian:bookworm-slim\nCOPY api /app/api\nUSER 65532\nENTRYPOINT [\"/app/api\"]\n")
        (folder / ".dockerignore").write_text("*\n!api\n")
        image, theirs = [], []
        for _ in range(RUNS):
            image.append(timed(lambda: platform("build", "--service", "api", "--again")))
            theirs.append(timed(lambda: call("docker", "build", "--no-cache", "-q", "-t", f"{NAME}:debian", ".", cwd=folder)))
        row("an image from a built program", image, theirs)
        size = lambda name: int(call("docker", "image", "inspect", "-f", "{{.Size}}", name, cwd=folder))
        ours = call("docker", "images", "-q", f"platform.local/{NAME}-api", cwd=folder).split()[0]
        print(f"\nImage: {size(ours) / 1e6:.1f} MB; on `debian:bookworm-slim`: {size(f'{NAME}:debian') / 1e6:.1f} MB.")
    finally:
        subprocess.run([PLATFORM, "-e", "docker", "destroy", "--yes", "--data"], cwd=folder, capture_output=True)
        subprocess.run(["docker-compose", "-p", f"{NAME}c", "down", "-v", "-t", "1"], cwd=folder, capture_output=True)
        images = f"docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' 'platform.local/{NAME}-*' {NAME} | xargs -r docker rmi"
        subprocess.run(["sh", "-c", f"{images}; docker rmi -f {NAME}:debian"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
