"""What a run says about its photos: a line for people, a JSON record for programs."""

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from deblur_cli.cli.output import FAILED, OK, describe, is_disk_full
from deblur_cli.cli.run.collect import LeftOut, Problem, counted
from deblur_cli.cli.run.options import Kind
from deblur_cli.cli.run.plan import EXISTS, USE_OVERWRITE, FormerResultError, Job, Plan
from deblur_cli.errors import RefusedError

if TYPE_CHECKING:
    from deblur_cli.restoration.deblurrer import Deblurrer, Result
    from deblur_cli.restoration.forecast import Estimate
    from deblur_cli.weights import LoadedWeights

_FIELDS = (
    *("type", "status", "input", *Kind, "width", "height"),
    *("blurred_share", "scales", "tiles", "tiles_restored", "tiles_kept", "seconds", "epsilon"),
    *("strength", "thorough", "mask_file", "mask_mode"),
    *("device", "precision", "weights", "weights_sha256", "detector", "detector_sha256"),
    *("changed", "notes", "left_out", "error"),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a photo; holds no pixels, as it may wait to be told.

    left_out: what of the photo's file the result lacks; line: the same for people; record: for programs
    """

    changed: bool
    notes: tuple[str, ...]
    left_out: tuple[str, ...]
    line: str
    record: dict[str, object]


@dataclass(frozen=True)
class Failure:
    """Why nothing came of a photo.

    is_former: it is a result itself, so it counts as skipped; is_disk_full: no other can be written either
    is_refused: nor can one to the same store; traceback: for --debug, else empty
    """

    reason: str
    is_former: bool = False
    is_disk_full: bool = False
    is_refused: bool = False
    traceback: str = ""

    @classmethod
    def of(cls, error: Exception, *, debug: bool) -> "Failure":
        """Describe an error. debug: where in the code it occurred, too"""
        is_former = isinstance(error, FormerResultError)
        reason = str(error) if is_former else describe(error)
        where = "".join(traceback.format_exception(error)) if debug and not is_former else ""
        is_refused = isinstance(error, RefusedError)
        return cls(reason, is_former, is_disk_full(error) and not is_refused, is_refused, where)


def describe_result(
    job: Job, result: "Result", network: "Deblurrer", seconds: float, lost: tuple[str, ...], *, copied: bool
) -> Outcome:
    """Tell what came of a photo on which so many seconds were spent.

    lost: what of its file the result lacks; copied: it is the file as it was
    """
    request = result.request
    how = f"{network.device}, {network.precision}, {network.weights.title}, {request}"
    line = f"{_what_came_of(job, result, copied=copied)}, {seconds:.1f} s ({how})"
    record = _record(
        "done",
        **_names(job),
        width=result.photo.width,
        height=result.photo.height,
        blurred_share=round(result.blurred_share, 6),
        scales=scales_of(result),
        tiles=result.tiles,
        tiles_restored=result.tiles_restored,
        tiles_kept=result.tiles_kept,
        seconds=round(seconds, 3),
        epsilon=result.epsilon,
        strength=100 * request.strength,
        thorough=request.thorough,
        mask_file=job.mask and str(job.mask),
        mask_mode=request.painted and request.painted.mode,
        device=network.device,
        precision=network.precision,
        **named(network.weights),
        changed=result.changed,
        notes=list(result.notes),
        left_out=list(lost),
    )
    return Outcome(result.changed, result.notes, lost, line, record)


def _what_came_of(job: Job, result: "Result", *, copied: bool) -> str:
    from deblur_cli.pictures import at_scales, blurred  # here, as a dry run does without torch

    painted = result.request.painted
    what_counts = "painted" if painted is not None and painted.mode == "only" else "blurred"
    share = blurred(result.blurred_share, what_counts)
    if not job.restores:
        what = f"{share}, not restored"
    elif result.changed:
        tiles = "1 tile" if result.tiles_restored == 1 else f"{result.tiles_restored} tiles"
        what = f"{share}, {tiles} restored{at_scales(result.scale_shares)}"
    else:
        found = share if result.blurred_share else f"nothing {what_counts}"
        what = f"{found}, {'left as it is' if copied else 'only converted'}"
    kept = f", {result.tiles_kept} kept because they could not be restored" if result.tiles_kept else ""
    return what + kept


def named(weights: "LoadedWeights | None") -> dict[str, object]:
    """Tell for programs which weights and detector are used; None where that is not known yet."""
    detector = weights.detector if weights else None
    return {
        "weights": weights and weights.name,
        "weights_sha256": weights and weights.sha256,
        "detector": detector and detector.name,
        "detector_sha256": detector and detector.sha256,
    }


def scales_of(result: "Result") -> dict[str, float]:
    """Tell for programs how much of a photo's area is restored at each scale."""
    return {str(scale): round(share, 6) for scale, share in result.scale_shares.items()}


def failure_record(problem: Problem) -> dict[str, object]:
    """Describe for programs a photo that could not be worked on."""
    return _record("failed", input=str(problem.path), error=problem.bare_reason)


def skip_record(job: Job) -> dict[str, object]:
    """Describe for programs a photo whose results were all there."""
    return _record("skipped", **_names(job))


def plan_record(job: Job, size: tuple[int, int], lost: tuple[str, ...]) -> dict[str, object]:
    """Describe for programs a photo that would be worked on; its size is (width, height)."""
    return _record("planned", **_names(job), width=size[0], height=size[1], left_out=list(lost))


def plan_line(job: Job, size: tuple[int, int]) -> str:
    """Say the same for people."""
    results = ", ".join(map(str, job.missing.values()))
    return f"{job.source} ({size[0]} x {size[1]}, {_in_megapixels(size[0] * size[1])}) -> {results}"


def opening_lines(plan: Plan, *, verbose: bool) -> tuple[list[str], list[str]]:
    """Say what cannot be done, and what need not be; of photos whose results exist only the first is named.

    verbose: name all of them
    """
    problems = [str(problem) for problem in plan.problems]
    skipped = [f"{job.source}: {why}" for job, why in plan.skipped]
    if verbose:
        return problems, skipped
    return _in_short(problems, USE_OVERWRITE), _in_short(skipped, EXISTS)


def _in_short(lines: list[str], ending: str) -> list[str]:
    alike = [line for line in lines if line.endswith(ending)]
    if len(alike) < 2:
        return lines
    more = f"{alike[0]} ({counted(len(alike) - 1, 'more photo')} like this)"
    return [*(line for line in lines if line not in alike), more]


def _in_megapixels(pixels: float) -> str:
    return "<0.1 megapixels" if pixels < 50_000 else f"{pixels / 1e6:.1f} megapixels"


def _record(status: str, **known: object) -> dict[str, object]:
    """Return an object that has every field, so that a reader need not ask which are there."""
    return dict.fromkeys(map(str, _FIELDS)) | {"type": "photo", "status": status} | known


def _names(job: Job) -> dict[str, object]:
    return {"input": str(job.source), **{str(kind): str(path) for kind, path in job.results.items()}}


class Tally:
    """Counts of a run, by what became of its photos.

    stopped: the exit code of what ended the run early; epsilon: the one in use, None while no network is;
    left_out: what the run did not take
    """

    _WORDS: ClassVar = {
        "restored": "restored",
        "unchanged": "without blur",
        "looked_at": "only mapped",
        "skipped": "skipped",
        "failed": "failed",
        "not_done": "not done",
    }

    def __init__(self) -> None:
        self.counts = dict.fromkeys(self._WORDS, 0)
        self.stopped: int | None = None
        self.epsilon: float | None = None
        self.left_out = LeftOut()
        self._began = time.monotonic()

    @property
    def photos(self) -> int:
        """All photos that the run was about."""
        return sum(self.counts.values())

    @property
    def exit_code(self) -> int:
        """The exit code of the whole run."""
        if self.stopped is not None:
            return self.stopped
        return FAILED if self.counts["failed"] else OK

    def __str__(self) -> str:
        parts = [f"{count} {self._WORDS[name]}" for name, count in self.counts.items() if count]
        parts.append(f"{time.monotonic() - self._began:.1f} s")
        return f"{counted(self.photos, 'photo')}: {', '.join(parts)}{self.left_out}"

    def record(self) -> dict[str, object]:
        """Return the same for programs."""
        return {
            "type": "summary",
            "photos": self.photos,
            **self.counts,
            **self.left_out.record(),
            "epsilon": self.epsilon,
            "seconds": round(time.monotonic() - self._began, 3),
            "exit_code": self.exit_code,
        }


@dataclass
class Forecast:
    """What a dry run expects: width and height of the photos to do, and the counts of the others.

    left_out: what the run would not take; epsilon, weights: what would be used, None where that is not known
    yet
    """

    planned: Sequence[tuple[int, int]]
    skipped: int
    failed: int
    left_out: LeftOut = field(default_factory=LeftOut)
    estimate: "Estimate | None" = None
    epsilon: float | None = None
    weights: "LoadedWeights | None" = None

    @property
    def exit_code(self) -> int:
        """The exit code to expect."""
        return FAILED if self.failed else OK

    @property
    def photos(self) -> int:
        """All photos that the run would be about."""
        return len(self.planned) + self.skipped + self.failed

    @property
    def megapixels(self) -> float:
        """Size of all photos to do together."""
        return sum(width * height for width, height in self.planned) / 1e6

    def __str__(self) -> str:
        parts = (
            [f"{len(self.planned)} to deblur ({_in_megapixels(1e6 * self.megapixels)})"]
            if self.planned
            else []
        )
        parts += [f"{self.skipped} to skip"] if self.skipped else []
        parts += [f"{self.failed} that will fail"] if self.failed else []
        line = f"{counted(self.photos, 'photo')}: {', '.join(parts) or 'nothing to deblur'}"
        if self.estimate is not None and self.epsilon is not None and self.weights is not None:
            line += f"; {self.estimate}; {self.weights.title}, epsilon {self.epsilon:g}"
        return f"{line}{self.left_out}"

    def record(self) -> dict[str, object]:
        """Return the same for programs."""
        return {
            "type": "summary",
            "photos": self.photos,
            "planned": len(self.planned),
            "skipped": self.skipped,
            "failed": self.failed,
            **self.left_out.record(),
            "megapixels": round(self.megapixels, 6),
            "seconds_least": self.estimate and round(self.estimate.least, 3),
            "seconds_most": self.estimate and round(self.estimate.most, 3),
            **named(self.weights),
            "epsilon": self.epsilon,
            "exit_code": self.exit_code,
        }
