/* Which kernels this CPU can run, and how many cores are ours. Callable from any thread. */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cpu.h"

#define CORES_MAX 4096

static bool kernels_supported(const cpu_kernels *kernels) {
    if (kernels == NULL)
        return false;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (kernels == kernels_avx2)
        return avx2;
    if (kernels == kernels_avx512)
        return avx2 && avx512;
    if (kernels == kernels_avx512bf16)
        return avx2 && avx512 && __builtin_cpu_supports("avx512bf16");
#endif
    return kernels == kernels_portable;
}

cento_status isa_choose(const char *name, const cpu_kernels **kernels, cento_error *error) {
    const cpu_kernels *const best_first[] = {kernels_avx512bf16, kernels_avx512, kernels_avx2,
                                             kernels_portable};
    char names[128] = "";
    for (size_t i = 0; i < sizeof best_first / sizeof *best_first; i++) {
        if (!kernels_supported(best_first[i]))
            continue;
        if (name == NULL || strcmp(name, best_first[i]->name) == 0) {
            *kernels = best_first[i];
            return CENTO_OK;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, " %s", best_first[i]->name);
    }
    return error_set(error, CENTO_UNSUPPORTED, "no kernels '%s' for this CPU; there are:%s", name, names);
}

static long topology_value(int processor, const char *name) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", processor, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return -1;
    long value = -1;
    if (fscanf(file, "%ld", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

/* CPUs that a container's quota is worth, rounded up; 0: no quota. */
static int quota_cores(void) {
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (file == NULL)
        return 0;
    long quota = 0, period = 0;
    int found = fscanf(file, "%ld %ld", &quota, &period);
    fclose(file);
    return found == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int isa_core_count(void) {
    cpu_set_t allowed;
    int cores = 0;
    long seen[CORES_MAX];
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return 1;
    for (int processor = 0; processor < CPU_SETSIZE && cores < CORES_MAX; processor++) {
        if (!CPU_ISSET(processor, &allowed))
            continue;
        long core = topology_value(processor, "core_id");
        long package = topology_value(processor, "physical_package_id");
        long id = core < 0 ? -1 - (long)processor : (package < 0 ? 0 : package) * 65536 + core;
        int i = 0;
        while (i < cores && seen[i] != id)
            i++;
        if (i == cores)
            seen[cores++] = id;
    }
    int quota = quota_cores();
    if (quota > 0 && quota < cores)
        cores = quota;
    return cores > 0 ? cores : 1;
}
