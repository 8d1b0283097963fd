"""The four proxies, each configured to do the same: one `Setup` says what."""

import dataclasses
import json
import pathlib
import subprocess

import tokens
from machine import NJS, PINNED, PLATFORM, PROXY, Program, free_port, wait_for

WORKERS = 1 if PINNED else 2
ENOUGH = 1_000_000  # A limit per second that is never reached.


@dataclasses.dataclass
class Setup:
    """What a proxy is to do."""

    folder: pathlib.Path
    ports: list  # Of the releases r1, r2.
    weights: tuple = (1, 0)  # Relative, whole numbers.
    secure: bool = False  # TLS and HTTP/2 beside.
    signer: tokens.Signer | None = None  # Asks for tokens.
    limit: int = 0  # Requests per second and client.
    cache: bool = False
    listening: int = 0
    secured: int = 0
    metrics: int = 0

    def __post_init__(self):
        self.listening, self.secured, self.metrics = free_port(), free_port(), free_port()

    def releases(self):
        """Name, port and weight of those that get anything."""
        named = zip(("r1", "r2"), self.ports, self.weights)
        return [one for one in named if one[2]]

    def certificate(self):
        return self.folder / "cert.pem", self.folder / "key.pem"


def nginx_frame(folder, name, workers, body, modules=""):
    path = folder / f"{name}.conf"
    path.write_text(
        f"""{modules} daemon off; pid {folder}/{name}.pid; error_log stderr error; worker_processes {workers};
        events {{ worker_connections 16000; }}
        http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
        client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;
        fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
        {body} }}"""
    )
    return ["nginx", "-p", folder, "-c", path]


def upstream(folder, name):
    """A release: files, and how many requests it has had."""
    port = free_port()
    body = f"""sendfile on; open_file_cache max=100; server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}/www;
        add_header X-Release {name}; location = /status {{ stub_status; }}
        location /kept/ {{ add_header X-Release {name}; add_header Cache-Control "public, max-age=600"; }} }}"""
    return port, Program(name, folder, nginx_frame(folder, name, 1, body))


def nginx(setup):
    folder, http, inside = setup.folder, "", ""
    for name, port, _ in setup.releases():
        http += f"upstream {name} {{ server 127.0.0.1:{port}; keepalive 256; keepalive_requests 1000000000; }}\n"
    target = "r1"
    if setup.weights[1]:
        share = 100 * setup.weights[1] / sum(setup.weights)
        # Random for each request, as nothing else tells requests of one connection apart.
        http += f"split_clients $request_id $release {{ {share:.2f}% r2; * r1; }}\n"
        target = "$release"
    if setup.signer:
        (folder / "token.js").write_text(tokens.njs(setup.signer))
        http += f"js_path {folder}; js_import token from token.js;\n"
        inside += "auth_request /token;\n"
    if setup.limit:
        http += f"limit_req_zone $binary_remote_addr zone=clients:10m rate={setup.limit}r/s;\n"
        inside += f"limit_req zone=clients burst={setup.limit} nodelay; limit_req_status 429;\n"
    if setup.cache:
        http += f"proxy_cache_path {folder}/cache keys_zone=kept:10m max_size=64m;\n"
        inside += "proxy_cache kept; proxy_cache_lock on; add_header X-Cache $upstream_cache_status;\n"
    secure = ""
    if setup.secure:
        certificate, key = setup.certificate()
        secure = f"listen 127.0.0.1:{setup.secured} ssl http2 backlog=4096;"
        secure += f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    http += f"""server {{ listen 127.0.0.1:{setup.listening} backlog=4096; {secure}
        location = /token {{ internal; {"js_content token.check;" if setup.signer else ""} }}
        location / {{ {inside} proxy_pass http://{target}; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id; }} }}
        server {{ listen 127.0.0.1:{setup.metrics}; location = /metrics {{ stub_status; }} }}"""
    modules = f"load_module {NJS};" if setup.signer else ""
    return nginx_frame(folder, "proxy", WORKERS, http, modules)


def haproxy(setup):
    front, tables, back = "", "", ""
    if setup.secure:
        front += f"  bind 127.0.0.1:{setup.secured} ssl crt {setup.folder}/both.pem alpn h2,http/1.1\n"
    if setup.signer:
        deny = "  http-request deny deny_status 401"
        front += f"""{deny} unless {{ http_auth_bearer,jwt_header_query('$.alg') -m str RS256 }}
{deny} unless {{ http_auth_bearer,jwt_verify(RS256,"{setup.signer.public}") 1 }}
  http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')
{deny} if {{ date,sub(txn.exp) -m int ge 0 }}
{deny} unless {{ http_auth_bearer,jwt_payload_query('$.iss') -m str {tokens.ISSUER} }}
{deny} unless {{ http_auth_bearer,jwt_payload_query('$.aud') -m str {tokens.AUDIENCE} }}
"""
    if setup.limit:
        tables += "backend clients\n  stick-table type ip size 100k expire 30s store http_req_rate(1s)\n"
        front += "  http-request track-sc0 src table clients\n"
        front += f"  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {setup.limit} }}\n"
    if setup.cache:
        tables += "cache kept\n  total-max-size 64\n  max-object-size 1000000\n  max-age 600\n"
        back += "  http-request cache-use kept\n  http-response cache-store kept\n"
    for name, port, weight in setup.releases():
        back += f"  server {name} 127.0.0.1:{port} weight {weight}\n"
    path = setup.folder / "haproxy.cfg"
    path.write_text(
        f"""global
  maxconn 12000
  no strict-limits
  nbthread {WORKERS}
defaults
  mode http
  timeout connect 2s
  timeout client 600s
  timeout server 60s
  timeout http-keep-alive 600s
  option forwardfor
{tables}frontend plain
  bind 127.0.0.1:{setup.listening} backlog 4096
  unique-id-format %[uuid]
  unique-id-header X-Request-Id
{front}  default_backend up
frontend metrics
  bind 127.0.0.1:{setup.metrics}
  http-request use-service prometheus-exporter
backend up
  balance roundrobin
  http-reuse always
{back}"""
    )
    return ["haproxy", "-f", path, "-db"]


def caddy(setup):
    """Has neither tokens, limits nor a cache in Debian's build; a share is an upstream that is named more than once."""
    upstreams = " ".join(f"127.0.0.1:{port}" for _, port, weight in setup.releases() for _ in range(weight))
    # Timeouts of idle connections are longer than any of this by default.
    site = f"  reverse_proxy {upstreams} {{\n    lb_policy round_robin\n  }}\n"
    certificate, key = setup.certificate()
    text = "{\n  admin off\n  auto_https off\n"
    text += "  servers {\n    metrics\n  }\n}\n" if setup.limit else "}\n"
    text += f"http://127.0.0.1:{setup.listening} {{\n{site}}}\n"
    if setup.secure:
        text += f"https://127.0.0.1:{setup.secured} {{\n  tls {certificate} {key}\n{site}}}\n"
    if setup.limit:
        text += f"http://127.0.0.1:{setup.metrics} {{\n  metrics /metrics\n}}\n"
    path = setup.folder / "Caddyfile"
    path.write_text(text)
    return ["caddy", "run", "--config", path, "--adapter", "caddyfile"]


def gateway(setup):
    total = sum(setup.weights)
    route = {"name": "all", "service": "up"}
    config = {
        "revision": 1,
        "listeners": [
            {"name": "plain", "address": f"127.0.0.1:{setup.listening}", "limits": {"keep_alive_ms": 600_000}}
        ],
        "routes": [route],
        "services": {
            "up": {
                "versions": {
                    one: {
                        "weight": 1000 * weight // total,
                        "endpoints": [{"id": one, "address": f"127.0.0.1:{port}"}],
                    }
                    for one, port, weight in setup.releases()
                }
            }
        },
    }
    if setup.secure:
        certificate, key = map(str, setup.certificate())
        tls = {"certificates": [{"certificate": certificate, "key": key}]}
        config["listeners"].append({"name": "secure", "address": f"127.0.0.1:{setup.secured}", "tls": tls})
    if setup.signer:
        keys = {"inline": setup.signer.jwks()}
        config["identity"] = {"issuer": tokens.ISSUER, "audiences": [tokens.AUDIENCE], "jwks": keys}
        route["auth"] = {}
    if setup.limit:
        route["rate_limit"] = {"requests": setup.limit, "every_ms": 1000}
    if setup.cache:
        route["cache"] = {}
    path = setup.folder / "gateway.json"
    path.write_text(json.dumps(config))
    return [PLATFORM, "gateway", "--config", path, "--admin", setup.folder / "admin.sock"]


PROXIES = {"nginx": nginx, "HAProxy": haproxy, "Caddy": caddy, "gateway": gateway}


def start(proxy, setup):
    """A proxy that listens."""
    program = Program(proxy, setup.folder, PROXIES[proxy](setup), PROXY)
    try:
        wait_for(setup.listening, program)
        if setup.secure:
            wait_for(setup.secured, program)
    except BaseException:
        program.stop()
        raise
    return program


def metrics(proxy, setup):
    """What the proxy says about itself."""
    where = ["--unix-socket", setup.folder / "admin.sock"] if proxy == "gateway" else []
    ask = ["curl", "-sS", "-m", "5", *where, f"http://127.0.0.1:{setup.metrics}/metrics"]
    return subprocess.run([*map(str, ask)], capture_output=True, text=True).stdout
