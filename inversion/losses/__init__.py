"""The training loss: a weighted sum of mean squared error and LPIPS. May import ``models`` and below.

- ``reconstruction``: the loss, and its targets under each protocol. Add a loss term here.
- ``lpips``: LPIPS, which is both a loss term and a metric.
- ``lpips_weights``: the weights of its AlexNet trunk.
- ``outside`` and ``own``: a further term and metrics of a user's own.
- ``lpips_vgg``, ``dists``, on ``vgg`` with ``vgg_weights``: metrics of test images in VGG16's features, in no loss.

Other metrics are not here: PSNR, SSIM and mean squared error are functions in ``inversion.metrics``, and
``inversion.training.evaluate`` computes all scores of the test images. Add a metric there, also a perceptual one; if it
needs weights, as LPIPS does, ``lpips_weights`` shows how to find and load them.

This module, ``outside`` and ``lpips_weights`` import without PyTorch.
"""
