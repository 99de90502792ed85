/* Which kernels this machine runs. */
#include "kernels/cpu/cpu.h"

#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t saved_state(void) { /* XCR0: which registers the system saves */
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* The tiles' registers are the process's only once it has asked for them (Linux 5.16 and later). */
static bool tiles_granted(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM of asm/prctl.h; the XCR0 bit */
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

/* Bits: Intel's Software Developer's Manual, volume 2, CPUID. */
unsigned fe_cpu_probe(void) {
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, F16C = 1 << 29 };                      /* leaf 1, ecx */
    enum { AVX2 = 1 << 5, BMI2 = 1 << 8, F = 1 << 16, DQ = 1 << 17, BW = 1 << 30 }; /* leaf 7.0, ebx */
    enum { VNNI = 1 << 11 };                                                        /* leaf 7.0, ecx */
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, AMX = AMX_BF16 | AMX_TILE };     /* leaf 7.0, edx */
    enum { AVXVNNI = 1 << 4, AVX512_BF16 = 1 << 5 };                                /* leaf 7.1, eax */
    const uint64_t tile_state = UINT64_C(3) << 17;
    const uint32_t VL = UINT32_C(1) << 31; /* leaf 7.0, ebx */
    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (FMA | OSXSAVE | F16C)) != (FMA | OSXSAVE | F16C)) return 0;
    uint64_t state = saved_state();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (state & 6) != 6) return 0;
    uint32_t most = a; /* the last sub-leaf */
    if ((b & (AVX2 | BMI2)) != (AVX2 | BMI2)) return 0;
    flags |= FE_CPU_AVX2;
    const uint32_t bundle = (uint32_t)F | DQ | BW | VL;
    if ((b & bundle) == bundle && (c & VNNI) && (state & 0xE6) == 0xE6) flags |= FE_CPU_AVX512;
    bool tiles = (d & AMX) == AMX && (state & tile_state) == tile_state;
    if (most < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return flags;
    if (a & AVXVNNI) flags |= FE_CPU_AVXVNNI;
    if (tiles && (flags & FE_CPU_AVX512) && (a & AVX512_BF16) && tiles_granted()) flags |= FE_CPU_AMX;
    return flags;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

unsigned fe_cpu_probe(void) {
    enum { DOT_PRODUCT = 1 << 20, I8MM = 1 << 13 }; /* HWCAP_ASIMDDP, HWCAP2_I8MM of the kernel's asm/hwcap.h */
    if (!(getauxval(AT_HWCAP) & DOT_PRODUCT)) return 0;
    return getauxval(AT_HWCAP2) & I8MM ? FE_CPU_NEON | FE_CPU_I8MM : FE_CPU_NEON;
}

#elif defined(__aarch64__) && defined(__APPLE__) /* compiled and run by nobody yet */

#include <sys/sysctl.h>

static bool has(const char *feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, NULL, 0) == 0 && value != 0;
}

unsigned fe_cpu_probe(void) {
    if (!has("hw.optional.arm.FEAT_DotProd")) return 0;
    return has("hw.optional.arm.FEAT_I8MM") ? FE_CPU_NEON | FE_CPU_I8MM : FE_CPU_NEON;
}

#else

unsigned fe_cpu_probe(void) { return 0; }

#endif

/* Ascending: a cap allows its own row and those before it. */
static const struct {
    const char *name;
    unsigned flag;
} tiers[] = {
    {"c", 0},
#if defined(__x86_64__)
    {"avx2", FE_CPU_AVX2},
    {"avxvnni", FE_CPU_AVXVNNI},
    {"avx512", FE_CPU_AVX512},
    {"amx", FE_CPU_AMX},
#elif defined(__aarch64__)
    {"neon", FE_CPU_NEON},
    {"i8mm", FE_CPU_I8MM},
#endif
};
enum { TIERS = sizeof tiers / sizeof tiers[0] };

bool fe_cpu_cap(unsigned *flags, const char *cap) {
    unsigned allowed = 0;
    for (size_t i = 0; i < TIERS; i++) {
        allowed |= tiers[i].flag;
        if (strcmp(tiers[i].name, cap) != 0) continue;
        *flags &= allowed;
        return true;
    }
    return false;
}

const char *fe_cpu_flags_name(unsigned flags) {
    const char *name = tiers[0].name;
    for (size_t i = 1; i < TIERS; i++)
        if (flags & tiers[i].flag) name = tiers[i].name;
    return name;
}

void fe_cpu_table_init(fe_cpu_table *table, unsigned flags) {
    memset(table, 0, sizeof *table);
    table->name = fe_cpu_flags_name(flags);
    fe_matmul_init_c(table->matmul);
    fe_vector_init_c(&table->vector);
    table->multiply = fe_multiply_c;
#if defined(__x86_64__)
    if (!(flags & FE_CPU_AVX2)) return;
    fe_matmul_init_avx2(table->matmul);
    fe_vector_init_avx2(&table->vector);
    table->multiply = fe_multiply_avx2;
    if (flags & FE_CPU_AVXVNNI) {
        fe_matmul_init_avxvnni(table->matmul);
        table->multiply = fe_multiply_avxvnni;
    }
    if (!(flags & FE_CPU_AVX512)) return;
    fe_matmul_init_avx512(table->matmul);
    fe_vector_init_avx512(&table->vector);
    table->multiply = fe_multiply_avx512;
    if (!(flags & FE_CPU_AMX)) return;
    fe_matmul_init_amx(table->matmul);
    table->multiply = fe_multiply_amx;
#elif defined(__aarch64__)
    if (!(flags & FE_CPU_NEON)) return;
    fe_matmul_init_neon(table->matmul);
    fe_vector_init_neon(&table->vector);
    table->multiply = fe_multiply_neon;
    if (!(flags & FE_CPU_I8MM)) return;
    fe_matmul_init_i8mm(table->matmul);
    table->multiply = fe_multiply_i8mm;
#endif
}
