"""A GGUF model behind an OpenAI-compatible server on loopback: a process of its own, `python -m fieldtune.llm.serve`.

Apart from the caller's process, because llama.cpp ends the whole process over a damaged file, and because its threads
would spin beside those of torch. It prints one JSON line with its address and ends when its standard input does, which
the system closes even if the caller is killed.
"""

from __future__ import annotations

import json
import os
import sys

KEY_VARIABLE = "FIELDTUNE_LOCAL_LLM_KEY"


def main(path: str, context: int, threads: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = context
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [os.environ.pop(KEY_VARIABLE)]
    params.ui = params.endpoint_slots = params.warmup = False
    params.verbosity = -1
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        sys.exit(str(error))
    sys.stdout.write(json.dumps({"address": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    # Its own threads would wait for requests that nobody is interested in any more.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
