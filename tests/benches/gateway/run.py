#!/usr/bin/env python3
"""Measures the gateway beside nginx, HAProxy and Caddy: same machine, same upstream, one after the other.

Requests per CPU-second of the proxy (user and system time of all its processes) are the main figure, as they hold on a
machine that does other things too. Latencies are closed-loop, as wrk and h2load measure them.

Needs nginx, haproxy, caddy, wrk, h2load and openssl, and a release build of `platform` (or its path in $PLATFORM).
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLATFORM = os.environ.get("PLATFORM", str(ROOT / "target/release/platform"))
SECONDS = int(os.environ.get("SECONDS_EACH", "8"))
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"nobody listens on {port}")


def family(pid):
    """The process and all below it."""
    found = [pid]
    for one in found:
        try:
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            pass
    return found


def usage(pid):
    """CPU seconds and resident bytes."""
    seconds = memory = 0
    for one in family(pid):
        try:
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            seconds += (int(fields[11]) + int(fields[12])) / TICKS
            memory += int(fields[21]) * PAGE
        except OSError:
            pass
    return seconds, memory


class Program:
    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def nginx(folder, name, body):
    path = folder / f"{name}.conf"
    path.write_text(
        f"""daemon off; pid {folder}/{name}.pid; error_log stderr crit; worker_processes 2;
        events {{ worker_connections 20000; }}
        http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/{name}-body;
        proxy_temp_path {folder}/{name}-proxy; fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u;
        scgi_temp_path {folder}/{name}-s; {body} }}"""
    )
    return Program("nginx", "-p", str(folder), "-c", str(path))


def proxies(folder, upstream, plain, secure):
    """How each is started, with the same features on."""
    pem = folder / "both.pem"
    yield "nginx", lambda: nginx(
        folder,
        "proxy",
        f"""upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
        server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl http2;
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
        location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id; proxy_buffering on; }} }}""",
    )
    haproxy = folder / "haproxy.cfg"
    haproxy.write_text(
        f"""global
  maxconn 5000
  nbthread 2
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  option forwardfor
frontend plain
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{secure} ssl crt {pem} alpn h2,http/1.1
  unique-id-format %[uuid]
  unique-id-header X-Request-Id
  default_backend up
backend up
  http-reuse always
  server one 127.0.0.1:{upstream}
"""
    )
    yield "haproxy", lambda: Program("haproxy", "-f", str(haproxy), "-db")
    caddy = folder / "Caddyfile"
    caddy.write_text(
        f"""{{
  admin off
  auto_https off
}}
http://127.0.0.1:{plain} {{
  reverse_proxy 127.0.0.1:{upstream}
}}
https://127.0.0.1:{secure} {{
  tls {folder}/cert.pem {folder}/key.pem
  reverse_proxy 127.0.0.1:{upstream}
}}
"""
    )
    yield "caddy", lambda: Program("caddy", "run", "--config", str(caddy), "--adapter", "caddyfile")
    gateway = folder / "gateway.toml"
    gateway.write_text(
        f"""revision = 1
routes = [{{ name = "all", service = "up" }}]
[[listeners]]
name = "plain"
address = "127.0.0.1:{plain}"
[[listeners]]
name = "secure"
address = "127.0.0.1:{secure}"
tls = {{ certificates = [{{ certificate = "{folder}/cert.pem", key = "{folder}/key.pem" }}] }}
[services.up.versions.r1]
weight = 1000
endpoints = [{{ id = "one", address = "127.0.0.1:{upstream}" }}]
"""
    )
    yield "gateway", lambda: Program(PLATFORM, "gateway", "--config", str(gateway))


def wrk(url):
    text = subprocess.run(
        ["wrk", "-t1", "-c64", f"-d{SECONDS}s", "--latency", url], capture_output=True, text=True, check=True
    ).stdout
    count = int(re.search(r"(\d+) requests in", text)[1])
    errors = re.search(r"Socket errors: (.*)|Non-2xx or 3xx responses: (\d+)", text)
    # Standard deviations are shares, too, and stand before the lines of the distribution.
    half, most = (re.search(rf"^ +{share}% +(\S+)$", text, re.MULTILINE)[1] for share in (50, 99))
    return count, half, most, errors and errors[0]


def h2load(url):
    text = subprocess.run(
        ["h2load", "-t1", "-c16", "-m8", f"-D{SECONDS}", url], capture_output=True, text=True, check=True
    ).stdout
    count = int(re.search(r"(\d+) succeeded", text)[1])
    failed = re.search(r"(\d+) failed", text)[1]
    mean = re.search(r"time for request:\s+\S+\s+(\S+)\s+(\S+)", text)
    return count, f"mean {mean[2]}", f"max {mean[1]}", failed != "0" and f"{failed} failed"


def main():
    for program in ["nginx", "haproxy", "caddy", "wrk", "h2load", "openssl", PLATFORM]:
        if not shutil.which(program):
            raise SystemExit(f"`{program}` is missing")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.chmod(folder, 0o755)
        (folder / "www").mkdir()
        (folder / "www/small").write_text("x" * 200)
        (folder / "www/large").write_bytes(os.urandom(1 << 20))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
        os.chmod(folder / "key.pem", 0o644)
        upstream, plain, secure = free_port(), free_port(), free_port()
        back = nginx(folder, "back", f"sendfile on; server {{ listen 127.0.0.1:{upstream}; root {folder}/www; }}")
        try:
            wait_for(upstream)
            print(f"{'':10} {'case':12} {'requests/s':>11} {'per CPU-s':>10} {'p50':>12} {'p99':>12} {'resident':>10}")
            for proxy, start in proxies(folder, upstream, plain, secure):
                running = start()
                try:
                    wait_for(plain)
                    wait_for(secure)
                    wrk_once(plain)
                    for case, run in [
                        ("plain", lambda: wrk(f"http://127.0.0.1:{plain}/small")),
                        ("tls+http2", lambda: h2load(f"https://127.0.0.1:{secure}/small")),
                        ("1 MiB", lambda: wrk(f"http://127.0.0.1:{plain}/large")),
                    ]:
                        before, _ = usage(running.process.pid)
                        count, p50, p99, errors = run()
                        after, memory = usage(running.process.pid)
                        spent = max(after - before, 0.01)
                        print(
                            f"{proxy:10} {case:12} {count / SECONDS:11.0f} {count / spent:10.0f} {p50:>12} {p99:>12}"
                            f" {memory / 2**20:7.1f} MiB{'  ' + errors if errors else ''}",
                            flush=True,
                        )
                finally:
                    running.stop()
        finally:
            back.stop()


def wrk_once(port):
    """Warms up."""
    subprocess.run(["wrk", "-t1", "-c16", "-d1s", f"http://127.0.0.1:{port}/small"], capture_output=True, check=True)


if __name__ == "__main__":
    main()
