"""A tracking server on loopback that answers as it is told to: at once, never, or with an error."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LoopbackStore:
    """As much of MLflow's REST as a study needs; runs are kept by their id.

    Attributes:
        mode: "answers", "hangs" or "fails" (500).
        asked: requests that have come in.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.asked = 0
        self.runs: dict[str, dict[str, Any]] = {}
        self.released = threading.Event()
        self.uri = ""

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        name = path.partition("/mlflow/")[2]
        if name.startswith("experiments/get-by-name"):
            return {"experiment": {"experiment_id": "1", "name": "overview", "lifecycle_stage": "active"}}
        if name == "runs/create":
            run_id = f"run{len(self.runs)}"
            tags = {tag["key"]: tag["value"] for tag in body["tags"]}
            self.runs[run_id] = {"tags": tags, "metrics": {}, "params": {}, "status": "RUNNING"}
            return {"run": self._shown(run_id)}
        if name == "runs/search":
            wanted = body["filter"].partition("'")[2].rstrip("'")
            return {"runs": [self._shown(r) for r, run in self.runs.items() if wanted in run["tags"].values()]}
        if name == "runs/log-batch":
            run = self.runs[body["run_id"]]
            run["metrics"].update({m["key"]: m["value"] for m in body.get("metrics", ())})
            run["params"].update({p["key"]: p["value"] for p in body.get("params", ())})
        if name == "runs/update":
            self.runs[body["run_id"]]["status"] = body["status"]
            return {"run_info": self._shown(body["run_id"])["info"]}
        if name.startswith("runs/get"):
            return {"run": self._shown(path.partition("run_id=")[2].partition("&")[0])}
        return {}

    def _shown(self, run_id: str) -> dict[str, Any]:
        tags = [{"key": key, "value": value} for key, value in self.runs[run_id]["tags"].items()]
        info = {"run_id": run_id, "experiment_id": "1", "status": self.runs[run_id]["status"], "start_time": 1,
                "lifecycle_stage": "active", "artifact_uri": "mlflow-artifacts:/x", "run_uuid": run_id}  # fmt: skip
        return {"info": info, "data": {"tags": tags}}


@contextmanager
def loopback_store(mode: str) -> Iterator[LoopbackStore]:
    store = LoopbackStore(mode)

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            store.asked += 1
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            if store.mode == "hangs":
                store.released.wait()
                return
            failing = store.mode == "fails"
            content = json.dumps({} if failing else store.answer(self.path, body)).encode()
            self.send_response(500 if failing else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = respond

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, address: Any) -> None:
            return  # a client that went away

    server = Server(("127.0.0.1", 0), Handler)
    store.uri = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield store
    finally:
        store.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
