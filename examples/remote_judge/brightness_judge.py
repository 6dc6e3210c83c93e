#!/usr/bin/env python3
"""An example of a judge behind HTTP, with nothing but Python's library: the mean brightness of an image in [0, 1], and no score (null) for
a prompt that contains "unknown". A real judge would put a model where `brightness` is. Usage: brightness_judge.py PORT; 0 picks a free port.

    vggflow check --reward "http://127.0.0.1:8000/score#batch=8"
"""
import base64
import http.server
import json
import struct
import sys
import zlib


def pixels(png):
    """The bytes of an 8-bit RGB PNG without interlacing, which is what vggflow sends. (With Pillow: Image.open(io.BytesIO(png)).)"""
    at, width, packed = 8, 0, b""
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        if kind == b"IHDR":
            width = struct.unpack(">I", png[at + 8:at + 12])[0]
        if kind == b"IDAT":
            packed += png[at + 8:at + 8 + length]
        at += 12 + length
    data, stride = zlib.decompress(packed), 3 * width
    above, out = bytearray(stride), bytearray()
    for start in range(0, len(data), stride + 1):
        kind, row = data[start], bytearray(data[start + 1:start + 1 + stride])
        for i in range(stride):
            left, up, corner = (row[i - 3], above[i], above[i - 3]) if i >= 3 else (0, above[i], 0)
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda v: abs(guess - v))
            row[i] = (row[i] + (0, left, up, (left + up) // 2, paeth)[kind]) % 256
        out += row
        above = row
    return out


def brightness(png, prompt):
    if "unknown" in prompt:
        return None
    values = pixels(png)
    return sum(values) / (255 * len(values))


class Judge(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        scores = [brightness(base64.b64decode(png), prompt) for png, prompt in zip(request["images"], request["prompts"], strict=True)]
        body = json.dumps({"scores": scores}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Judge)
print(f"listening on http://127.0.0.1:{server.server_port}/score", flush=True)
server.serve_forever()
