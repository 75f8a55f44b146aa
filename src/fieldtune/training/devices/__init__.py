"""One training on several devices: a process for each, led by the first."""
