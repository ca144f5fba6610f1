"""Print the table of multiply-accumulates in docs/benchmarks.md.

python examples/macs_table.py
"""

import torch

from deblur_cli.benchmark.scene import disc
from deblur_cli.nets import M2AENet, create
from deblur_cli.nets.macs import count_restoration, count_spared
from deblur_cli.nets.network import CELL
from deblur_cli.train.settings import find_config, read_settings

SIZE = (1436, 2152)  # height and width of pictures in ReLoBlur
SHARES = (0.1, 0.3)
ROWS = {  # settings: description, the paper's figures
    "ablation-nafnet": ("NAFNet (Table 3, 1)", "17.11 M, 0.764 T"),
    "ablation-no-mask": ("without mask (Table 3, 2)", "0.995 T"),
    "ablation-no-motion": ("without motion (Table 3, 3)", "0.528 T"),
    "paper": ("M²AENet (Table 3, 4)", "17.44 M, 0.759 T"),
    "ablation-mask-12": ("masked at (1) and (2)", "0.694 T"),
    "ablation-mask-13": ("masked at (1) and (3)", "0.633 T"),
    "ablation-mask-123": ("masked at (1), (2) and (3)", "0.568 T"),
}


def build(settings: str) -> M2AENet:
    """The network of shipped settings, on the meta device: it takes no memory."""
    with torch.device("meta"):
        return create(**read_settings(find_config(settings)).network.model_dump())


def row(settings: str) -> str:
    """One row of the table."""
    network, (description, paper) = build(settings), ROWS[settings]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    dense = count_restoration(network, *SIZE)
    cells = [f"{dense / 1e12:.3f} T"]
    for share in SHARES:
        mask = torch.from_numpy(disc(*(-(-side // CELL) for side in SIZE), share))[None, None]
        macs = dense - count_spared(network, *SIZE, mask)
        cells.append(f"{macs / 1e12:.3f} T" if network.config.mask else "")
    return markdown([description, f"`{settings}`", f"{parameters / 1e6:.2f} M", *cells, paper])


def markdown(cells: list[str]) -> str:
    """One line of a Markdown table; empty cells stay empty."""
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def table() -> list[str]:
    """Lines of the Markdown table."""
    blurred = [f"{share * 100:.0f}% blurred" for share in SHARES]
    head = ["network", "settings", "parameters", "dense", *blurred, "paper"]
    return [markdown(head), "|" + "---|" * len(head), *map(row, ROWS)]


if __name__ == "__main__":
    print("\n".join(table()))
