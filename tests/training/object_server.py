"""A small object store that speaks as much of the S3 protocol as a client needs to write, list, read and delete. Objects are in memory.

It checks no signatures. What it refuses or answers follows the Amazon S3 API reference (PutObject, GetObject, ListObjectsV2,
CreateMultipartUpload, UploadPart, CompleteMultipartUpload, DeleteObjects).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape


class ObjectServer(ThreadingHTTPServer):
    """Objects by "bucket/key"; `puts` counts what was stored."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ObjectServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def _parts(self) -> tuple[str, dict[str, str]]:
        split = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(split.query, keep_blank_values=True).items()}
        return unquote(split.path).strip("/"), query

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _xml(self, text: str, status: int = 200) -> None:
        self._answer(status, f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode(), Content_Type="application/xml")

    def _missing(self) -> None:
        self._xml("<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>", 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        return self._chunks(body) if "aws-chunked" in self.headers.get("Content-Encoding", "") else body

    @staticmethod
    def _chunks(data: bytes) -> bytes:
        """aws-chunked: hexadecimal size, extensions, line end, bytes, line end; trailers after size 0."""
        result, place = b"", 0
        while True:
            end = data.index(b"\r\n", place)
            size = int(data[place:end].split(b";")[0], 16)
            if size == 0:
                return result
            result += data[end + 2 : end + 2 + size]
            place = end + 2 + size + 2

    def do_PUT(self) -> None:
        name, query = self._parts()
        body = self._body()
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        with self.server.lock:
            if "uploadId" in query:
                self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
            elif "x-amz-copy-source" in self.headers:
                self.server.objects[name] = self.server.objects[unquote(self.headers["x-amz-copy-source"]).strip("/")]
                self._xml(f"<CopyObjectResult><ETag>{tag}</ETag></CopyObjectResult>")
                return
            elif "/" in name:
                self.server.objects[name] = body
        self._answer(200, ETag=tag)

    def do_POST(self) -> None:
        name, query = self._parts()
        body = self._body()
        with self.server.lock:
            if "uploads" in query:
                upload = f"upload-{len(self.server.uploads)}"
                self.server.uploads[upload] = {}
                self._xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
            elif "uploadId" in query:
                parts = self.server.uploads.pop(query["uploadId"])
                self.server.objects[name] = b"".join(parts[number] for number in sorted(parts))
                self._xml('<CompleteMultipartUploadResult><ETag>"whole"</ETag></CompleteMultipartUploadResult>')
            elif "delete" in query:
                keys = [element.text or "" for element in ElementTree.fromstring(body).iter() if element.tag.endswith("Key")]
                for key in keys:
                    self.server.objects.pop(f"{name}/{key}", None)
                self._xml("<DeleteResult></DeleteResult>")

    def do_DELETE(self) -> None:
        name, _ = self._parts()
        with self.server.lock:
            self.server.objects.pop(name, None)
        self._answer(204)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name, query = self._parts()
        with self.server.lock:
            if "/" not in name:
                self._list(name, query)
                return
            data = self.server.objects.get(name)
        if data is None:
            self._missing()
            return
        facts = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Accept_Ranges": "bytes"}
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            stop = min(int(last) + 1, len(data)) if last else len(data)
            self._answer(206, data[int(first) : stop], Content_Range=f"bytes {first}-{stop - 1}/{len(data)}", **facts)
        else:
            self._answer(200, data, **facts)

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        if self.command == "HEAD":
            self._answer(200, x_amz_bucket_region="us-east-1")
            return
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        contents, folders = [], set()
        for name in sorted(self.server.objects):
            key = name.removeprefix(f"{bucket}/")
            if not name.startswith(f"{bucket}/") or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            size = len(self.server.objects[name])
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>x</ETag>"
                "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in sorted(folders))
        self._xml(
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(contents) + len(folders)}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{''.join(contents)}{common}</ListBucketResult>"
        )


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """A server that runs until the end of the block."""
    server = ObjectServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
