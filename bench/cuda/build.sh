#!/bin/bash
# bench/cuda/build.sh [folder]: builds the check and bench of the GPU's attention into the folder (default
# build/cuda). Needs nvcc and a C compiler. ARCH: sm_90a by default.
set -e
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root/build/cuda} arch=${ARCH:-90a}
cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
mkdir -p "$out"
include="-I $root/src -I $root/include -I $root/tests -I $cuda/include"
flags="-std=c++17 -O3 -gencode=arch=compute_$arch,code=sm_$arch $include"
for file in src/backend/cuda/attention_mma src/backend/cuda/attention_sm90 bench/cuda/fill; do
    object=$out/$(basename $file).o
    if [ ! "$object" -nt "$root/$file.cu" ] || [ -n "$FORCE" ]; then
        nvcc $flags $DEFINES ${PTXAS:+-Xptxas -v} -c "$root/$file.cu" -o "$object"
    fi
done
cc -std=gnu11 -O2 $DEFINES -Wall -Wextra $include "$root/bench/cuda/attention.c" "$root/src/backend/cuda/attention_schedule.c" \
    "$root"/src/cascade/cascade_plan.c "$root"/src/cascade/cascade_plan_check.c "$root"/src/base/mem.c \
    "$root"/src/base/status.c "$out/attention_mma.o" "$out/attention_sm90.o" "$out/fill.o" -o "$out/attention" \
    "$(find "$cuda/" -name libcudart_static.a | head -1)" -lstdc++ -lm -ldl -lrt -lpthread
