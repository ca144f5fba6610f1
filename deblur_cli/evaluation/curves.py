"""Quality and work over epsilon, as diagrams."""

from collections.abc import Mapping

from deblur_cli.evaluation.results import Place
from deblur_cli.evaluation.summary import Mean, labels
from deblur_cli.pictures.plots import Curve, Diagram

SHOWN = {  # measure: axis
    "gain_psnr_w": "PSNR gained in the blur, dB",
    "gain_psnr": "PSNR gained, dB",
    "mask_iou": "mask IoU",
    "work": "work, share of the dense network's",
}


def over_epsilon(summaries: Mapping[Place, Mapping[str, Mean]]) -> list[Diagram]:
    """A diagram for each measure that is known, with a curve for each weights; shades are 95 % intervals."""
    diagrams, names = [], labels([weights for weights, _ in summaries])
    for measure, axis in SHOWN.items():
        curves = [
            curve
            for weights in dict.fromkeys(weights for weights, _ in summaries)
            if (curve := curve_of(weights, measure, summaries, names[weights]))
        ]
        if curves:
            diagrams.append(Diagram("epsilon", axis, curves))
    return diagrams


def curve_of(
    weights: str, measure: str, summaries: Mapping[Place, Mapping[str, Mean]], label: str
) -> Curve | None:
    """A measure of some weights over epsilon; None where it is not known."""
    points = sorted(
        (float(epsilon), means[measure])
        for (name, epsilon), means in summaries.items()
        if name == weights and epsilon and measure in means
    )
    if not points:
        return None
    means = [mean for _, mean in points]
    return Curve(
        label,
        [epsilon for epsilon, _ in points],
        [mean.mean for mean in means],
        [mean.low for mean in means],
        [mean.high for mean in means],
    )
