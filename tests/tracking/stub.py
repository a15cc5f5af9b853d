"""A tracking server of MLflow's REST interface, in memory, that is slow, refuses, or is away, as told."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Run = dict[str, Any]


class TrackingServer:
    """Keeps runs with their points, and answers as long as it is told to.

    Attributes:
        delay_s: every answer takes that long.
        refuses_with: HTTP status of every answer, None for good ones.
        answers: cleared: requests hang until it is set again.
        calls: how often each path was asked for.
    """

    def __init__(self, artifacts: Path) -> None:
        self.delay_s = 0.0
        self.refuses_with: int | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.calls: Counter[str] = Counter()
        self._artifacts = artifacts
        self._runs: dict[str, Run] = {}
        self._experiments: dict[str, str] = {}
        self._lock = threading.Lock()
        self._port = 0
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listens, at the same port as before."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner._answer(self, {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()})

            def do_POST(self) -> None:
                owner._answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}"))

            def log_message(self, *words: Any) -> None:
                """Says nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *about: Any) -> None:
                """Says nothing of clients that went away."""

        self._http = Quiet(("127.0.0.1", self._port), Handler)
        self._port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Is away; what it holds stays."""
        self.answers.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    # -- what it holds --------------------------------------------------------------------------------------------

    def content(self) -> dict[str, Any]:
        """Returns every run with its points, in an order of its own."""
        with self._lock:
            return json.loads(
                json.dumps({key: {**run, "points": sorted(run["points"])} for key, run in self._runs.items()})
            )

    def curve(self, trial_id: str, name: str) -> list[tuple[int, float]]:
        """Returns the points of all runs of a trial."""
        runs = [run for run in self.content().values() if run["tags"].get("sweeper.trial_id") == trial_id]
        return sorted((step, value) for run in runs for key, _, step, value in run["points"] if key == name)

    # -- REST -----------------------------------------------------------------------------------------------------

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        path = urlsplit(handler.path).path.partition("/mlflow/")[2]
        self.calls[path] += 1
        time.sleep(self.delay_s)
        self.answers.wait()
        verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
            "experiments/get-by-name": self._experiment,
            "experiments/create": self._create_experiment,
            "runs/search": self._search,
            "runs/create": self._create,
            "runs/get": lambda body: {"run": self._shown(self._runs[body["run_id"]])},
            "runs/log-batch": self._log,
            "runs/update": self._update,
        }
        status, result = 200, None
        if self.refuses_with is not None:
            status, result = self.refuses_with, {"error_code": "PERMISSION_DENIED", "message": "not today"}
        else:
            with self._lock:
                result = verbs[path](body)
            if result is None:
                status, result = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}
        data = json.dumps(result).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _experiment(self, body: dict[str, Any]) -> dict[str, Any] | None:
        found = self._experiments.get(body["experiment_name"])
        about = {"experiment_id": found, "name": body["experiment_name"], "lifecycle_stage": "active"}
        return None if found is None else {"experiment": about}

    def _create_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"experiment_id": self._experiments.setdefault(body["name"], str(len(self._experiments) + 1))}

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = body["filter"].partition("'")[2].rstrip("'")
        return {"runs": [self._shown(run) for run in self._runs.values() if run["tags"]["sweeper.sweep_id"] == wanted]}

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        run_id = f"{len(self._runs):032x}"
        tags = {tag["key"]: tag["value"] for tag in body["tags"]}
        info = {"start_time": body["start_time"], "status": "RUNNING", "experiment_id": body["experiment_id"]}
        self._runs[run_id] = {"run_id": run_id, "info": info, "tags": tags, "params": {}, "points": []}
        return {"run": self._shown(self._runs[run_id])}

    def _log(self, body: dict[str, Any]) -> dict[str, Any]:
        run = self._runs[body["run_id"]]
        for metric in body.get("metrics", ()):
            point = [metric["key"], int(metric["timestamp"]), int(metric["step"]), metric["value"]]
            if point not in run["points"]:  # as MLflow's own stores
                run["points"].append(point)
        run["params"] |= {param["key"]: param["value"] for param in body.get("params", ())}
        run["tags"] |= {tag["key"]: tag["value"] for tag in body.get("tags", ())}
        return {}

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        run = self._runs[body["run_id"]]
        run["info"] |= {name: body[name] for name in ("status", "end_time") if name in body}
        return {"run_info": self._shown(run)["info"]}

    def _shown(self, run: Run) -> dict[str, Any]:
        latest = {
            key: {"key": key, "timestamp": t, "step": step, "value": value}
            for key, t, step, value in sorted(run["points"])
        }
        info = {"run_id": run["run_id"], "lifecycle_stage": "active", **run["info"]}
        info["artifact_uri"] = (self._artifacts / run["run_id"]).as_uri()
        data = {"metrics": list(latest.values())}
        for sort in ("tags", "params"):
            data[sort] = [{"key": key, "value": value} for key, value in run[sort].items()]
        return {"info": info, "data": data}
