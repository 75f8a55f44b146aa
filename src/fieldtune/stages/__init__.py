"""One module per stage: `run` fetches its inputs and does it, `depends` says what decides its result."""
