"""Plans of requests that need no download."""

from __future__ import annotations

from typing import Any

from inversion.config.resolve import Plan, resolve
from inversion.config.run_config import parse_config

STUDY_ENCODERS = ["resnet34:layer1", "resnet34:layer2", "vgg16:block1", "vgg16:block3", "vit_small:block1",
                  "vit_small:block3", "pvt_v2_b2:stage1", "pvt_v2_b2:stage2"]
STUDY_DECODERS = ["transposed_conv", "attention", "wavelet", "frequency_aware"]
STUDY = [*({"encoder": encoder, "decoder": decoder} for encoder in STUDY_ENCODERS for decoder in STUDY_DECODERS),
         *({"encoder": "ensemble", "fusion": fusion, "decoder": decoder}
           for fusion in ("weighted", "attention", "concat") for decoder in STUDY_DECODERS)]


def plan(**values: Any) -> Plan:
    return resolve(parse_config({"data": "sample", "weights": "random", "lpips_weights": "off"} | values))
