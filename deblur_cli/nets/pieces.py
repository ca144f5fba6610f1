"""Names for pieces of a run, by which `deblur bench --profile` tells them apart."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from torch.profiler import record_function

PIECE = "piece: "  # before its name, in what the profiler records

P = ParamSpec("P")
T = TypeVar("T")


def piece(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Name a function for the profiler. Costs a few microseconds a call, whether it runs or not."""

    def named(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            with record_function(PIECE + name):
                return function(*args, **kwargs)

        return run

    return named
