"""The further scores of a run's test images: finds and loads what they need."""

from __future__ import annotations

from torch import nn

from inversion.config.run_config import RunConfig
from inversion.errors import WeightsError
from inversion.losses.dists import Dists
from inversion.losses.lpips_vgg import LpipsVgg
from inversion.losses.outside import metric_names, outside_metrics
from inversion.losses.vgg import VggStages, is_imagenet
from inversion.losses.vgg_weights import WHOLE, find_vgg
from inversion.models.encoders.build import build_encoder
from inversion.models.encoders.catalog import parse_encoders
from inversion.models.encoders.weights import WeightsSource, parse_weights
from inversion.training.device import Engine
from inversion.training.further_scores import FurtherScores, VggMetrics


def further_scores(config: RunConfig, engine: Engine, images: int) -> FurtherScores:
    """The further scores of ``images`` test images of a resolved configuration.

    What ``vgg_weights=auto`` finds but cannot load is left out with the reason, since the run did not ask for it.

    Raises:
        WeightsError: the weights that ``vgg_weights`` names cannot be found, downloaded or loaded.
    """
    try:
        own = parse_weights(config.weights, parse_encoders(config.encoder)) if config.vgg_weights == "auto" else {}
        source, why = find_vgg(config.vgg_weights, own, images * config.image_size**2, engine.device.type == "cpu")
        vgg = load_vgg(source, imagenet_alone=config.vgg_weights == "auto") if source else None
    except WeightsError as error:
        if config.vgg_weights != "auto":
            raise
        vgg, why = None, str(error)
    return FurtherScores(engine, config.image_size, vgg, why, make_metrics(config.metrics))


def make_metrics(metrics: str) -> dict[str, nn.Module]:
    """The metrics of a value of ``metrics``, by the names under which they are logged.

    Raises:
        RequestError: the code of one fails, or is not at hand.
    """
    made = map(outside_metrics.get, metric_names(metrics))
    return {metric.logged_name: metric.make() for metric in made}


def load_vgg(source: WeightsSource, imagenet_alone: bool = False) -> VggMetrics:
    """The metrics in the features of this VGG16; ImageNet weights are downloaded if they are not cached.

    Raises:
        WeightsError: the weights cannot be downloaded or loaded, or lack a convolution; or those of DISTS are missing;
            or, with ``imagenet_alone``, they are others than ImageNet's, in which LPIPS and DISTS are not defined.
    """
    trunk = build_encoder(WHOLE, source, image_size=224).trunk_state()
    if imagenet_alone and not is_imagenet(trunk):
        raise WeightsError(f"the weights {source} are not VGG16's of ImageNet; vgg_weights={source} takes them "
                           "nevertheless")
    stages = VggStages(trunk)
    return VggMetrics(LpipsVgg(stages), Dists(stages))
