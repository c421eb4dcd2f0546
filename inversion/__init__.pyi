from inversion.api.runs import Run as Run
from inversion.api.runs import find as find
from inversion.api.runs import load as load
from inversion.api.runs import train as train
from inversion.api.studies import Study as Study
from inversion.api.studies import study as study
from inversion.api.studies import sweep as sweep

__version__: str
