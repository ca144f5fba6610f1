"""Small networks for tests, whose every part has something to say."""

import torch
import torch.nn.functional as F

from deblur_cli.benchmark.fast_paths import randomize
from deblur_cli.nets import Detection, Guided, create, create_detector, create_lmd_vit
from deblur_cli.nets.blocks import MaskPredictor
from deblur_cli.weights import LoadedWeights

STAGES = {1: (1, 1, 1, 2), 2: (1, 1, 2), 4: (1, 2)}  # blocks of the encoder by stem


def lively(
    architecture="m2aenet",
    width=8,
    encoder=(1, 1, 1, 2),
    decoder=(1, 1, 1, 1),
    pooling=None,
    seed=0,
    **options,
):
    """A network with random parameters: residuals, mask and motion all far from their neutral start."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"width": width, "encoder": encoder, "decoder": decoder, "pooling": pooling}
    network = create(architecture, **sizes, **options).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith(("beta", "gamma")):
                parameter.copy_(0.3 * noise)
            elif parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * noise)
        network.ending.weight.mul_(0.03)
        if network.detects:
            balance(network, torch.rand(1, 3, 64, 64, generator=generator))
    return network


def told(stem=2, architecture="m2aenet", **options):
    """A restorer that follows a detector."""
    encoder = STAGES[stem]
    sizes = {"encoder": encoder, "decoder": (1,) * len(encoder), "stem": stem, "guided": True}
    return lively(architecture, **(sizes | options))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def detection_of(image, seed=0, multiple=8, reach=0.7):
    """What a detector that pads to some multiple might detect: motions differ even in direction."""
    batch, _, height, width = image.shape
    cells = (-(-height // multiple) * multiple // 8, -(-width // multiple) * multiple // 8)
    generator = seeded(seed)
    probability = torch.rand(batch, 1, *cells, generator=generator)
    start, end = (reach * torch.randn(batch, 2, *cells, generator=generator) for _ in range(2))
    return Detection(image, (height, width), probability, start, end)


def balance(network, image):
    """Make about half of a picture blurred, with probabilities far from one half."""
    last = network.mask_predictor.out_conv[4]
    last.weight.mul_(10)
    difference = network.detect(image).logits.diff(dim=1)
    last.bias[1] -= difference.median()


def weights_of(network, name="test"):
    return LoadedWeights(name, network.architecture, "0" * 64, network)


def detects(network, probability):
    """Make the network find the same probability of blur everywhere."""
    logit = torch.logit(torch.tensor(float(probability)))
    with torch.no_grad():
        last = network.mask_predictor.out_conv[4]
        last.weight.zero_()
        last.bias.copy_(torch.stack([logit, torch.zeros(())]))
    return network


def lively_lmd_vit(embed=4, depths=(1, 3, 2, 3, 2), heads=(1, 2, 2, 2, 1), window=4, seed=0):
    """A small LMD-ViT with random parameters, whose predictors disagree about windows."""
    generator = torch.Generator().manual_seed(seed)
    network = create_lmd_vit(embed=embed, depths=depths, heads=heads, window=window).eval()
    with torch.no_grad():
        randomize(network, generator)
        network.output_proj.proj[0].weight.mul_(0.03)
        balance_windows(network, torch.rand(1, 3, 128, 128, generator=generator))
    return network


def lively_detector(pooling=None, seed=2, **sizes):
    """A small detector with random parameters that marks about half of a picture of noise."""
    generator = torch.Generator().manual_seed(seed)
    small = {"width": 8, "before": 1, "context": 1, "after": 1, "wide": 1, "edges": 2}
    network = create_detector(**(small | sizes), pooling=pooling).eval()
    with torch.no_grad():
        randomize(network, generator)
        network.head.weight[0] *= 3
        image = torch.rand(1, 3, 64, 64, generator=generator)
        network.head.bias[0] -= network(image)[0].median()
    return network


def finds(network, probability):
    """Make a detector find the same probability of blur everywhere."""
    with torch.no_grad():
        network.head.weight[0].zero_()
        network.head.bias[0] = torch.logit(torch.tensor(float(probability)))
    return network


def guided_by(detector, restorer, name="test", **notes):
    """Weights with a detector, as `weights.guide` makes them."""
    found = LoadedWeights("finder", detector.architecture, "1" * 64, detector, notes)
    network = Guided(detector, restorer).eval()
    return LoadedWeights(name, restorer.architecture, "0" * 64, network, detector=found)


def balance_windows(network, image):
    """Make each predictor keep about half of the windows of a picture, with scores far from zero."""

    def center(predictor, _, logits):
        last, scores = predictor.out_conv[4], F.avg_pool2d(logits.diff(dim=1), network.config.window)
        gain = 4 / (scores.std() if scores.numel() > 1 else 1)
        for parameter in (last.weight, last.bias):
            parameter.mul_(gain)
        last.bias[1] -= gain * scores.median()
        return gain * logits - torch.stack([torch.zeros(()), gain * scores.median()]).view(1, 2, 1, 1)

    predictors = [module for module in network.modules() if isinstance(module, MaskPredictor)]
    hooks = [predictor.register_forward_hook(center) for predictor in predictors]
    network(image)
    for hook in hooks:
        hook.remove()
