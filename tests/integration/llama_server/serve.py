"""Writes a tiny model of random weights, and serves it with llama.cpp's own HTTP server until
standard input ends. Runs in an environment of requirements/peer-server.txt, with nothing of ours.

    python serve.py PORT MODEL_FILE      PORT 0: any; the first line of output is the URL
"""

from __future__ import annotations

import os
import sys

import numpy as np
import xllamacpp
from gguf import GGUFWriter, TokenType

WIDTH, HEADS, INNER = 64, 4, 128
CONTEXT, CALLS = 32_768, 2
"""Tokens of one call, and how many at once."""
BYTES = [b"<0x%02X>" % value for value in range(256)]
LETTERS = [*(bytes([value]) for value in range(ord("a"), ord("z") + 1)), "\u2581".encode()]


def write_model(path: str) -> None:
    """One layer of Llama's architecture; its tokens are bytes."""
    model = GGUFWriter(path, "llama")
    model.add_context_length(CONTEXT)
    model.add_embedding_length(WIDTH)
    model.add_block_count(1)
    model.add_feed_forward_length(INNER)
    model.add_head_count(HEADS)
    model.add_head_count_kv(HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_rope_dimension_count(WIDTH // HEADS)
    add_tokens(model)
    add_weights(model)
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


def add_tokens(model: GGUFWriter) -> None:
    tokens = [b"<unk>", b"<s>", b"</s>", *BYTES, *LETTERS]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    types += [TokenType.BYTE] * len(BYTES) + [TokenType.NORMAL] * len(LETTERS)
    model.add_vocab_size(len(tokens))
    model.add_tokenizer_model("llama")
    model.add_token_list(tokens)
    model.add_token_scores([0.0] * len(tokens))
    model.add_token_types(types)
    model.add_unk_token_id(0)
    model.add_bos_token_id(1)
    model.add_eos_token_id(2)


def add_weights(model: GGUFWriter) -> None:
    random = np.random.default_rng(1)
    vocabulary = 3 + len(BYTES) + len(LETTERS)
    square = {f"blk.0.attn_{name}.weight": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    shapes = {
        "token_embd.weight": (vocabulary, WIDTH),
        "output.weight": (vocabulary, WIDTH),
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
        **square,
    }
    for name, shape in shapes.items():
        model.add_tensor(name, (random.standard_normal(shape) * 0.1).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        model.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))


def serve(path: str, port: int) -> xllamacpp.Server:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.model_alias = {"tiny"}
    parameters.port = port
    parameters.n_ctx = CONTEXT * CALLS
    parameters.n_parallel = CALLS
    parameters.n_predict = 4096  # of a call that sets no limit: random weights never come to an end
    parameters.n_threads_http = 64  # each connection that is kept for the next call takes one
    parameters.n_gpu_layers = 0
    parameters.cpuparams.n_threads = 1
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(parameters)


if __name__ == "__main__":
    write_model(sys.argv[2])
    server = serve(sys.argv[2], int(sys.argv[1]))
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # at once: it waits for connections that are kept open otherwise
