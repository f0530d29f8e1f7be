# SPDX-License-Identifier: Apache-2.0
"""Stands before a service and does what the real one never does, at will: cuts a connection, is slow, is silent, answers with an
error, changes an answer; and TLS. What is to happen is a rule for one kind of request; a rule with a count happens so many times."""
import contextlib
import select
import socket
import threading


class Rule:
    """`method` and `part` of the path choose requests. What happens:
    answer: (status, body) instead of the service; after=N: the request's first N bytes of body are read first
    cut=N: the connection ends after N bytes of the request's body (of the answer's, with `down`)
    silent=N: nothing moves any more after N bytes
    lose: the service gets it all, and its answer is lost
    change: a function that makes another answer of the answer's bytes, of the same length
    flip: this byte of the request's body becomes another one
    without: the request's header of that name is not passed on
    call: a function that is called after the first `after` bytes of the body
    """

    def __init__(self, method, part, count=1, after=0, down=False, **what):
        self.method, self.part, self.count, self.after, self.down = method, part, count, after, down
        self.what = what
        self.hits = 0


class Proxy:
    """`with Proxy(port) as proxy:` listens on proxy.port, proxy.url. `requests`: the first lines and headers that came."""

    def __init__(self, port, context=None):
        self.target = port
        self.context = context
        self.rules = []
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.port}"
        self.lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    @contextlib.contextmanager
    def rule(self, *words, **more):
        rule = Rule(*words, **more)
        self.rules.append(rule)
        try:
            yield rule
        finally:
            self.rules.remove(rule)

    def _listen(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError, ValueError):
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            with client, client.makefile("rb") as reader:
                while self._one(client, reader):
                    pass
            return
        client.close()

    def _choose(self, line):
        method, path, _ = line.split(" ", 2)
        with self.lock:
            for rule in self.rules:
                if rule.count and rule.method == method and rule.part in path:
                    rule.count -= 1
                    rule.hits += 1
                    return rule
        return None

    @staticmethod
    def _head(reader):
        """(first line, header lines) or None at the end."""
        lines = []
        while True:
            line = reader.readline(65536)
            if not line:
                return None
            if line in (b"\r\n", b"\n"):
                return lines[0].decode(), lines[1:]
            lines.append(line.rstrip(b"\r\n"))

    @staticmethod
    def _value(headers, name):
        for line in headers:
            key, _, value = line.partition(b":")
            if key.lower() == name:
                return value.strip().lower()
        return b""

    def _one(self, client, reader):
        head = self._head(reader)
        if not head:
            return False
        line, headers = head
        self.requests.append((line, headers))
        rule = self._choose(line) or Rule(None, None)
        what = rule.what
        if "answer" in what and not rule.after:
            return self._answer(client, what["answer"])
        drop = (b"expect:", b"connection:", what.get("without", b"connection") + b":")
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            kept = [line.encode()] + [h for h in headers if not h.lower().startswith(drop)] + [b"Connection: close"]
            server.sendall(b"\r\n".join(kept) + b"\r\n\r\n")
            if self._value(headers, b"expect"):
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            chunked = self._value(headers, b"transfer-encoding") == b"chunked"
            length = int(self._value(headers, b"content-length") or 0)
            if not self._pass_body(reader, server, rule, client, chunked, length):
                return False
            if "answer" in what:
                return self._answer(client, what["answer"])
            return self._pass_answer(client, server, rule)

    @staticmethod
    def _answer(client, answer):
        status, body = answer
        client.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        # an answer to an unread body is lost when the connection is reset
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
            client.settimeout(2)
            while client.recv(1 << 16):
                pass
        return False

    def _pass_body(self, reader, server, rule, client, chunked, length):
        passed = 0
        what = rule.what if not rule.down else {}
        while True:
            limit = min((n for n in (what.get("cut"), what.get("silent"), rule.after if {"answer", "call"} & set(what) else None)
                         if n is not None and n > passed), default=None)
            want = 1 << 16 if limit is None else min(1 << 16, limit - passed)
            if chunked:
                line = reader.readline(100)
                size = int(line, 16)
                data = reader.read(size)
                server.sendall(line + data + reader.readline(10))
                if not size:
                    return True
            else:
                data = reader.read1(min(want, length - passed)) if length > passed else b""
                if not data:
                    return length == passed
                if "flip" in what and passed <= what["flip"] < passed + len(data):
                    at = what["flip"] - passed
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
                server.sendall(data)
            passed += len(data)
            if what.get("cut") is not None and passed >= what["cut"]:
                return False
            if what.get("silent") is not None and passed >= what["silent"]:
                self._be_silent(client)
                return False
            if "call" in what and passed >= rule.after:
                what.pop("call")()
            if "answer" in what and passed >= rule.after:
                return True

    @staticmethod
    def _be_silent(client):
        """Until the other one gives up."""
        poll = select.poll()
        poll.register(client, select.POLLRDHUP)
        poll.poll(120000)

    def _pass_answer(self, client, server, rule):
        what, passed, body = rule.what, 0, False
        if "lose" in what:
            while server.recv(1 << 16):
                pass
            return False
        if not rule.down and "change" not in what:
            while True:
                data = server.recv(1 << 16)
                if not data:
                    return False
                client.sendall(data)
        buffered = b""
        while True:
            data = server.recv(1 << 16)
            if not data and "change" in what:
                client.sendall(what["change"](buffered))
            if not data:
                return False
            buffered += data
            if "change" in what:
                continue
            if not body and b"\r\n\r\n" not in buffered:
                continue
            if not body:
                head, data = buffered.split(b"\r\n\r\n", 1)
                client.sendall(head + b"\r\n\r\n")
                body = True
            limit = what["cut"] if "cut" in what else what["silent"]
            client.sendall(data[:max(0, limit - passed)])
            passed += len(data)
            if passed >= limit:
                if "silent" in what:
                    self._be_silent(client)
                return False
