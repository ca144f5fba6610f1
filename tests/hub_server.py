"""A server on localhost that speaks the Hub's protocol for files, and misbehaves when told to."""

import base64
import hashlib
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KNOWN_COMMITS = (COMMIT, "main")


class HubServer(ThreadingHTTPServer):
    """Serves `files`, (repository, path) -> bytes, at /REPO/resolve/REVISION/PATH, by way of a CDN.

    requests: (method, path, Range) of all that was asked
    failures: (method, code, headers) of answers to the next requests of that method
    cuts: after how many bytes each of the next bodies breaks off; served: bytes sent in place of the right
    told: headers that take the place of those about a file
    gated, page: how the repository is; token: what is asked for
    uploads: (repository, path) -> bytes of what was committed
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.requests, self.uploads, self.stored = {}, [], {}, {}
        self.failures, self.cuts = deque(), deque()
        self.served, self.token, self.told = None, None, {}
        self.gated, self.page = False, False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def cdn_url(self):
        return f"http://localhost:{self.server_address[1]}/cdn"  # another host

    def methods(self):
        return [method for method, _, _ in self.requests]

    def handle_error(self, *_):
        """Clients that hang up are what is tested here."""

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):  # noqa: PLR0911 - one return for each way to answer
        server, path = self.server, unquote(urlsplit(self.path).path)
        server.requests.append((self.command, path, self.headers.get("Range")))
        if self.fails():
            return None
        if server.page:
            return self.content(
                b"<!DOCTYPE html><title>Please log in</title>", {"Content-Type": "text/html"}, body
            )
        if path.startswith("/cdn/"):
            return self.cdn(path.removeprefix("/cdn/"), body)
        repository, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        if server.gated:
            return self.plain(403, {"X-Error-Code": "GatedRepo"})
        if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
            return self.plain(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if repository not in {name for name, _ in server.files}:
            return self.plain(401, {"X-Error-Code": "RepoNotFound"})
        if revision not in KNOWN_COMMITS:
            return self.plain(404, {"X-Error-Code": "RevisionNotFound"})
        data = server.files.get((repository, file))
        if data is None:
            return self.plain(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        digest = hashlib.sha256(data).hexdigest()
        about = {"X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"'}
        about |= {"ETag": '"pointer"', "Location": f"{server.cdn_url}/{digest}"} | server.told
        return self.plain(302, about)

    def fails(self):
        """Answer as told, where it is the turn of such a request; code 0 hangs up."""
        failures = self.server.failures
        if not failures or failures[0][0] != self.command:
            return False
        _, code, headers = failures.popleft()
        if code:
            self.plain(code, {**headers, "Connection": "close"})
        self.close_connection = True
        return True

    def cdn(self, digest, body):
        server = self.server
        data = next(data for data in server.files.values() if hashlib.sha256(data).hexdigest() == digest)
        data = server.served or data
        first, asked = 0, self.headers.get("Range")
        if asked:
            first = int(asked.removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{digest}"'}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        return self.content(data[first:], headers, body, 206 if first else 200)

    def content(self, data, headers, body, code=200):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        if self.server.cuts:
            self.wfile.write(data[: self.server.cuts.popleft()])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(data)

    def plain(self, code, headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def do_POST(self):
        """Enough of the API to make a repository and commit small files to it."""
        path = urlsplit(self.path).path
        received = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(("POST", path, None))
        if path.endswith("/batch") and self.fails():
            return
        self.reply(*self.api(path, received))

    def do_PUT(self):
        """Take a large file, whose address is its hash."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.fails():
            return
        digest = self.path.removeprefix("/cdn/")
        assert hashlib.sha256(data).hexdigest() == digest
        self.server.stored[digest] = data
        self.plain(200, {})

    def api(self, path, received):  # noqa: PLR0911 - one return for each call
        server = self.server
        if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
            return 401, {"error": "Invalid credentials"}
        if path == "/api/repos/create":
            name = json.loads(received)
            repository = "/".join(filter(None, (name.get("organization") or "someone", name["name"])))
            return 200, {"url": f"{server.url}/{repository}", "name": repository}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        owner, name, rest = [*path.removeprefix("/api/models/").split("/", 2), "", ""][:3]
        repository = f"{owner}/{name}"
        if rest.startswith("preupload/"):
            modes = [
                {"path": name, "uploadMode": "lfs" if name.endswith(".safetensors") else "regular"}
                for name in (file["path"] for file in json.loads(received)["files"])
            ]
            return 200, {"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]}
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{server.cdn_url}/{item['oid']}"}}}
                for item in json.loads(received)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        if rest.startswith("commit/"):
            for line in received.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    server.uploads[repository, value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    value = entry["value"]
                    server.uploads[repository, value["path"]] = server.stored[value["oid"]]
            where = f"{server.url}/{repository}/commit/{COMMIT}"
            return 200, {"success": True, "commitOid": COMMIT, "commitUrl": where, "hookOutput": ""}
        return 404, {"error": f"{path} is not known here"}

    def reply(self, code, value):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
