"""Measures Isthmus beside Orthanc and beside what this machine can do at all; writes docs/performance.md.

`make bench` runs it in full, `make bench-quick` in a few minutes. One program per table: `store`, `read`, `growth`,
`viewers`, `adversity` (with `flood`), `start`, `memory`. The parts that they are made of stand beside them: what is
stored (`phantom`, `clones`), who serves (`servers`, `limits`, `objectstore`), who asks (`load`, `sender`, `storescu`,
`crowd`), what it cost (`processes`), what is kept of it (`table`, `kept`) and how it is told (`targets`, `plots`,
`report`).
"""
