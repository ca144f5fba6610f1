"""Print the tables of docs/SCALE.md: what a million photos of 12 megapixels cost.

python examples/scale.py [GPU_SECONDS]     # what `deblur bench` says of a photo on your GPU
"""

import sys

PHOTOS = 1_000_000
CORE_SECONDS = 2 * 6.9  # in the network, 4096 x 3072, 10% blurred by 10 px (docs/benchmarks.md)
IO_CORE_SECONDS = 0.18 + 0.28  # reading and writing a JPEG of that size (docs/benchmarks.md)
MEGABYTES = 5  # of a photo, and of its result
READS, WRITES = 6, 1  # requests per photo: one GET, four HEAD, and one LIST; one PUT
PREFIX_READS, PREFIX_WRITES = 5500, 3500  # per second that S3 serves for one prefix, as AWS says
PLANNED, REPORTED = 3000, 1000  # photos per second that the driver plans and notes
PLANNED_KB = 2.4  # memory of the driver for each photo


def photos_per_second(cores: int) -> float:
    """Photos that so many cores restore."""
    return cores / (CORE_SECONDS + IO_CORE_SECONDS)


def cpu_table(sizes: tuple[int, ...] = (16, 100, 1000)) -> list[str]:
    """Time and traffic of the run on so many cores."""
    lines = [
        "| cores | photos per second | hours | core hours | read and written, each |",
        "|---|---|---|---|---|",
    ]
    for cores in sizes:
        rate = photos_per_second(cores)
        hours = PHOTOS / rate / 3600
        traffic = f"{rate * MEGABYTES:.0f} MB/s"
        lines.append(f"| {cores} | {rate:.1f} | {hours:,.0f} | {hours * cores:,.0f} | {traffic} |")
    return lines


def limits_table() -> list[str]:
    """Where it saturates: photos per second of each part, and how many cores keep it busy."""
    limits = {
        "the driver notes what is done": REPORTED,
        "reading requests of one S3 prefix": PREFIX_READS / READS,
        "writing requests of one S3 prefix": PREFIX_WRITES / WRITES,
        "a network of 10 Gbit/s, in each direction": 10_000 / 8 / MEGABYTES,
    }
    lines = ["| what | photos per second | cores that reach it |", "|---|---|---|"]
    for what, rate in sorted(limits.items(), key=lambda limit: limit[1]):
        lines.append(f"| {what} | {rate:,.0f} | {rate / photos_per_second(1):,.0f} |")
    return lines


def gpu_lines(seconds: float) -> list[str]:
    """The same for GPUs that take so many seconds for a photo."""
    return [
        f"GPU hours: {PHOTOS * seconds / 3600:,.0f}",
        f"processors to read and write for each GPU: {IO_CORE_SECONDS / seconds:.1f}",
        f"read and written by each GPU, each: {MEGABYTES / seconds:.1f} MB/s",
    ]


if __name__ == "__main__":
    print("\n".join([*cpu_table(), "", *limits_table()]))
    print(
        f"\nplanning: {PHOTOS / PLANNED / 60:.0f} minutes, {PHOTOS * PLANNED_KB / 1e6:.1f} GB in the driver"
    )
    print(f"storage: {PHOTOS * MEGABYTES / 1e6:.0f} TB read, as much written")
    for argument in sys.argv[1:]:
        print("\n".join(gpu_lines(float(argument))))
