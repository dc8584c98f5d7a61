"""The gateway: policy, storage and wiring around the DICOMweb services."""
