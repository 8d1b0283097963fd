"""Whether a proxy does what it is asked to, seen from outside: nothing is timed that does not."""

import dataclasses
import http.client
import re

import load
from proxies import metrics, start


def ask(port, path="/small", token=None):
    """Status, headers and body of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def requests(port):
    """How many a release has had, but for those that ask so."""
    _, _, body = ask(port, "/status")
    return int(body.split()[9])


class Counted:
    """Requests that reached each release since it was made."""

    def __init__(self, ports):
        self.ports = ports
        self.before = [requests(port) for port in ports]

    def seen(self):
        return [requests(port) - before - 1 for port, before in zip(self.ports, self.before)]


def expect(proxy, holds, what):
    if not holds:
        raise SystemExit(f"{proxy} does not do what is compared: {what}")


def features(proxy, setup):
    """Tokens, split and metrics of a proxy that runs."""
    good = None
    if setup.signer:
        good = setup.signer.token("alice")
        for what, token in [
            ("no token", None),
            ("a foreign signature", setup.signer.forged()),
            ("an expired token", setup.signer.token("alice", exp=1_700_000_000)),
            ("a foreign issuer", setup.signer.token("alice", iss="https://other.example.org")),
            ("a foreign audience", setup.signer.token("alice", aud="other")),
        ]:
            status, *_ = ask(setup.listening, token=token)
            expect(proxy, status == 401, f"{what} was answered {status}")
    status, _, body = ask(setup.listening, token=good)
    expect(proxy, status == 200 and len(body) == 200, f"a good request was answered {status}")
    counted = Counted(setup.ports)
    total = 500
    for _ in range(total):
        ask(setup.listening, token=good)
    share = counted.seen()[1] / total
    wanted = setup.weights[1] / sum(setup.weights)
    expect(proxy, abs(share - wanted) < 0.06, f"{share:.1%} reached the second release, {wanted:.1%} were to")
    text = metrics(proxy, setup)
    counts = r"(?m)^(?:caddy_http|haproxy_frontend_http|gateway_)\w*requests_total|^ *\d+ \d+ \d+"
    expect(proxy, re.search(counts, text), f"no requests in its metrics: {text[:200]!r}")


def limited(proxy, setup):
    """The same limit refuses where it is low."""
    low = dataclasses.replace(setup, limit=20)
    with start(proxy, low):
        token = low.signer and low.signer.token("alice")
        statuses = [ask(low.listening, token=token)[0] for _ in range(80)]
    expect(proxy, set(statuses) == {200, 429}, f"a limit of 20 a second answered {sorted(set(statuses))}")
    expect(proxy, statuses[:15] == [200] * 15, "a limit of 20 a second refused sooner")


def cached(proxy, setup):
    """Nothing reaches the release after the first."""
    for _ in range(3):
        status, _, body = ask(setup.listening, "/kept/small")
        expect(proxy, status == 200 and len(body) == 200, f"answered {status}")
    counted = Counted(setup.ports[:1])
    load.count(f"http://127.0.0.1:{setup.listening}/kept/small", 1000)
    expect(proxy, counted.seen() == [0], f"{counted.seen()[0]} of 1,000 requests were not answered from the cache")
