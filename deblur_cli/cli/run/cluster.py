"""A run whose photos are restored by workers on the machines of a Ray cluster.

This process lists and plans photos, tells what comes of them, and keeps the journal; it opens none. Workers
are actors, each with a network of its own; see `worker.py`. Which photos they get, `dispatch.py` says.
"""

import io
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli.cli.output import Output, describe, interrupts_held, libraries_logged
from deblur_cli.cli.run.collect import counted
from deblur_cli.cli.run.dispatch import AHEAD, Arrival, Death, Dispatcher, Done, Event, Numbered, Reported
from deblur_cli.cli.run.journal import Journal
from deblur_cli.cli.run.options import RunOptions
from deblur_cli.cli.run.plan import Job, result_folder
from deblur_cli.cli.run.worker import Kit, Skill, Worker, version_of_code
from deblur_cli.errors import DeblurError, UsageError, how_to_install
from deblur_cli.files import LOCK

if TYPE_CHECKING:
    from deblur_cli.cli.run.steps import Listener
    from deblur_cli.report import Report
    from deblur_cli.restoration.deblurrer import Request
    from deblur_cli.weights import LoadedWeights

MEMORY = 1 << 30  # bytes of a worker: programs, network, and tiles of a CPU
STORE = 1 << 29  # bytes for what a cluster of our own shares, which is the weights
GREETING = 60.0  # seconds that the first photo waits for workers beside the first one
PATROL = 5.0  # seconds between two looks at which machines there are
MOST_FAILED_STARTS = 3  # in a row
UNREACHABLE = 5.0  # seconds until an address counts as such
_SETTINGS = b"\x04"  # the type of the first frame of either side (RFC 9113, 3.4 and 6.5)
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
_OUT_OF_MEMORY = "NODE_OUT_OF_MEMORY"  # in the words of Ray

logger = logging.getLogger(__name__)


class ClusterGoneError(DeblurError):
    """The head of the cluster does not answer any more."""


class _Logged(io.TextIOBase):
    """Takes what Ray prints to stdout, where results belong."""

    def write(self, text: str) -> int:
        if text.strip():
            logger.debug("%s", text.strip())
        return len(text)


@contextmanager
def connected(cluster: str) -> Iterator[Any]:
    """Give Ray, connected to a cluster; it keeps off the terminal, and sends no statistics anywhere.

    Raises UsageError where Ray is missing, and where the cluster is.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of what will change
    try:
        with interrupts_held():
            import ray
    except ImportError as error:
        raise UsageError(f"--cluster needs Ray: run {how_to_install('cluster')}") from error
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with redirect_stdout(_Logged()), libraries_logged():
        try:
            _connect(ray, cluster)
            for number, handler in handlers.items():  # Ray sets its own
                signal.signal(number, handler)
            yield ray
        except ClusterGoneError:
            raise  # and leave Ray as it is: it would wait for the cluster, and then end this process
        except BaseException:
            ray.shutdown()
            raise
        ray.shutdown()


def _connect(ray: Any, cluster: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if cluster == "local":
        try:
            ray.init("local", include_dashboard=False, object_store_memory=STORE, **quiet)
        except OSError as error:  # its sockets lie in TMPDIR, and their paths must be short
            raise UsageError(f"Ray cannot start here ({_line(error)}); try RAY_TMPDIR=/tmp") from error
        return
    if cluster != "auto" and not speaks_grpc(cluster):
        raise UsageError(f"no Ray cluster answers at {cluster}; is `ray start --head` running there?")
    try:
        ray.init(cluster, **quiet)
    except ConnectionError as error:
        if cluster == "auto":
            raise UsageError(
                "no Ray cluster runs here: start one with `ray start --head`, or use --cluster local"
            ) from error
        raise UsageError(
            f"cannot join the cluster at {cluster} ({_line(error)}); if it asks for a token, set "
            "RAY_AUTH_MODE=token"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"cannot join the cluster at {cluster}: {_line(error)}") from error


def speaks_grpc(address: str) -> bool:
    """Tell whether a server as Ray's answers at HOST:PORT: one that greets in HTTP/2, as gRPC does."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), UNREACHABLE) as server:
            server.sendall(_GREETING)
            return server.recv(9)[3:4] == _SETTINGS
    except (OSError, OverflowError):
        return False


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


@dataclass
class _Hand:
    """A worker as it is seen from here.

    machine: its name, once it is known; node: Ray's name of it; skill: once it is ready
    under_way: what it will answer, and the number of the block if that is rows
    """

    actor: Any
    machine: str = "one machine"
    node: str = ""
    skill: Skill | None = None
    under_way: dict[Any, int | None] = field(default_factory=dict)


class RayPool:
    """Workers of a cluster; as many as there is room for.

    most: how many photos there are. Raises UsageError where no machine has room for a worker.
    """

    def __init__(self, ray: Any, kit: Kit, options: RunOptions, most: int) -> None:
        self._ray = ray
        self._kit = ray.put(kit)
        self._version = version_of_code()
        self._gpus = options.actor_gpus
        self._cpus = kit.cpus
        self._actor = ray.remote(Worker).options(
            num_cpus=kit.cpus,
            num_gpus=options.actor_gpus,
            memory=MEMORY,
            max_concurrency=AHEAD + 1,  # one is left for `end`
            scheduling_strategy="SPREAD",
        )
        self._hands: dict[int, _Hand] = {}
        self._started = self._failed = 0
        self._happened: list[Event] = []
        self._patrolled = float("-inf")
        self._ending = False
        self._rooms = rooms(ray, kit.cpus, options.actor_gpus)
        if not any(self._rooms.values()):
            gpus = f" and {options.actor_gpus:g} GPU" if options.actor_gpus else ""
            need = f"{counted(kit.cpus, 'processor')}{gpus} and {MEMORY >> 30} GB of memory"
            raise UsageError(
                f"no machine of the cluster has the {need} of a worker: lower --actor-cpus or --actor-gpus"
            )
        self._most = most
        self._patrol(most)

    @property
    def skills(self) -> list[Skill]:
        """What the workers that are ready compute with."""
        return [hand.skill for hand in self._hands.values() if hand.skill is not None]

    def gather(self, streams: Output) -> None:
        """Wait for the workers that have room, and a while for further ones. Raises DeblurError."""
        began, told = time.monotonic(), False
        while not self.skills or len(self.skills) < len(self._hands):
            waited = time.monotonic() - began
            if waited > GREETING and self.skills:
                break
            if waited > GREETING and not told:
                streams.say("waiting for processors of the cluster that others use")
                told = True
            self.wait(1.0)
            self._collect()
            self._patrol(self._most)
        machines = {hand.node for hand in self._hands.values() if hand.skill}
        kinds = sorted(set(map(str, self.skills)))
        workers = f"{counted(len(self.skills), 'worker')} on {counted(len(machines), 'machine')}"
        streams.say(f"{workers}, {counted(self._cpus, 'processor')} each ({kinds[0]})")
        if kinds[1:]:
            streams.warn(f"workers compute in different ways ({'; '.join(kinds)}), so results may differ")

    def send(self, worker: int, block: int, jobs: Sequence[Numbered]) -> None:
        """Give a worker a block."""
        hand = self._hands[worker]
        hand.under_way[hand.actor.work.options(num_returns="streaming").remote(jobs)] = block

    def wait(self, seconds: float) -> None:
        """Return as soon as anything happened, and after some seconds anyway."""
        answers = [answer for hand in self._hands.values() for answer in hand.under_way]
        if answers and not self._happened:
            self._ray.wait(answers, timeout=seconds)
        elif not self._happened:
            time.sleep(seconds)

    def events(self, left: int) -> Sequence[Event]:
        """Return what happened. left: how many photos are not done

        Raises DeblurError where workers of the cluster cannot be used.
        """
        self._collect()
        self._patrol(left)
        happened, self._happened = self._happened, []
        return happened

    def end(self) -> None:
        """Let workers begin nothing more, finish what they write, and report it."""
        self._ending = True
        for hand in self._hands.values():
            hand.actor.end.remote()

    def close(self) -> None:
        """End all workers."""
        for hand in self._hands.values():
            self._ray.kill(hand.actor)
        self._hands.clear()

    def _patrol(self, left: int) -> None:
        """Start workers where there is room for more."""
        if self._ending or time.monotonic() < self._patrolled + PATROL:
            return
        self._patrolled = time.monotonic()
        if not speaks_grpc(self._ray.get_runtime_context().gcs_address):  # Ray would end this process, mute
            self._hands.clear()  # nobody is left to be ended
            raise ClusterGoneError("the cluster is gone; finished results are kept, and --resume continues")
        self._rooms = rooms(self._ray, self._cpus, self._gpus)
        for _ in range(min(sum(self._rooms.values()), left) - len(self._hands)):
            actor = self._actor.remote()
            self._hands[self._started] = _Hand(actor, under_way={actor.hello.remote(): None})
            self._started += 1

    def _collect(self) -> None:
        answers = {answer: number for number, hand in self._hands.items() for answer in hand.under_way}
        if not answers:
            return
        for answer in self._ray.wait(list(answers), num_returns=len(answers), timeout=0)[0]:
            if answers[answer] in self._hands:
                self._hear(answers[answer], answer)

    def _hear(self, number: int, answer: Any) -> None:
        """Take one answer of a worker: who it is, what it computes with, a row, or that it died."""
        ray, hand = self._ray, self._hands[number]
        block = hand.under_way[answer]
        try:
            if block is None:
                del hand.under_way[answer]
                self._greet(number, hand, ray.get(answer))
                return
            row = ray.get(next(answer))
        except StopIteration:
            del hand.under_way[answer]
            self._happened.append(Done(number, block or 0))
        except ray.exceptions.RayTaskError as error:
            raise self._refusal(hand, error) from error
        except ray.exceptions.RayError as error:
            self._lose(number, error)
        else:
            self._happened.append(Reported(number, block or 0, row))

    def _greet(self, number: int, hand: _Hand, told: Any) -> None:
        """Give a worker that says who it is what it needs; note what it computes with once it has that."""
        if isinstance(told, Skill):
            hand.skill, self._failed = told, 0
            self._happened.append(Arrival(number))
            return
        hand.machine, hand.node = told.machine, told.node
        if told.version != self._version:
            raise DeblurError(
                f"{hand.machine} has deblur {told.version}, and this machine {self._version}: install the "
                "same on all machines"
            )
        sharers = max(1, self._rooms.get(hand.node, 1))
        hand.under_way[hand.actor.load.remote(self._kit, sharers)] = None

    def _refusal(self, hand: _Hand, error: Any) -> Exception:
        """Return what a worker raised, as an error of this run; where it is a bug, as it is."""
        if isinstance(error.cause, DeblurError):
            return DeblurError(f"a worker on {hand.machine} cannot start: {describe(error.cause)}")
        return error.cause if isinstance(error.cause, Exception) else error

    def _lose(self, number: int, error: Exception) -> None:
        """Take leave of a worker that died, after what it still reported."""
        ray, hand = self._ray, self._hands.pop(number)
        for answer, block in hand.under_way.items():
            while block is not None and ray.wait([answer], timeout=0)[0]:
                try:
                    self._happened.append(Reported(number, block, ray.get(next(answer))))
                except (StopIteration, ray.exceptions.RayError):
                    break
        ray.kill(hand.actor)
        logger.debug("a worker died: %s", _line(error))
        why = " as its machine had no memory left" if _OUT_OF_MEMORY in str(error) else ""
        if hand.skill is None:
            self._failed += 1
            if self._failed >= MOST_FAILED_STARTS:
                last = str(error).strip().splitlines()[-1][:300]
                raise DeblurError(
                    f"workers of the cluster die as they start ({last}); is deblur installed there as here?"
                )
        else:
            self._happened.append(Death(number, hand.machine, why))


def rooms(ray: Any, cpus: int, gpus: float) -> dict[str, int]:
    """Return how many workers fit on each machine that is alive, by its name in Ray."""
    found = {}
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            fits = [has.get("CPU", 0) // cpus, has.get("memory", 0) // MEMORY]
            fits += [has.get("GPU", 0) / gpus + 1e-9] if gpus else []
            found[node["NodeID"]] = int(min(fits))
    return found


def automatic_cpus(ray: Any, gpus: float) -> int:
    """Return how many processors a worker gets: one, or beside a GPU its share of those of the machine."""
    if not gpus:
        return 1
    each = [node["Resources"] for node in ray.nodes() if node["Alive"] and "GPU" in node["Resources"]]
    return max(1, int(min((has.get("CPU", 1) * gpus / has["GPU"] for has in each), default=1)))


class Cluster:
    """What works through the photos of a run: the workers of a cluster."""

    def __init__(self, pool: RayPool, kit: Kit, journal: Journal, streams: Output) -> None:
        self._pool = pool
        self._kit = kit
        self._journal = journal
        self._streams = streams
        self._dispatcher: Dispatcher | None = None

    @property
    def weights(self) -> "LoadedWeights":
        """What restores the photos."""
        return self._kit.weights

    @property
    def epsilon(self) -> float:
        """How sure to be before restoring."""
        return self._kit.request.epsilon

    def run(self, jobs: Sequence[Job], listener: "Listener") -> None:
        """Let workers do all jobs, and tell what comes of each as soon as it is known."""
        dispatcher = Dispatcher(jobs, self._pool, self._journal, self._streams, listener)
        self._dispatcher = dispatcher
        try:
            dispatcher.run()
        finally:
            self._pool.close()
            self._journal.clear_up(jobs[number] for number in dispatcher.lost)

    def end(self) -> None:
        """Begin nothing more. What is being written is finished and reported."""
        if self._dispatcher is not None:
            self._dispatcher.end()


@contextmanager
def gathered(
    jobs: Sequence[Job],
    options: RunOptions,
    network: "tuple[LoadedWeights, Request]",
    journal: Journal,
    streams: Output,
    report: "Report | None",
) -> Iterator[Cluster]:
    """Give workers that are ready for jobs, and end them with the block.

    Raises DeblurError where there are none, or they cannot be used.
    """
    folder = result_folder(options)
    with connected(options.cluster or "auto") as ray:
        kit = Kit(
            options,
            *network,
            existing=journal.existing,
            device="auto" if options.actor_gpus else "cpu",
            cpus=options.actor_cpus or automatic_cpus(ray, options.actor_gpus),
            folder=Path.cwd(),
            seen=[jobs[0].source, *([folder / LOCK] if isinstance(folder, Path) else [])],
            page=None if report is None else report.folder,
        )
        pool = RayPool(ray, kit, options, len(jobs))
        try:
            pool.gather(streams)
            yield Cluster(pool, kit, journal, streams)
        finally:
            pool.close()
