"""Options of the decoder ``wavelet``, known without PyTorch."""

from __future__ import annotations

from pydantic import field_validator

from inversion.models.decoders._options import Options


class WaveletOptions(Options):
    wavelet: str = "haar"
    """any discrete wavelet of PyWavelets, such as haar, db2, bior2.2"""

    @field_validator("wavelet")
    @classmethod
    def _known_to_pywavelets(cls, value: str) -> str:
        import pywt  # type: ignore[import-untyped]

        if value not in pywt.wavelist(kind="discrete"):
            raise ValueError("not a discrete wavelet of PyWavelets")
        return value


OptionsType = WaveletOptions
