"""Where a job has to stand its ground: Ray nodes, an S3 server behind the fault proxy, and its driver."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from ray.cluster_utils import Cluster

from jobs import JobSpec
from pipeline.options import LimitOptions
from pipeline.output import committed
from pipeline.storage import Storage
from tests.chaos.server import MortalS3
from tests.support.corpora import WRITERS
from tests.support.every_format import rows
from tests.support.fault_proxy import FaultProxy
from tests.support.finished import rows_of
from tests.support.ray_nodes import NODE, SYSTEM, worker_pids
from tests.support.s3 import CREDENTIALS, S3Bucket

FORMATS = ("parquet", "arrow", "arrows", "jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz")
ROWS_PER_FILE = 400
NUM_ROWS = ROWS_PER_FILE * len(FORMATS)
UNIT_BYTES = 3_000
NUM_NODES = 3  # beside the head, which takes no workers
STALL_S = 12
MODELS = Path(__file__).parents[2] / "jobs" / "demo" / "models"
TASKS: dict[str, dict[str, Any]] = {
    "classify": {"type": "classify", "top_k": 2},
    "ner": {"type": "ner", "ignore_labels": []},
    "embed": {"type": "embed"},
}
_MODEL_OF = {"classify": "topics", "ner": "ner", "embed": "embed"}
_SYSTEM = SYSTEM | {"prestart_worker_first_driver": False}  # processes that nobody needs, on every node for every run
# The command, with less patience for a cluster whose head is gone.
_COMMAND = (
    "import pipeline.pool as pool; pool._CLUSTER_PATIENCE_S = 5.0; pool.PROGRESS_S = 1.0\n"
    "from jobs.cli import main; main()"
)


class Arena:
    """All of it, from `with` to its end; for one round after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._exits = contextlib.ExitStack()
        self._server = MortalS3(folder)
        self._cluster: Cluster = None
        self._driver: subprocess.Popen[bytes] | None = None
        self._expected: dict[str, list[dict[str, Any]]] = {}
        self._thaw_at: dict[int, float] = {}
        self._bucket: S3Bucket
        self._job = folder / "job.yaml"
        self.log = folder / "driver.log"
        self.proxy = FaultProxy(self._server.endpoint_url, seed=0, rate=0.0)

    def __enter__(self) -> Arena:
        self._exits.callback(self._server.kill)
        self._bucket = self._server.start_empty()
        self._exits.enter_context(self.proxy)
        # Not in the job: a spec does not write secrets down. Workers have it from the nodes, those from this process.
        environment = {
            "AWS_ENDPOINT_URL": self.proxy.endpoint_url,
            "AWS_ACCESS_KEY_ID": CREDENTIALS["key"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["secret"],
        }
        self._exits.enter_context(mock.patch.dict(os.environ, environment))
        self._exits.callback(self._end_cluster)
        self._start_cluster()
        self._exits.callback(self._end_driver)
        return self

    def __exit__(self, *exception: object) -> None:
        self._exits.close()

    # The job.

    def prepare(self, kind: str) -> None:
        """A new server with nothing but the corpus, and a job whose output is still empty."""
        self._bucket = self._server.start_empty()
        storage = Storage.open(self._bucket.url, self._bucket.options)
        for number, suffix in enumerate(FORMATS):
            table = rows(ROWS_PER_FILE, first_id=number * ROWS_PER_FILE, with_nulls="csv" not in suffix)
            storage.write_bytes(f"corpus/{number}.{suffix}", WRITERS[f"x.{suffix}"](table))
        limits = {"stall_s": STALL_S} if "stall_s" in LimitOptions.model_fields else {}
        spec = JobSpec(
            name=f"chaos, {kind}",
            input={"url": f"{self._bucket.url}/corpus", "unit_bytes": UNIT_BYTES},
            output={"url": f"{self._bucket.url}/out", "keep": ["id"]},
            model={"path": str(MODELS / _MODEL_OF[kind])},
            task=TASKS[kind],
            workers={"max": 2},
            limits=limits,
        )
        self._job.write_text(spec.to_yaml())

    def expected(self, kind: str) -> list[dict[str, Any]]:
        """The rows that an undisturbed run gives."""
        if kind not in self._expected:
            self.prepare(kind)
            self.start_driver()
            assert self._driver is not None
            if self._driver.wait() != 0:
                raise RuntimeError(f"the undisturbed run failed: {self.log.read_text()[-2000:]}")
            self._expected[kind] = rows_of(self.output).to_pylist()
        return self._expected[kind]

    @property
    def output(self) -> Storage:
        """The output, not through the proxy."""
        return Storage.open(f"{self._bucket.url}/out", self._bucket.options)

    @property
    def input_options(self) -> dict[str, Any]:
        return self._bucket.options

    def num_committed(self) -> int:
        return sum(1 for _ in committed(self.output))

    # The driver.

    def start_driver(self, command: str = "run") -> None:
        """`shardmill run`, in a process of its own; what it says is added to `log`."""
        with self.log.open("ab") as log:
            self._driver = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, command, str(self._job)],
                env=os.environ | {"RAY_ADDRESS": self._cluster.address, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )

    def exit_code(self) -> int | None:
        """The driver's, or None while it lives."""
        return self._driver.poll() if self._driver else None

    def signal_driver(self, number: signal.Signals) -> None:
        if self._driver is not None:
            self._driver.send_signal(number)

    def _end_driver(self) -> None:
        if self._driver is not None:
            self._driver.kill()
            self._driver.wait()

    # Workers and nodes.

    def signal_worker(self, number: signal.Signals, chance: random.Random, thaw_s: float = 0.0) -> bool:
        """Sends a signal to some worker; whether there was one. One that is stopped goes on after `thaw_s`."""
        workers = sorted(set(worker_pids()) - self._thaw_at.keys())
        if not workers:
            return False
        pid = chance.choice(workers)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            self._thaw_at[pid] = time.monotonic() + thaw_s
        return True

    def thaw(self, *, all_of_them: bool = False) -> None:
        """Lets stopped workers go on whose time has come."""
        for pid, due in list(self._thaw_at.items()):
            if all_of_them or time.monotonic() >= due:
                del self._thaw_at[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill_node(self, chance: random.Random) -> None:
        """Kills a node's raylet, and with it its workers; a new node takes its place."""
        node = chance.choice(sorted(self._cluster.worker_nodes, key=lambda node: str(node.node_id)))
        self._kill(node, "raylet")
        self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.add_node(**NODE | {"num_cpus": 1})

    def kill_head(self) -> None:
        """Kills the head's processes, and starts a new cluster once the driver has given up."""
        self._kill(self._cluster.head_node, "gcs_server")
        self._kill(self._cluster.head_node, "raylet")
        if self._driver is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._driver.wait(timeout=90)
        self._end_cluster()
        self._start_cluster()

    def kill_server(self, pause_s: float) -> None:
        """Kills the S3 server; after a while there is one with the same content."""
        with self.proxy.down():
            self._server.kill()
            time.sleep(pause_s)
            self._server.start_again()

    def _start_cluster(self) -> None:
        self._cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "_system_config": _SYSTEM})
        for _ in range(NUM_NODES):
            self._cluster.add_node(**NODE | {"num_cpus": 1})

    def _end_cluster(self) -> None:
        self.thaw(all_of_them=True)
        for node in [*self._cluster.worker_nodes, self._cluster.head_node]:
            if node is not None:
                node.kill_all_processes(check_alive=False, allow_graceful=False)

    @staticmethod
    def _kill(node: Any, process: str) -> None:
        for info in node.all_processes.get(process, ()):
            info.process.kill()
