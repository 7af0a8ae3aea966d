"""Side-by-side measurements. Each module is a command: `python -m bench.latency`; `python -m bench` runs them all."""
