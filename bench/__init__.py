"""Speed and latency of the real pipeline, beside two references, in one run on the same events: `make bench`."""
