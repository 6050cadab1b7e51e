#!/usr/bin/env python3
"""A relay of Pulse in Python 3, without dependencies. Change COLLECTORS to what you measure.

    python3 relay.py 127.0.0.1:3000 web1

The id is this host's name if it is left out. A token for a server that wants one comes from
PULSE_RELAY_TOKEN.
"""
import math
import os
import random
import shutil
import signal
import socket
import sys
import time


def load():
    one, five, fifteen = os.getloadavg()
    return {"load_1": one, "load_5": five, "load_15": fifteen}


def memory():
    with open("/proc/meminfo") as file:
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return {
        "memory_total": kilobytes["MemTotal"] * 1024,
        "memory_available": kilobytes["MemAvailable"] * 1024,
    }


def root_disk():
    usage = shutil.disk_usage("/")
    return {"root_used": 100 * usage.used / usage.total}


# Each collector has a name, tags (key:value) and a function that returns a value for each stat.
# Names hold no '-', ':' or ','. A stat's name is what /latest and the page call it.
COLLECTORS = {
    "load": (["example:python"], load),
    "memory": (["example:python"], memory),
    "root_disk": (["example:python", "mount:/"], root_disk),
}

# What the values of a stat are in, for those who draw them.
UNITS = {
    "load_1": "processes",
    "load_5": "processes",
    "load_15": "processes",
    "memory_total": "bytes",
    "memory_available": "bytes",
    "root_used": "percent",
}


def collect(names):
    """Returns the items of an answer. A collector that fails is left out."""
    items = []
    for name in names:
        if name not in COLLECTORS:
            continue
        try:
            for stat, value in COLLECTORS[name][1]().items():
                if math.isfinite(value):
                    items.append(f"{name}-{stat}:{float(value)!r}")
        except Exception as error:
            say(f"{name}: {error}")
    return items


def lines(connection, beat):
    """Yields the server's lines, and None when none came for a beat (a list, to be changed)."""
    rest = b""
    while True:
        connection.settimeout(beat[0])
        try:
            data = connection.recv(65536)
        except socket.timeout:
            yield None
            continue
        if not data:
            raise ConnectionError("the server closed the connection")
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode().rstrip("\r")


def talk(connection, identity, token):
    """Speaks to the server until the connection ends. Returns only by an error."""
    def send(line):
        connection.settimeout(10)
        connection.sendall(line.encode() + b"\n")

    beat, quiet = [10], 0
    send("id " + identity)
    for line in lines(connection, beat):
        if line is None:  # ping after a beat without a line; two beats, and the server is gone
            quiet += 1
            if quiet == 2:
                raise ConnectionError("the server says nothing")
            send("ping")
            continue
        quiet = 0
        verb, _, rest = line.partition(" ")
        if verb == "ok" and not talk.welcome:
            talk.welcome = True
            say("connected as " + identity)
            for name, (tags, _) in COLLECTORS.items():
                send(f"add {name}:{','.join(tags)}")
        elif verb == "get":
            send(" ".join(["got", ",".join(collect(rest.split(",")))]).rstrip())
        elif verb == "takes" and "units" in rest.split(","):
            send("units " + ",".join(f"{stat}:{unit}" for stat, unit in UNITS.items()))
        elif verb in ("flush", "override"):  # nothing is gathered between polls
            send("ok")
        elif verb == "beat":
            beat[0] = max(float(rest), 1)
        elif verb == "error":
            say("the server says: " + rest)
            if rest.startswith("missing token") and token:  # sent only to a server that wants it
                send(f"id {identity} token:{token}")


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:3000"
    identity = sys.argv[2] if len(sys.argv) > 2 else socket.gethostname()
    host, _, port = address.rpartition(":")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    pause = 0.05
    while True:
        talk.welcome = False
        try:
            # For a server with --relay-tls: ssl.create_default_context().wrap_socket(connection, server_hostname=host)
            with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as connection:
                try:
                    talk(connection, identity, os.environ.get("PULSE_RELAY_TOKEN", ""))
                except (SystemExit, KeyboardInterrupt):
                    connection.sendall(b"close\n")
                    return
        except OSError as error:
            say(f"{address}: {error}")
        pause = 0.05 if talk.welcome else min(2 * pause, 5)
        time.sleep(pause * random.uniform(0.5, 1))


if __name__ == "__main__":
    main()
