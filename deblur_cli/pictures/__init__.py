"""Pictures of what the network saw: where blur was detected, and along which paths things moved."""

from deblur_cli.pictures.drawing import Maps, Pixels8, at_scales, blurred
from deblur_cli.pictures.mask import Step, draw_sheet, mask_overlay
from deblur_cli.pictures.motion import flow_overlay, trajectory_overlay
