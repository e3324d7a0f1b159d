#!/usr/bin/env python3
"""FlashInfer's kernels for flashinfer_attention.py, compiled where there is no GPU, for a machine with no network.

    pip install --no-deps --target wheel flashinfer-python     # its headers and Python files; no dependency of it
    pip install torch apache-tvm-ffi jinja2 filelock ninja packaging nvidia-ml-py requests tabulate tqdm click einops
    python3 bench/peers/flashinfer_ahead.py wheel out [--python 3.12]
    tar cJ out                                                 # about 3 MB: `PYTHONPATH=out python3 …` over there

Writes to `out`: the Python modules that the wrappers import, the templates that they read, and for each kernel
module a library where FlashInfer looks first (data/aot). Modules: batch prefill fa2 (which the tensor-core decode
uses) and fa3, batch decode, BatchAttention, merge states; bf16, heads of 128, for sm_90a. Only paged kernels without a
mask and with the causal one are compiled; the others say cudaErrorNotSupported. Takes about 20 minutes on 2 cores.
apache-tvm-ffi for the other machine's Python (--python, its libraries need no PyTorch) comes from pip.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

SOURCES = ["batch_prefill*", "batch_attention*", "batch_decode*", "cascade.cu", "flashinfer_cascade_binding.cu"]


def import_wrappers(package):
    """The modules behind the wrappers, without flashinfer/__init__.py, which imports everything."""
    bare = types.ModuleType("flashinfer")
    bare.__path__ = [str(package)]
    sys.modules["flashinfer"] = bare
    os.environ["TVM_FFI_DISABLE_TORCH_C_DLPACK"] = "1"
    import flashinfer.attention  # noqa: F401
    import flashinfer.cascade  # noqa: F401
    import flashinfer.decode  # noqa: F401
    import flashinfer.prefill  # noqa: F401


def make_specs():
    import torch
    from flashinfer.jit.attention import modules
    from flashinfer.jit.cascade import gen_cascade_module

    types_of = (torch.bfloat16, torch.bfloat16, torch.bfloat16, torch.int32, 128, 128, 0)
    return [
        modules._gen_batch_prefill_primary_module("fa2", *types_of, False, False, False),
        modules.gen_batch_prefill_module("fa3", *types_of, False, False, False),
        modules._gen_batch_attention_primary_module(*types_of, False, False),
        modules.gen_batch_decode_module(*types_of, False, False),
        gen_cascade_module(),
    ]


def leave_out(spec):
    """Instantiations that are not wanted become definitions that refuse, all in the first such file."""
    stand_in, head = [], None
    unwanted = [path for path in spec.sources if re.search(r"kernel_mask_[0-3]", path.stem)]
    unwanted = [path for path in unwanted if "paged" not in path.stem or path.stem[-1] not in "01"]
    for path in unwanted:
        text = path.read_text()
        begin, end = text.index("namespace flashinfer {"), text.rindex("};  // namespace")
        head = head or text[:begin]
        body = text[begin + len("namespace flashinfer {") : end]
        custom = "true" if "MaskMode::kCustom == MaskMode::kCustom" in body else "false"
        body = re.sub(r"constexpr auto use_custom_mask.*\n", "", body).replace("use_custom_mask", custom)
        body = body.replace("template cudaError_t", "template <> cudaError_t")
        stand_in.append(body.replace("stream);", "stream) { return cudaErrorNotSupported; }"))
        path.write_text("namespace flashinfer {}\n")
    if unwanted:
        unwanted[0].write_text(head + "namespace flashinfer {\n" + "\n".join(stand_in) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path, help="the folder that holds flashinfer/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    options = parser.parse_args()
    package = (options.wheel / "flashinfer").resolve()
    work = tempfile.mkdtemp(prefix="flashinfer")
    os.environ.update(FLASHINFER_CUDA_ARCH_LIST="9.0a", FLASHINFER_WORKSPACE_BASE=work)
    import_wrappers(package)
    target = options.out / "flashinfer"
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "/")
        if name.startswith("flashinfer.") and path.is_relative_to(package):
            copy = target / path.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    for name in ["version.py", "_build_meta.py"]:
        shutil.copy(package / name, target / name)
    (target / "__init__.py").write_text("")
    sources = target / "data" / "csrc"
    sources.mkdir(parents=True, exist_ok=True)
    for pattern in SOURCES:
        for path in (package / "data" / "csrc").glob(pattern):
            shutil.copy(path, sources)
    for spec in make_specs():
        leave_out(spec)
        print(f"compiling {spec.name}", flush=True)
        spec.build(verbose=False)
        library = target / "data" / "aot" / spec.name / f"{spec.name}.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(spec.jit_library_path, library)
        subprocess.run(["strip", library], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]
    pip += [str(options.out), "--python-version", options.python, "apache-tvm-ffi"]
    subprocess.run(pip, check=True)
    for unneeded in ["include", "src", "3rdparty", "share", "cython"]:
        shutil.rmtree(options.out / "tvm_ffi" / unneeded, ignore_errors=True)
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
