"""Cells of 8 x 8 photo pixels: masks and motion have one value for each."""

CELL = 8  # photo pixels, the side of a cell


def cells_of(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells in a picture of height x width pixels; the last ones may be part cells."""
    return -(-size[0] // CELL), -(-size[1] // CELL)
