"""Holds idle connections: `holder.py PORT COUNT`. Each asks once and then waits; a line of input ends it."""

import select
import socket
import sys

REQUEST = b"GET /small HTTP/1.1\r\nHost: bench\r\n\r\n"
AT_ONCE = 100


def answered(one):
    """Reads one answer of known length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += one.recv(65536) or sys.exit("a connection was closed before its answer")
    head, body = data.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"answered {head[:60]!r}")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += one.recv(65536) or sys.exit("a connection was closed inside its answer")


def main():
    port, wanted = int(sys.argv[1]), int(sys.argv[2])
    held = []
    while len(held) < wanted:
        fresh = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(min(AT_ONCE, wanted - len(held)))]
        for one in fresh:
            one.sendall(REQUEST)
        for one in fresh:
            answered(one)
        held += fresh
    print(len(held), flush=True)
    sys.stdin.readline()
    # Nothing was asked for, so what can be read is an end.
    poll = select.poll()
    for one in held:
        poll.register(one, select.POLLIN)
    print(len(held) - len(poll.poll(0)), flush=True)


main()
