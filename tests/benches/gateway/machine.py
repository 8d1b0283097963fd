"""Processes on this machine: what they are pinned to, what they cost, and how they end."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLATFORM = os.environ.get("PLATFORM", str(ROOT / "target/release/platform"))
OHA = os.environ.get("OHA", "oha")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
NJS = "/usr/lib/nginx/modules/ngx_http_js_module.so"
# The proxy has the first processor to itself; load and upstreams share the others.
PINNED = os.environ.get("PIN", "1") == "1" and (os.cpu_count() or 1) > 1
PROXY = "0" if PINNED else None
OTHERS = f"1-{os.cpu_count() - 1}" if PINNED else None

NEEDS = {
    "nginx": "Debian's nginx",
    "haproxy": "Debian's haproxy",
    "caddy": "Debian's caddy",
    "wrk": "Debian's wrk",
    "h2load": "Debian's nghttp2-client",
    "openssl": "Debian's openssl",
    "curl": "Debian's curl",
    "taskset": "Debian's util-linux",
    OHA: "`cargo install oha`, or its path in $OHA",
    PLATFORM: "`cargo build --release -p platform`, or its path in $PLATFORM",
    NJS: "Debian's libnginx-mod-http-js",
}


def require():
    """Ends the bench with a sentence for each program that is missing."""
    missing = [f"`{name}` is missing: {whence}" for name, whence in NEEDS.items()
               if not (pathlib.Path(name).exists() or shutil.which(name))]  # fmt: skip
    if missing:
        raise SystemExit("\n".join(missing))


def pinned(arguments, cpus=OTHERS):
    """The command, on its processors."""
    return [*(["taskset", "-c", cpus] if cpus else []), *map(str, arguments)]


def output(*arguments, **options):
    """What a program that makes load says."""
    done = subprocess.run(pinned(arguments), capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"`{arguments[0]}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port, program):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if program.process.poll() is not None:
                break
            time.sleep(0.02)
    raise SystemExit(f"nobody listens on {port}; {program.name} said:\n{program.said()}")


def family(pid):
    """The process and all below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


class Program:
    """A program that runs until it is told to stop, with all that it starts."""

    def __init__(self, name, folder, arguments, cpus=OTHERS):
        self.name = name
        self.log = pathlib.Path(folder) / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                pinned(arguments, cpus), stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )

    def said(self):
        return self.log.read_text(errors="replace")[-2000:]

    def seconds(self):
        """Processor time, of user and system."""
        spent = 0
        for one in family(self.process.pid):
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
                spent += int(fields[11]) + int(fields[12])
        return spent / TICKS

    def resident(self):
        """Resident bytes; what several processes share counts once for each."""
        pages = 0
        for one in family(self.process.pid):
            with contextlib.suppress(OSError):
                pages += int(pathlib.Path(f"/proc/{one}/statm").read_text().split()[1])
        return pages * PAGE

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def busy():
    """Processor time that anything on this machine has taken."""
    fields = [int(one) for one in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    idle, waiting = fields[3:5]
    return (sum(fields[:8]) - idle - waiting) / TICKS


def own(programs):
    """Processor time that the bench has taken: programs that run, and those that have ended."""
    ended = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    return sum(one.ru_utime + one.ru_stime for one in ended) + sum(one.seconds() for one in programs)


def versions():
    """What is measured, in one line each."""
    def first(*arguments):
        done = subprocess.run(arguments, capture_output=True, text=True)
        return (done.stdout + done.stderr).strip().splitlines()[0]

    return {
        "nginx": first("nginx", "-v").split("/")[-1],
        "HAProxy": first("haproxy", "-v").split()[2],
        "Caddy": first("caddy", "version").split()[0],
        "gateway": first(PLATFORM, "version"),
    }
