"""The network: Qwen3 with parameter names as Hugging Face has them, and the mask of sequences.py.

On a GPU attention is FlexAttention over a block mask, so that packed rows cost what their samples
cost; elsewhere (smoke tests) it is SDPA with the mask written out.
"""

import json
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention


@dataclass(frozen=True)
class Config:
    vocab_size: int = 3072
    hidden_size: int = 256
    intermediate_size: int = 768
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 32
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 4096

    def save(self, path, eos_token_id, pad_token_id):
        fields = dict(architectures=["Qwen3ForCausalLM"], model_type="qwen3", **asdict(self), hidden_act="silu",
                      attention_bias=False, attention_dropout=0.0, bos_token_id=None, eos_token_id=eos_token_id,
                      pad_token_id=pad_token_id, initializer_range=0.02, rope_scaling=None, sliding_window=None,
                      use_sliding_window=False, tie_word_embeddings=True, torch_dtype="bfloat16", use_cache=True)
        path.write_text(json.dumps(fields, indent=2) + "\n")


class Norm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight).to(x.dtype)


def rotate(x, cos, sin):
    """RoPE on x (rows, heads, tokens, head_dim); the halves of a head are the pairs."""
    low, high = x.chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width, dim = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(width, config.num_attention_heads * dim, bias=False)
        self.k_proj = nn.Linear(width, config.num_key_value_heads * dim, bias=False)
        self.v_proj = nn.Linear(width, config.num_key_value_heads * dim, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * dim, width, bias=False)
        self.q_norm = Norm(dim, config.rms_norm_eps)
        self.k_norm = Norm(dim, config.rms_norm_eps)

    def forward(self, x, cos, sin, mask):
        rows, tokens, _ = x.shape
        q, k, v = (p(x).view(rows, tokens, -1, self.config.head_dim).transpose(1, 2)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        if isinstance(mask, BlockMask):
            out = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return self.o_proj(out.transpose(1, 2).reshape(rows, tokens, -1))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Mlp(config)
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class CentoTiny(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * config.num_hidden_layers) ** 0.5 if deep else 0.02)
        steps = torch.arange(0, config.head_dim, 2) / config.head_dim
        self.register_buffer("frequencies", config.rope_theta ** -steps, persistent=False)

    def compile_layers(self):
        for layer in self.model.layers:  # one compilation serves all six
            layer.compile()

    def hidden(self, tokens, positions, mask):
        angles = positions[:, None, :, None] * self.frequencies
        cos, sin = angles.cos(), angles.sin()
        x = self.model.embed_tokens(tokens)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask)
        return self.model.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.model.embed_tokens.weight)

    def weights(self):
        """The released tensors: bf16, Hugging Face names, the head tied to the embedding."""
        return {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in self.state_dict().items()}


class Masks:
    """Turns the mask numbers of a batch into what attention takes. The buffers live as long as this
    object, so that compiled code sees one mask function for the whole run."""

    def __init__(self, rows, length, device):
        self.device, self.shape = torch.device(device), (rows, length)
        self.tail, self.head_start, self.head_end = (
            torch.zeros(self.shape, dtype=torch.int32, device=device) for _ in range(3))
        tail, head_start, head_end = self.tail, self.head_start, self.head_end

        def visible(row, head, q, k):
            return (k <= q) & ((k >= tail[row, q]) | ((k >= head_start[row, q]) & (k < head_end[row, q])))

        self.visible = visible
        self.create = torch.compile(create_block_mask) if self.device.type == "cuda" else None

    def __call__(self, batch):
        for name in ("tail", "head_start", "head_end"):
            getattr(self, name).copy_(batch[name], non_blocking=True)
        rows, length = self.shape
        if self.create:
            return self.create(self.visible, rows, None, length, length, device=self.device)
        q = torch.arange(length, device=self.device)[:, None]
        k = torch.arange(length, device=self.device)[None, :]
        tail, start, end = (t[:, :, None] for t in (self.tail, self.head_start, self.head_end))
        return ((k <= q) & ((k >= tail) | ((k >= start) & (k < end))))[:, None]
