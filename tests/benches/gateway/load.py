"""Load from outside: as fast as answers come (wrk, h2load), or at a fixed rate whatever comes (oha)."""

import json
import os
import re

from machine import OHA, output

SECONDS = int(os.environ.get("SECONDS_EACH", "6"))
RATE = int(os.environ.get("RATE", "2000"))
CONNECTIONS = 64


class Failed(SystemExit):
    """Some requests were not answered as they should be, so that no figure counts."""


def wrk(url, script=None, seconds=SECONDS):
    """Requests answered over HTTP/1.1 from 64 connections."""
    script = ["-s", script] if script else []
    text = output("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *script, url)
    if errors := re.search(r"Socket errors: .*|Non-2xx or 3xx responses: \d+", text):
        raise Failed(f"{url}: {errors[0]}")
    return int(re.search(r"(\d+) requests in", text)[1])


def h2load(url, seconds=SECONDS):
    """Requests answered over HTTP/2, 8 at a time on each of 16 connections."""
    text = output("h2load", "-t1", "-c16", "-m8", f"-D{seconds}", url)
    if "Application protocol: h2" not in text:
        raise Failed(f"{url}: no HTTP/2 was spoken")
    good = int(re.search(r"status codes: (\d+) 2xx", text)[1])
    bad = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text)
    if any(int(one) for one in bad.groups()):
        raise Failed(f"{url}: {bad[0]}")
    return good


def count(url, requests):
    """Exactly so many, over HTTP/1.1 from 16 connections."""
    text = output("h2load", "--h1", "-t1", "-c16", f"-n{requests}", url)
    if f"status codes: {requests} 2xx" not in text:
        raise Failed(f"{url}: {re.search('status codes.*', text)[0]}")


def paced(url, rate=RATE, seconds=SECONDS, connections=CONNECTIONS, token=None, http2=False):
    """Sends at a fixed rate. What waits because the proxy is behind has its wait counted, from when it was to be sent.

    Returns how many were answered, and p50, p99 and p99.9 in milliseconds.
    """
    spread = ["--http2", "-c", "16", "-p", "8", "--insecure"] if http2 else ["-c", connections]
    token = ["-H", f"Authorization: Bearer {token}"] if token else []
    text = output(
        OHA, "--no-tui", "--output-format", "json", "--latency-correction", "-q", rate, "-z", f"{seconds}s",
        *spread, *token, url,
    )  # fmt: skip
    seen = json.loads(text)
    done = seen["statusCodeDistribution"]
    errors = {kind: number for kind, number in seen["errorDistribution"].items() if "deadline" not in kind}
    if set(done) != {"200"} or errors:
        raise Failed(f"{url}: {done} {errors}")
    times = seen["latencyPercentiles"]
    return done["200"], [1000 * times[share] for share in ("p50", "p99", "p99.9")]
