#!/usr/bin/env python3
"""The suites that `run` names, each against a gateway of its own."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
GATEWAY = os.environ["GATEWAY"]
RESULTS = pathlib.Path(os.environ["RESULTS"])
TOOLS = pathlib.Path(os.environ["TOOLS"])
PATIENCE = 30


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.02)
    raise SystemExit(f"nobody listens on {port}")


class Service(http.server.BaseHTTPRequestHandler):
    """A service that answers the same to everything."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        body = b"x" * 1024
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_):
        """Connections that are given up are what some suites are about."""


@contextlib.contextmanager
def service():
    server = Server(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


@contextlib.contextmanager
def program(*arguments, **options):
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **options
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def gateway(upstream, route=None, tls=None, limits=None):
    """A gateway before a service; yields its port, its folder and its process."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        port = free_port()
        listener = {"name": "public", "address": f"127.0.0.1:{port}", "limits": limits or {}}
        if tls:
            key, chain = folder / "key.pem", folder / "chain.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
                + ["-keyout", key, "-out", chain, "-days", "90", "-subj", "/CN=localhost"]
                + ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                check=True,
                capture_output=True,
            )
            listener["tls"] = {"certificates": [{"certificate": str(chain), "key": str(key)}]}
        config = {
            "revision": 1,
            "listeners": [listener],
            "routes": [{"name": "all", "service": "up", **(route or {})}],
            "services": {
                "up": {
                    "versions": {
                        "r1": {"weight": 1000, "endpoints": [{"id": "one", "address": f"127.0.0.1:{upstream}"}]}
                    }
                }
            },
        }
        path = folder / "gateway.json"
        path.write_text(json.dumps(config))
        with program(GATEWAY, "gateway", "--config", path, "--admin", folder / "admin.sock", "--drain", "1s") as one:
            wait_for(port)
            yield port, folder, one


def out(name, text):
    (RESULTS / name).write_text(text)
    return text


def run(name, *arguments, limit=900, **options):
    """Runs a tool and keeps what it says."""
    done = subprocess.run(
        [str(one) for one in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=limit,
        **options,
    )
    out(name, done.stdout)
    return done


def judge(suite, findings, checked, least):
    """Whether the suite checked enough, and found nothing but what accepted.toml names."""
    groups = tomllib.loads((HERE / "accepted.toml").read_text())[suite]
    accepted = {name for group in groups for name in group["tests"]}
    for name in sorted(set(findings) - accepted):
        print(f"{suite}: NOT ACCEPTED {name}: {findings[name]}")
    if mended := sorted(accepted - set(findings)):
        print(f"{suite}: accepted, but not found any more: {', '.join(mended)}")
    if checked < least:
        print(f"{suite}: checked {checked} things where {least} are known")
    return checked >= least and set(findings) <= accepted


def serves(port):
    """Whether another client is served meanwhile."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def resident(process):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) // 1024


def suite_cache():
    package = TOOLS / "node_modules/http-cache-tests"
    origin = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            **os.environ,
            "npm_config_protocol": "http",
            "npm_config_port": str(origin),
            "npm_config_pidfile": f"{folder}/pid",
        }
        with program("node", "server/server.mjs", cwd=package, env=settings):
            wait_for(origin)
            with gateway(origin, route={"cache": {}}) as (port, _, _):
                base = {**os.environ, "npm_config_base": f"http://127.0.0.1:{port}", "npm_package_config_id": ""}
                done = subprocess.run(
                    ["node", "--no-warnings", "cli.mjs"], cwd=package, env=base, capture_output=True, text=True, timeout=900
                )
    start = done.stdout.index("{")
    out("cache.json", done.stdout[start:])
    text = run("cache.txt", "node", HERE / "cache.mjs", package, RESULTS / "cache.json").stdout
    print(*re.findall(r"^(?:required|optimal|check|standing).*: .*", text, re.M)[:4], sep="\n")
    missed = dict(re.findall(r"^(?:required|optimal|setup) ([^:\s]+): (.*)", text, re.M))
    checked = sum(int(count) for count in re.findall(r"^(?:required|optimal|check): \d+ of (\d+)", text, re.M))
    return judge("http-cache-tests", missed, checked, 320)


def suite_load():
    good = True
    with service() as upstream, gateway(upstream) as (port, _, process):
        for name, arguments in [
            ("h2load-h1", ["h2load", "--h1", "-n", "20000", "-c", "50", f"http://127.0.0.1:{port}/"]),
            ("h2load-h2c", ["h2load", "-n", "20000", "-c", "20", "-m", "50", f"http://127.0.0.1:{port}/"]),
            ("wrk", ["wrk", "-t2", "-c100", "-d5s", f"http://127.0.0.1:{port}/"]),
        ]:
            text = run(f"{name}.txt", *arguments).stdout
            lines = re.findall(r"^(?:requests:.*|status codes:.*|finished.*|.*Socket errors.*|.*Non-2xx.*|Requests/sec.*)$", text, re.M)
            print(name, *lines, sep="\n  ")
            requests = re.search(r"(\d+) succeeded, (\d+) failed", text)
            good &= not requests or requests[2] == "0"
            good &= "Non-2xx" not in text and "Socket errors" not in text
        print(f"  resident: {resident(process)} MiB")
    with service() as upstream, gateway(upstream, tls=True) as (port, _, _):
        text = run("h2load-tls.txt", "h2load", "-n", "20000", "-c", "20", "-m", "50", f"https://127.0.0.1:{port}/").stdout
        lines = re.findall(r"^(?:requests:.*|status codes:.*|Application protocol.*|finished.*)$", text, re.M)
        print("h2load-tls", *lines, sep="\n  ")
        good &= "Application protocol: h2" in text and re.search(r" (\d+) failed", text)[1] == "0"
    return good


def suite_slow():
    good = True
    limits = {"head_ms": 5_000, "idle_ms": 5_000, "keep_alive_ms": 10_000}
    for name, arguments in [
        ("slowloris", ["-H", "-i", "2"]),
        ("slow-body", ["-B", "-i", "2", "-s", "8192"]),
        ("slow-read", ["-X", "-w", "1", "-y", "16", "-n", "2", "-z", "32", "-k", "3"]),
        ("range", ["-R", "-a", "10", "-b", "3000"]),
    ]:
        with service() as upstream, gateway(upstream, limits=limits) as (port, _, process):
            before = resident(process)
            tool = subprocess.Popen(
                ["slowhttptest", *arguments, "-c", "2000", "-r", "500", "-l", "15", "-p", "3", "-u", f"http://127.0.0.1:{port}/"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            text = []
            reader = threading.Thread(target=lambda: text.append(tool.stdout.read()))
            reader.start()
            asked = served = 0
            while tool.poll() is None:
                asked += 1
                served += serves(port)
                time.sleep(0.2)
            reader.join()
            out(f"{name}.txt", text[0])
            plain = re.sub(r"\x1b\[[0-9;]*m", "", text[0])
            available = set(re.findall(r"service available:\s+(\w+)", plain))
            ending = re.findall(r"Exit status: (.*)", plain)
            print(f"{name}: others served {served} of {asked}; it says available {sorted(available)}; {ending[-1:]};")
            print(f"  resident {before} to {resident(process)} MiB")
            good &= served == asked and asked > 0
    return good


def suite_tls():
    with service() as upstream, gateway(upstream, tls=True) as (port, _, _):
        text = run("sslscan.txt", "sslscan", "--no-colour", f"127.0.0.1:{port}").stdout
        offered = re.findall(r"^(?:Accepted|Preferred)\s+(\S+)\s+\d+ bits\s+(\S+)", text, re.M)
        print("sslscan:", *sorted(f"{version} {cipher}" for version, cipher in offered), sep="\n  ")
        report = RESULTS / "testssl.json"
        report.unlink(missing_ok=True)
        run(
            "testssl.txt", "testssl", "--quiet", "--color", "0", "--warnings", "batch", "--ip", "one",
            "--jsonfile", report, f"https://127.0.0.1:{port}/",
        )
        found = json.loads(report.read_text())
        not_good = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL")
        bad = {one["id"]: f"{one['severity']}: {one['finding']}" for one in found if one["severity"] in not_good}
        print(f"testssl: {len(found)} findings, {len(bad)} of them not good")
    known = {version for version, _ in offered} == {"TLSv1.2", "TLSv1.3"}
    return judge("testssl", bad, len(found), 120) and known


def relay(path):
    """A port on loopback that leads to a unix socket, for tools that know no such sockets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(one, other):
        with contextlib.suppress(OSError):
            while part := one.recv(65536):
                other.sendall(part)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(path))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def suite_admin():
    with service() as upstream, gateway(upstream) as (_, folder, process):
        listener = relay(folder / "admin.sock")
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = run(
            "schemathesis.txt", TOOLS / "python/bin/schemathesis", "run", f"{base}/openapi.json",
            "--url", base, "--exclude-path", "/drain", "--max-examples", "100", "--seed", "1", "--no-color",
            # No schema can say that a route must name a service that is there.
            "--exclude-checks", "positive_data_acceptance",
            # It leaves files where it is run.
            cwd=RESULTS,
        )
        print("schemathesis:", *done.stdout.splitlines()[-30:], sep="\n  ")
        alive = process.poll() is None
        listener.close()
        return alive and done.returncode == 0


def main():
    suites = {name.removeprefix("suite_"): suite for name, suite in globals().items() if name.startswith("suite_")}
    wanted = sys.argv[1:] or list(suites)
    failed = []
    for name in wanted:
        started = time.monotonic()
        print(f"=== {name}", flush=True)
        if not suites[name]():
            failed.append(name)
        print(f"=== {name}: {'FAILED' if name in failed else 'as expected'} ({time.monotonic() - started:.0f} s)", flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
