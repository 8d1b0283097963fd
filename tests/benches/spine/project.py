"""Generated projects: blueprints of any size, the same graph for Terraform, and a place where `platform` runs them."""

import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLATFORM = os.environ.get("PLATFORM", str(ROOT / "target/release/platform"))
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def blueprint(services, program, gateway):
    """A blueprint of (name, needs, milliseconds until ready) triples, each service with what a usual one has."""
    text = ['[project]\nname = "bench"\n']
    for number, (name, needs, delay) in enumerate(services):
        text.append(
            f"""[services.{name}]
command = ["{program}"]
port = {number + 20001}
needs = {json.dumps(needs)}
health = {{ ready = "/health/ready", live = "/health/live", start_within = "60s" }}
env = {{ READY_AFTER_MS = "{delay}", LOG = "info" }}
"""
        )
    text.append(f"[gateway]\nport = {gateway}\n")
    if services:
        text.append(f'[[routes]]\npath = "/"\nservice = "{services[0][0]}"\n')
    return "\n".join(text)


def tree(count):
    """So many services, each with one need: a binary tree, so that the graph is as deep as a large system's."""
    return [(f"s{n}", [f"s{(n - 1) // 2}"] if n else [], 0) for n in range(count)]


def layers(width, depth, delay):
    """Layers in which each service needs two of the layer before."""
    found = []
    for layer in range(depth):
        for place in range(width):
            near = sorted({place, (place + 1) % width})
            needs = [f"l{layer - 1}-{other}" for other in near] if layer else []
            found.append((f"l{layer}-{place}", needs, delay))
    return found


def terraform(services):
    """The same graph as `terraform_data` resources, which are built in and talk to nobody."""
    return "\n".join(
        f'resource "terraform_data" "{name}" {{\n  input = {{\n    port  = {number + 20001}\n'
        f'    log   = "info"\n    needs = [{", ".join(f"terraform_data.{need}.id" for need in needs)}]\n  }}\n}}\n'
        for number, (name, needs, _) in enumerate(services)
    )


class Place:
    """A folder under /tmp with a home of its own. Whatever runs in it is gone when it is left."""

    def __init__(self, text):
        # Paths of unix sockets are short, so the folder's is too.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="spine", dir="/tmp"))
        for inside in ("project", "home", "run"):
            (self.folder / inside).mkdir(mode=0o700)
        self.project = self.folder / "project"
        self.write(text)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "CHECKPOINT_DISABLE": "1",
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if (self.project / ".platform").exists():
            self.run([PLATFORM, "destroy", "--yes", "--data"], check=False)
        left = self.processes()
        shutil.rmtree(self.folder)
        if left:
            raise SystemExit(f"left behind: {left}")

    def write(self, text):
        (self.project / "platform.toml").write_text(text)

    def run(self, command, check=True):
        """Runs to the end; returns the wall time in milliseconds."""
        with open(self.folder / "output", "w+") as output:
            begun = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=self.project, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            # Waiting with a limit looks now and then, which is what would be measured.
            watch = threading.Timer(300, process.kill)
            watch.start()
            code = process.wait()
            took = (time.perf_counter() - begun) * 1000
            watch.cancel()
            if check and code != 0:
                output.seek(0)
                raise SystemExit(f"{command} ended with {code}:\n{output.read()[-4000:]}")
        return took

    def processes(self):
        """Command lines, by process, of what has this place in its command line or environment."""
        mark = str(self.folder).encode() + b"/"
        found = {}
        for one in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                line = (one / "cmdline").read_bytes()
                if mark in line or mark in (one / "environ").read_bytes():
                    found[int(one.name)] = line.replace(b"\0", b" ").decode().strip()
            except OSError:
                pass
        return found


def median_of(samples):
    """Median and the range of all."""
    return statistics.median(samples), min(samples), max(samples)


def cost(pid):
    """Processor seconds so far; resident, proportional and private memory in KiB; threads."""
    process = pathlib.Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
    memory = {}
    for line in (process / "smaps_rollup").read_text().splitlines()[1:]:
        name, amount = line.split()[:2]
        memory[name.rstrip(":")] = int(amount)
    return {
        "seconds": (int(fields[11]) + int(fields[12])) / TICKS,
        "resident": memory["Rss"],
        "proportional": memory["Pss"],
        "private": memory["Private_Clean"] + memory["Private_Dirty"],
        "dirty": memory["Private_Dirty"],
        "threads": int(fields[17]),
    }
