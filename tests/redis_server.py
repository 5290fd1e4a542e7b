"""A real Redis server of its own for a test, on loopback, without a file."""

import contextlib
import shutil
import socket
import subprocess
import time

import redis

SERVER = shutil.which("redis-server")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """Started at once; `stop` and `start` for a Redis that goes away and comes back."""

    def __init__(self):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        given = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([SERVER, *given], stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)
        for _ in range(200):
            with contextlib.suppress(redis.ConnectionError):
                if client.ping():
                    return
            time.sleep(0.05)
        raise AssertionError("Redis did not start")

    def stop(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def served():
    assert SERVER, "redis-server is not installed: apt-get install redis-server"
    server = Server()
    try:
        yield server
    finally:
        server.stop()
