"""The steps that take a photo of a run from its file to its results; how a run works in this process."""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from deblur_cli.cli.output import Output
from deblur_cli.cli.run.companions import sidecar_for
from deblur_cli.cli.run.copies import Copies
from deblur_cli.cli.run.messages import Failure, Outcome, describe_result
from deblur_cli.cli.run.options import Existing, Kind, RunOptions
from deblur_cli.cli.run.pipeline import Budget, Pipeline, Threads
from deblur_cli.cli.run.plan import Job, LocalJob, State, check_photo
from deblur_cli.files import check_target, write_file
from deblur_cli.photo import encode
from deblur_cli.photo.decode import decode
from deblur_cli.photo.header import megapixels
from deblur_cli.photo.photo import Photo, rgb_profile, to_eight_bits, white
from deblur_cli.photo.raw import RawOptions
from deblur_cli.pictures import flow_overlay, mask_overlay, trajectory_overlay
from deblur_cli.pictures.drawing import bands
from deblur_cli.restoration.advice import advice
from deblur_cli.restoration.deblurrer import untouched
from deblur_cli.restoration.device import return_freed_memory
from deblur_cli.restoration.findings import to_npz
from deblur_cli.restoration.painted import MaskMode, read_mask
from deblur_cli.restoration.save import is_copied, save
from deblur_cli.stores import Location

if TYPE_CHECKING:
    from deblur_cli.cli.run.pipeline import Deblurred
    from deblur_cli.report import Report
    from deblur_cli.restoration.deblurrer import Deblurrer, Request, Result
    from deblur_cli.restoration.findings import Findings
    from deblur_cli.weights import LoadedWeights

logger = logging.getLogger(__name__)

BYTES_PER_PIXEL = 24  # what a photo takes at most beside the network: 16 bits, its result, and its file
MEMORY_SHARE = 0.25  # of the free memory, for photos; the tiles in the network need the rest
MOST_LANES = 2  # photos in the network at once, each of which takes memory for tiles of its own
ROOMY = 6e9  # bytes that are free where tiles are as large in two lanes as in one
LARGE = 20e6  # pixels of a photo from which the memory that a step leaves is worth 0.1 s to give it back
MOST_AUTOMATIC_JOBS = 8  # more of them than that wait for the disk anyway


class Listener(Protocol):
    """Whom a run tells how it goes; from any thread, but one call of `report` at a time."""

    def enters(self, job: Job) -> None:
        """A photo is the one in the network now."""

    def progress(self, job: Job, done: int, total: int, phase: str) -> None:
        """So many tiles of a photo are done in a phase."""

    def report(self, job: Job, outcome: Outcome | Failure) -> None:
        """What came of a photo."""


class Ledger(Protocol):
    """What takes down that the files of a photo are about to be put in place, and that they are."""

    @property
    def existing(self) -> Existing:
        """What happens to results that exist."""

    def begin(self, job: Job) -> None:
        """The missing results of a photo are about to be put in place."""

    def finish(self, job: Job) -> None:
        """All of them are in place."""


@dataclass(frozen=True)
class Place:
    """What of a machine some steps may use.

    threads: that read and write, and stay; None for some of their own
    sharers: how many such steps share its memory; turn: held while the network is used
    """

    threads: Threads | None = None
    sharers: int = 1
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)


class Steps:
    """The steps of a pipeline over photos, with one network.

    findings: of the one photo, if they need not be detected; page: what pictures for the report go to
    place: what of this machine they may use
    """

    _listener: Listener  # these are set before any photo is read
    _copies: Copies

    def __init__(
        self,
        options: RunOptions,
        streams: Output,
        ledger: Ledger,
        network: "Deblurrer",
        request: "Request",
        page: "Report | None" = None,
        findings: "Findings | None" = None,
        place: Place | None = None,
    ) -> None:
        self._options = options
        self._streams = streams
        self._ledger = ledger
        self._network = network
        self._request = request
        self._page = page
        self._findings = findings
        self._place = place or Place()
        self._seconds: defaultdict[Job, float] = defaultdict(float)  # spent on each photo under way
        self._read_mask = lru_cache(1)(read_mask)  # one mask may be for all photos
        self._reading_mask = Lock()  # two photos in the network would both read it
        self._raw = RawOptions(options.raw_white_balance, options.raw_exposure, options.raw_color_space)
        free = psutil.virtual_memory().available
        self._room = free * MEMORY_SHARE / self._place.sharers / BYTES_PER_PIXEL / 1e6  # megapixels that fit
        self._threads = self._place.threads or Threads(options.jobs or automatic_jobs(network.device))
        self._budget = Budget(self._room)
        self._cores = torch.get_num_threads()
        lanes = lanes_on(network.device) if place is None else 1
        self._pipeline = Pipeline(self, self._threads, self._budget, lanes)

    @property
    def weights(self) -> "LoadedWeights":
        """What restores the photos."""
        return self._network.weights

    @property
    def epsilon(self) -> float:
        """How sure to be before restoring."""
        return self._request.epsilon

    def run(self, jobs: Sequence[Job], listener: Listener) -> None:
        """Work through jobs and tell what comes of each; what the listener raises ends the run."""
        self._listener = listener
        try:
            with Copies(self._streams, lambda: self._budget.is_closed) as self._copies:
                self._pipeline.run(jobs)
        finally:
            torch.set_num_threads(self._cores)
            if self._place.threads is None:
                self._threads.close()

    def end(self) -> None:
        """Begin nothing more. What is being written is finished and reported."""
        self._pipeline.end()

    def bring(self, job: Job) -> float:
        """Fetch what is elsewhere, and return the megapixels of a photo.

        Where its header does not tell them, that is all that there is room for. Raises DecodeError.
        """
        with self._timed(job):
            here = self._copies.bring(job)
        return megapixels(here.source) or self._room

    def about(self, job: Job) -> AbstractContextManager[None]:
        """Let the log lines of this thread name a photo."""
        return self._streams.about(job.source)

    def enter_lane(self, lanes: int) -> None:
        """Let this thread use its share of the cores."""
        if lanes > 1:
            torch.set_num_threads(self._cores // lanes)

    def begin(self, job: Job) -> None:
        """Note that a photo is the one in the network."""
        self._listener.enters(job)

    def read(self, job: Job) -> Photo:
        """Read a photo, and check what can be known before deblurring it."""
        here = self._copies.of(job)
        with self._timed(job), self._copies.named(job):
            photo = decode(here.source, self._options.max_megapixels, self._raw)
            check_photo(photo, job, here, self._options, self._findings)
            _tidy_up(photo)
            return photo

    def deblur(self, job: Job, photo: Photo) -> "Deblurred":
        """Detect blur and restore it, as far as that is wanted."""
        network = self._network

        def progress(done: int, total: int, phase: str) -> None:
            self._pipeline.check()
            self._listener.progress(job, done, total, phase)

        with self._place.turn, self._timed(job), self._copies.named(job):
            request = self._request_for(self._copies.of(job), photo)
            findings = self._findings or network.detect(photo, progress)
            _tidy_up(photo)
            if job.restores:
                result = network.restore(photo, findings, request, progress)
                _tidy_up(photo)
                return findings, replace(result, notes=(*result.notes, *advice(photo, result)))
            scales = network.scales_for(photo.height, photo.width)
            return findings, untouched(photo, findings, request, scales)

    def _request_for(self, job: LocalJob, photo: Photo) -> "Request":
        """Return what is wanted of a photo, with its painted mask. Raises PhotoError."""
        if job.mask is None:
            return self._request
        mode = MaskMode(self._options.mask_mode or MaskMode.only)
        size = (photo.height, photo.width)
        with self._reading_mask:
            painted = self._read_mask(job.mask, *size, self._options.max_megapixels, mode)
        return replace(self._request, painted=painted)

    def write(self, job: Job, photo: Photo, deblurred: "Deblurred") -> Outcome:
        """Write all results of a photo, noted in the journal before and after."""
        findings, result = deblurred
        with self._timed(job), self._copies.named(job):
            self._copies.check(job)
            self._ledger.begin(job)
            lost = self._losses(job, photo, result)
            if self._page is not None:  # first: a photo that counts as done has its place there
                record = self._describe(job, photo, result, lost).record
                self._page.add(photo, job.source, result, record, flow=self._options.flow)
            lost = self._save(job, photo, findings, result) or lost
            self._ledger.finish(job)
        return self._describe(job, photo, result, lost)

    def _save(self, job: Job, photo: Photo, findings: "Findings", result: "Result") -> tuple[str, ...]:
        """Write the results of a job that are missing, and return what the restored photo lacks, as phrases.

        Raises EncodeError, and then leaves no new file.
        The restored photo comes last, so that where it exists all its companions do.
        findings: as they were detected, which given back make the same result
        """
        overwrite = self._ledger.existing is Existing.replace or job.state is State.again
        here = self._copies.of(job)
        lost: tuple[str, ...] = ()
        written: list[Location] = []
        new = [place for place in job.missing.values() if not place.exists()]
        try:
            for kind, place in reversed(job.missing.items()):
                path = here.results[kind]
                if kind is Kind.photo:
                    lost = self._save_photo(path, photo, result, overwrite=overwrite)
                elif kind is Kind.data:
                    check_target(path, photo.source, overwrite=overwrite)
                    write_file(path, [to_npz(findings, result.epsilon)], overwrite=overwrite)
                elif kind in here.sidecars:
                    check_target(path, here.sidecars[kind], overwrite=overwrite)
                    copied = self._is_copied(here.results[Kind.photo], photo, result)
                    content = sidecar_for(photo, here.sidecars[kind], copied=copied)
                    write_file(path, [content], overwrite=overwrite)
                else:
                    picture = _picture(kind, photo, result, flow=self._options.flow)
                    encode.encode(picture, path, format="PNG", overwrite=overwrite)
                self._copies.put(job, kind, overwrite=overwrite)
                written.append(place)
        except BaseException:
            for place in set(written) & set(new):
                _remove(place)
            raise
        return lost

    def _save_photo(self, path: Path, photo: Photo, result: "Result", *, overwrite: bool) -> tuple[str, ...]:
        return save(
            path,
            photo,
            result,
            self._network.weights.label,
            quality=self._options.quality,
            overwrite=overwrite,
            note=self._options.note,
            strip=self._options.strip_metadata,
            strict=self._options.strict,
        )

    def _losses(self, job: Job, photo: Photo, result: "Result") -> tuple[str, ...]:
        """Return what of the photo's file its result will lack, as phrases; nothing where it is copied.

        Raises EncodeError if that is anything while options are strict.
        """
        path = self._copies.of(job).results.get(Kind.photo)
        if path is None or self._is_copied(path, photo, result):
            return ()
        strip, strict = self._options.strip_metadata, self._options.strict
        return encode.left_out(result.photo, encode.format_of(path.name), strip=strip, strict=strict)

    def _is_copied(self, path: Path, photo: Photo, result: "Result") -> bool:
        return is_copied(path, photo, result, strip=self._options.strip_metadata)

    def _describe(self, job: Job, photo: Photo, result: "Result", lost: tuple[str, ...]) -> Outcome:
        here = self._copies.of(job)
        copied = job.restores and self._is_copied(here.results[Kind.photo], photo, result)
        return describe_result(job, result, self._network, self._seconds[job], lost, copied=copied)

    @contextmanager
    def _timed(self, job: Job) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[job] += time.monotonic() - began

    def report(self, job: Job, outcome: Outcome | Exception) -> None:
        """Pass on what came of a photo."""
        self._copies.drop(job)
        self._seconds.pop(job, None)
        if isinstance(outcome, Exception):
            self._listener.report(job, Failure.of(outcome, debug=self._options.debug))
        else:
            self._listener.report(job, outcome)


def _remove(place: Location) -> None:
    try:
        place.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s: is left, as it cannot be removed (%s)", place, error.strerror)


def _tidy_up(photo: Photo) -> None:
    if photo.width * photo.height > LARGE:
        return_freed_memory()


def lanes_on(device: str) -> int:
    """Return how many photos are in the network at once: on a processor with enough memory, more than one."""
    is_wide = device == "cpu" and psutil.virtual_memory().available > ROOMY
    return min(MOST_LANES, torch.get_num_threads()) if is_wide else 1


def automatic_jobs(device: str, cores: int | None = None) -> int:
    """Return how many photos to read, and to write, side by side. cores: None for all of this machine

    One on a processor, which the network keeps busy anyway; half the cores beside another device, as
    compressing a photo takes longer than deblurring it there.
    """
    return 1 if device == "cpu" else min(MOST_AUTOMATIC_JOBS, max(1, (cores or os.cpu_count() or 2) // 2))


def _picture(kind: Kind, photo: Photo, result: "Result", *, flow: bool) -> Photo:
    if kind is Kind.gray:
        return Photo(pixels=selection(photo, result), source=photo.source, format="PNG")
    seen = to_eight_bits(photo.pixels)
    if kind is Kind.mask:
        pixels = mask_overlay(seen, result.findings, result.epsilon, share=result.blurred_share)
    else:
        draw = flow_overlay if flow else trajectory_overlay
        pixels = draw(seen, result.findings, result.epsilon, legend=True)
    return Photo(pixels=pixels, source=photo.source, format="PNG", metadata=rgb_profile(photo))


def selection(photo: Photo, result: "Result") -> NDArray[np.generic]:
    """Return how strongly restored pixels are laid over the photo: H W 1, white is fully, as deep as it."""
    largest = white(photo.pixels)
    drawn = np.empty((photo.height, photo.width, 1), photo.pixels.dtype)
    for top, bottom in bands(photo.height):
        weights = result.weights(slice(top, bottom), slice(0, photo.width))
        drawn[top:bottom, :, 0] = np.rint(weights * largest)
    return drawn
