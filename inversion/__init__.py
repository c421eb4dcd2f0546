"""Feature-inversion studies: how much of an image survives inside a neural network?

A frozen encoder is cut at a layer, a decoder is trained to rebuild the image from the features, and the
reconstruction is scored. ``inversion.models.model`` has the data flow, ``inversion.images`` the value ranges.
"""

__version__ = "0.1.0"
