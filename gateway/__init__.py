"""The gateway: policy, storage and wiring around the DICOMweb services."""

from importlib.metadata import version

__version__ = version("isthmus")
