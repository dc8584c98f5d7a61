"""DICOMweb (PS3.18) for aiohttp: services, media types and data models; storage comes through `ports`."""
