"""Headless Chromium for tests, driven over its own pipe (Chrome DevTools Protocol): Python's standard library is enough.

    with Browser(folder) as page:
        page.open(url, width=390, height=800, dark=True)
        page.wait("document.title.includes('vggflow')")
        page.screenshot("page.png")
"""
import base64
import json
import os
import subprocess
import time


class Browser:
    def __init__(self, folder):
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        # Chromium reads its descriptor 3 and writes to 4.
        command = ["bash", "-c", f'exec chromium "$@" 3<&{to_read} 4>&{from_write}', "chromium", "--headless", "--no-sandbox", "--disable-gpu",
                   "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={folder}/profile"]
        with open(f"{folder}/chromium.log", "wb") as log:
            self.process = subprocess.Popen(command, pass_fds=(to_read, from_write), stdout=log, stderr=log)
        os.close(to_read)
        os.close(from_write)
        self.send_to, self.receive_from, self.rest, self.number, self.session, self.errors = to_write, from_read, b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def call(self, method, **parameters):
        """Sends a command, and keeps what the page complains of while its answer is awaited."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.send_to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                data = os.read(self.receive_from, 1 << 16)
                if not data:
                    raise RuntimeError("Chromium ended")
                self.rest += data
            one, self.rest = self.rest.split(b"\0", 1)
            answer = json.loads(one)
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"]["exceptionDetails"])[:500])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"]["text"])
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def open(self, url, width=1280, height=900, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url=url)

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, seconds=20):
        """Until the expression is true; says what the page shows where it does not become so."""
        end = time.monotonic() + seconds
        while not self.value(f"(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()"):  # what is not there yet throws
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {expression}; the page shows {self.value('document.body.innerText')[:1500]!r}; {self.errors}")
            time.sleep(0.1)

    def press(self, key):
        # The browser moves the focus by the number, and presses a button by the text.
        number = {"Tab": 9, "Enter": 13}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if (kind, key) == ("keyDown", "Enter") else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=number, **text)

    def screenshot(self, file, whole=True):
        image = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        with open(file, "wb") as out:
            out.write(base64.b64decode(image["data"]))
