"""Measures Isthmus beside Orthanc and beside what this machine can do at all; writes docs/performance.md.

`make bench` runs it in full, `make bench-quick` in a few minutes. One module per table (`store`, `read`), the parts
that they are made of beside them: what is stored (`phantom`), who serves (`servers`, `limits`), who asks (`load`,
`senders`, `cstore`), what it cost (`processes`) and how it is told (`report`).
"""
