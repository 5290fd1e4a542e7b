import asyncio
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from threading import enumerate as enumerate_threads

import pytest

from tasks.feed.rest import AskedTooMuchError, Budget, RequestFailedError, Rest


def spend(budget, weights, until_s):
    """Ask for each weight as soon as the budget allows; return when each was spent."""
    now_s, at = 0.0, []
    for weight in weights:
        while wait_s := budget.wait_s(now_s, weight):
            now_s += wait_s
            assert now_s < until_s
        at.append(now_s)
    return at


def test_no_window_wherever_it_begins_holds_more_than_the_limit():
    at = spend(Budget(1200.0, 60.0), [10.0] * 400, 600.0)
    assert max(sum(10.0 for other in at if 0 <= other - begin < 60.0) for begin in at) <= 1200.0
    assert max(at) == pytest.approx(180.0), "400 books at 120 a minute: the last one begins after three"


def test_a_request_heavier_than_the_limit_is_let_through_alone():
    budget = Budget(100.0, 60.0)
    assert budget.wait_s(0.0, 250.0) == 0.0
    assert budget.wait_s(1.0, 1.0) == 59.0


def test_a_block_stops_everybody_until_its_end():
    budget = Budget(0.0, 60.0)
    assert budget.wait_s(0.0, 5.0) == 0.0
    budget.block(30.0)
    assert budget.wait_s(10.0, 5.0) == 20.0
    budget.block(20.0)
    assert budget.blocked_s(10.0) == 20.0, "a shorter block does not end a longer one"
    assert budget.wait_s(30.0, 5.0) == 0.0


@pytest.fixture
def server():
    answers, asked = [], []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            length = int(self.headers.get("Content-Length", 0))
            asked.append((self.command, self.path, self.rfile.read(length)))
            status, headers, body = answers.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}", answers, asked
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize(
    ("status", "told", "pause_s"), [(429, "7", 7.0), (418, "300", 300.0), (429, "", 60.0), (418, "", 120.0), (403, "", 600.0)]
)
def test_a_venue_that_had_enough_is_left_alone_by_everybody(server, status, told, pause_s):
    url, answers, _ = server
    answers.append((status, {"Retry-After": told} if told else {}, b"{}"))
    rest = Rest(Budget(6000.0, 60.0), 2.0)
    assert rest.may_ask(5.0)
    with pytest.raises(AskedTooMuchError) as found:
        asyncio.run(rest.get(f"{url}/depth"))
    assert found.value.pause_s == pause_s
    assert not rest.may_ask(1.0)
    assert rest.budget.blocked_s(time.monotonic()) == pytest.approx(pause_s, abs=2.0)


def test_a_failed_request_says_its_status_and_blocks_nobody(server):
    url, answers, _ = server
    answers.append((500, {}, b""))
    rest = Rest(Budget(6000.0, 60.0), 2.0)
    with pytest.raises(RequestFailedError) as found:
        asyncio.run(rest.get(f"{url}/depth"))
    assert found.value.status == 500
    assert rest.may_ask(1.0)


def test_nobody_there_is_an_error_of_its_own():
    with pytest.raises(RequestFailedError) as found:
        asyncio.run(Rest(Budget(0.0, 60.0), 0.5).get("http://127.0.0.1:9/depth"))
    assert found.value.status == 0


def test_what_follows_a_hash_is_posted(server):
    url, answers, asked = server
    answers += [(200, {}, b"book"), (200, {}, b"other")]
    rest = Rest(Budget(0.0, 60.0), 2.0)
    assert asyncio.run(rest.get(url + '/info#{"type":"meta"}')) == b"book"
    assert asyncio.run(rest.get(url + "/depth?limit=5")) == b"other"
    assert asked == [("POST", "/info", b'{"type":"meta"}'), ("GET", "/depth?limit=5", b"")]


def test_a_request_that_hangs_keeps_nobody_from_leaving():
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the connection, and says nothing

        async def leave():
            url = f"http://127.0.0.1:{mute.getsockname()[1]}/depth"
            task = asyncio.create_task(Rest(Budget(0.0, 60.0), 30.0).get(url))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(leave())
        assert all(thread.daemon for thread in enumerate_threads() if thread.name == "request")
