"""Several GPUs, one process each, as torchrun starts them; a single process needs none of this."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Team:
    """Place of a process among those that train together; rank 0 writes and reports."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def device(self, chosen: str) -> str:
        """The GPU of this process where GPUs are used, else the device as chosen."""
        return f"cuda:{self.local_rank}" if chosen.startswith("cuda") and self.size > 1 else chosen

    def agree(self, value: bool) -> bool:
        """Whether any process says so, so that all stop after the same step."""
        if self.size == 1:
            return value
        votes = torch.tensor(int(value))
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes)

    def follow(self, value: float) -> float:
        """The leader's value, so that all go by the same clock."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)


ALONE = Team()


def join_team() -> Team:
    """Take part in the group that torchrun describes in the environment; alone without one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        gpus = torch.cuda.is_available()
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    return Team(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))


def leave_team() -> None:
    """End what `join_team` began."""
    if dist.is_initialized():
        dist.destroy_process_group()
