"""Enough of Ray for a cluster inside this process, so that what a run says and keeps is tested without any.

Workers are real, and so is their work; they die of photos whose names hold `poison`.
"""

import pickle
import sys
from itertools import count
from types import ModuleType, SimpleNamespace

from deblur_cli.cli.run import cluster

ADDRESS = "10.0.0.1:6379"


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Answer:
    """What a call will give, or raise."""

    def __init__(self, call):
        self.call = call


class Rows:
    """The answers of a generator, one after the other; a worker that died has no more of them."""

    def __init__(self, actor, rows):
        self.actor = actor
        self.rows = rows

    def __next__(self):
        def row():
            if self.actor.is_dead:
                raise RayError("The actor died unexpectedly.")
            return found

        found = None if self.actor.is_dead else next(self.rows)
        return Answer(row)


class Method:
    def __init__(self, actor, name):
        self.actor = actor
        self.name = name

    def options(self, **_):
        return self

    def remote(self, *words):
        call = getattr(self.actor.worker, self.name)
        words = pickle.loads(pickle.dumps(words))  # as they go to another process
        if self.name != "work":
            return Answer(lambda: call(*words))
        return Rows(self.actor, self.until_poison(call, *words))

    def until_poison(self, call, jobs):
        poisoned = [place for place, (_, job) in enumerate(jobs) if "poison" in job.source.name]
        yield from call(jobs[: poisoned[0]] if poisoned else jobs)
        if poisoned:
            self.actor.is_dead = True
            yield None


class Actor:
    def __init__(self, worker):
        self.worker = worker
        self.is_dead = False

    def __getattr__(self, name):
        return Method(self, name)


class Ray(ModuleType):
    """Two machines with two processors each; `version` is of the deblur that is installed there."""

    def __init__(self):
        super().__init__("ray")
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.actors = []
        self.version = None
        self.asked = {}
        self.resources = {"CPU": 2.0, "memory": 8e9}

    def init(self, address, **options):
        self.asked = {"address": address, **options}

    def shutdown(self):
        for actor in self.actors:
            self.kill(actor)

    is_up = True

    def nodes(self):
        return [{"Alive": True, "NodeID": name, "Resources": self.resources} for name in ("a", "b")]

    def put(self, thing):
        return thing

    def get(self, answer):
        try:
            return answer.call()
        except RayError:
            raise
        except Exception as error:
            raise RayTaskError(error) from error

    def wait(self, answers, num_returns=1, timeout=None):
        return list(answers), []

    def kill(self, actor):
        actor.is_dead = True
        actor.worker._stack.close()

    def remote(self, kind):
        ray, numbers = self, count()

        class Factory:
            def options(self, **asked):
                ray.asked |= asked
                return self

            def remote(self):
                ray.actors.append(actor := Actor(kind()))
                hello, number = actor.worker.hello, next(numbers)
                actor.worker.hello = lambda: ray.greeting(hello(), number)
                return actor

        return Factory()

    def greeting(self, told, number):
        changed = {"node": "ab"[number % 2]} | ({"version": self.version} if self.version else {})
        return SimpleNamespace(**{**vars(told), **changed})

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: "", gcs_address=ADDRESS)


def install(monkeypatch) -> Ray:
    """Put it in the place of Ray."""
    ray = Ray()
    monkeypatch.setitem(sys.modules, "ray", ray)
    real = cluster.speaks_grpc

    def speaks_grpc(address):
        return ray.is_up if address == ADDRESS else real(address)

    monkeypatch.setattr(cluster, "speaks_grpc", speaks_grpc)
    return ray
