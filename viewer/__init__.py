"""The web application's server side: static files only; everything it shows comes from DICOMweb and the REST API."""
