"""One photo: where it is blurred by motion, and what it becomes without the blur.

detect   deblurrer.py: `Deblurrer.detect` runs the detector over the photo at 1, 1/2, 1/4 and 1/8
         (scales.py), tile by tile (tiles.py, engine.py, device.py), and merges the maps into `Findings`
restore  deblurrer.py: `Deblurrer.restore` takes the regions over epsilon and feathers their mask (mask.py),
         restores the parts of tiles that change, each cell at its scale, and adds the changes to the photo
ahead    forecast.py: what a run would do, how long it would take, and its multiply-accumulates
limits.py holds the values that options are checked against and imports nothing heavy.
"""
