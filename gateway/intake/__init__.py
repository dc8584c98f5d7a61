"""Taking in an instance: from the bytes of a DICOM file as they arrive to its row and its stored form."""
