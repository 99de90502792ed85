/* Types and functions of the Metal shading language, so far as our kernels use them, for clang and the simulation.
 * Source of the names and their meaning: the Metal Shading Language Specification, version 3.1, chapters 2, 5 and 6.
 *
 * Every thread is a fiber of grid.c. Vectors are clang's; half rounds after each operation, as Metal's does. Functions that
 * exchange values between lanes are not instrumented where they read what lanes have given. */
#ifndef SIM_METAL_STDLIB_H
#define SIM_METAL_STDLIB_H

#include "sim.h"

/* ---- Address spaces: memory is one here. For lint.py, which compiles but does not run, they are told apart. ---- */

#define kernel
#define thread
#ifdef SIM_SPACES
#define device      __attribute__((address_space(1)))
#define constant    const __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#else
#define device
#define constant const
#define threadgroup
#endif
#define SIM_PLAIN  __attribute__((no_sanitize("kernel-address"))) /* neither checked nor counted */
#define SIM_INLINE __attribute__((always_inline)) inline          /* as the caller is: checked, or neither */
#define SIM_SITE   uint32_t site = (uint32_t) __builtin_LINE() << 10 | ((uint32_t) __builtin_COLUMN() & 1023)

#define FLT_MAX     __FLT_MAX__
#define FLT_MIN     __FLT_MIN__
#define FLT_EPSILON __FLT_EPSILON__
#define MAXFLOAT    __FLT_MAX__
#define HALF_MAX    65504.0h
#define INFINITY    __builtin_inff()
#define NAN         __builtin_nanf("")
#define M_PI_F      3.14159274f

/* ---- Scalars ---- */

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

template <bool, typename T = void> struct sim_if {};
template <typename T> struct sim_if<true, T> { typedef T type; };
template <typename T> struct sim_is_number {
    enum { value = 0 };
};
#define SIM_NUMBER(T)                     \
    template <> struct sim_is_number<T> { \
        enum { value = 1 };               \
    };
SIM_NUMBER(bool)
SIM_NUMBER(char)
SIM_NUMBER(signed char)
SIM_NUMBER(uchar)
SIM_NUMBER(short)
SIM_NUMBER(ushort)
SIM_NUMBER(int)
SIM_NUMBER(uint)
SIM_NUMBER(long)
SIM_NUMBER(ulong)
SIM_NUMBER(float)

#ifdef SIM_SPACES
typedef __fp16 half; /* a class has methods for one address space alone */
#else
/* Rounding a float that holds the exact sum, product or quotient of two halves correctly rounded to 24 bits gives the
 * half nearest to it: 24 >= 2 · 11 + 2. */
struct half {
    ushort bits;
    half() = default;
    template <typename T, typename = typename sim_if<sim_is_number<T>::value>::type>
    half(T x)
        : bits((ushort)__builtin_ia32_vcvtps2ph((float __attribute__((__vector_size__(16)))){(float)x, 0, 0, 0},
                                                0)[0]) {}
    SIM_INLINE operator float() const {
        return __builtin_ia32_vcvtph2ps(
            (short __attribute__((__vector_size__(16)))){(short)bits, 0, 0, 0, 0, 0, 0, 0})[0];
    }
    SIM_INLINE half operator-() const { return -(float)*this; }
    SIM_INLINE half operator+() const { return *this; }
};

template <typename T> struct sim_with_half { typedef half type; };
template <> struct sim_with_half<float> { typedef float type; };
#define SIM_HALF_OP(op)                                                              \
    SIM_INLINE half operator op(half a, half b) { return (float)a op(float) b; }     \
    template <typename T, typename = typename sim_if<sim_is_number<T>::value>::type> \
    SIM_INLINE typename sim_with_half<T>::type operator op(half a, T b) {            \
        return (float)a op(float)(typename sim_with_half<T>::type) b;                \
    }                                                                                \
    template <typename T, typename = typename sim_if<sim_is_number<T>::value>::type> \
    SIM_INLINE typename sim_with_half<T>::type operator op(T a, half b) {            \
        return (float)(typename sim_with_half<T>::type)a op(float) b;                \
    }                                                                                \
    template <typename T> SIM_INLINE half &operator op##=(half &a, T b) { return a = a op b; }
SIM_HALF_OP(+)
SIM_HALF_OP(-)
SIM_HALF_OP(*)
SIM_HALF_OP(/)
#endif
inline half operator""h(long double x) { return (float)x; }

/* ---- Vectors ---- */

#define SIM_VECTORS(T)                                  \
    typedef T T##2 __attribute__((ext_vector_type(2))); \
    typedef T T##3 __attribute__((ext_vector_type(3))); \
    typedef T T##4 __attribute__((ext_vector_type(4)));
SIM_VECTORS(char)
SIM_VECTORS(uchar)
SIM_VECTORS(short)
SIM_VECTORS(ushort)
SIM_VECTORS(int)
SIM_VECTORS(uint)
SIM_VECTORS(long)
SIM_VECTORS(ulong)
SIM_VECTORS(float)

#ifdef SIM_SPACES
SIM_VECTORS(half)
#else
template <int N> struct alignas(N == 2 ? 4 : 8) sim_halves;
template <> struct alignas(4) sim_halves<2> {
    half x, y;
    half &operator[](uint i) { return (&x)[i]; }
    const half &operator[](uint i) const { return (&x)[i]; }
};
template <> struct alignas(8) sim_halves<4> {
    half x, y, z, w;
    half &operator[](uint i) { return (&x)[i]; }
    const half &operator[](uint i) const { return (&x)[i]; }
};
typedef sim_halves<2> half2;
typedef sim_halves<4> half4;
#define SIM_HALVES_OP(op)                                                                 \
    template <int N> inline sim_halves<N> operator op(sim_halves<N> a, sim_halves<N> b) { \
        for (uint i = 0; i < N; i++) a[i] = a[i] op b[i];                                 \
        return a;                                                                         \
    }                                                                                     \
    template <int N> inline sim_halves<N> operator op(sim_halves<N> a, half b) {          \
        for (uint i = 0; i < N; i++) a[i] = a[i] op b;                                    \
        return a;                                                                         \
    }                                                                                     \
    template <int N> inline sim_halves<N> operator op(half a, sim_halves<N> b) {          \
        for (uint i = 0; i < N; i++) b[i] = a op b[i];                                    \
        return b;                                                                         \
    }                                                                                     \
    template <int N, typename T> inline sim_halves<N> &operator op##=(sim_halves<N> &a, T b) { return a = a op b; }
SIM_HALVES_OP(+)
SIM_HALVES_OP(-)
SIM_HALVES_OP(*)
SIM_HALVES_OP(/)
#endif

/* How many components, and of what. */
template <typename V> struct sim_vector {
    typedef V element;
    enum { COUNT = 1 };
};
#define SIM_VECTOR(T, N)                  \
    template <> struct sim_vector<T##N> { \
        typedef T element;                \
        enum { COUNT = N };               \
    };
#define SIM_VECTOR_ALL(T) SIM_VECTOR(T, 2) SIM_VECTOR(T, 3) SIM_VECTOR(T, 4)
SIM_VECTOR_ALL(char)
SIM_VECTOR_ALL(uchar)
SIM_VECTOR_ALL(short)
SIM_VECTOR_ALL(ushort)
SIM_VECTOR_ALL(int)
SIM_VECTOR_ALL(uint)
SIM_VECTOR_ALL(long)
SIM_VECTOR_ALL(ulong)
SIM_VECTOR_ALL(float)
SIM_VECTOR(half, 2)
SIM_VECTOR(half, 4)

template <typename V> inline void sim_fill(V &, uint) {}
template <typename V, typename A, typename... Rest> inline void sim_fill(V &v, uint at, A a, Rest... rest) {
    typedef typename sim_vector<V>::element element;
    if constexpr (sim_vector<A>::COUNT == 1)
        v[at] = (element)a;
    else
        for (uint i = 0; i < sim_vector<A>::COUNT; i++) v[at + i] = (element)a[i];
    sim_fill(v, at + sim_vector<A>::COUNT, rest...);
}
/* V(a, b, …): the components of all arguments one behind the other; of one scalar, that scalar throughout. */
template <typename V, typename... A> inline V sim_make(A... a) {
    enum { GIVEN = (sim_vector<A>::COUNT + ... + 0), COUNT = sim_vector<V>::COUNT };
    static_assert(GIVEN == COUNT || (sizeof...(a) <= 1 && GIVEN <= 1), "a vector's components");
    V v;
    if constexpr (GIVEN == COUNT) {
        sim_fill(v, 0, a...);
    } else {
        const typename sim_vector<V>::element all((typename sim_vector<V>::element)(a + ... + 0));
        for (uint i = 0; i < COUNT; i++) v[i] = all;
    }
    return v;
}
#define char2(...)   sim_make<char2>(__VA_ARGS__)
#define char4(...)   sim_make<char4>(__VA_ARGS__)
#define uchar2(...)  sim_make<uchar2>(__VA_ARGS__)
#define uchar4(...)  sim_make<uchar4>(__VA_ARGS__)
#define short2(...)  sim_make<short2>(__VA_ARGS__)
#define short4(...)  sim_make<short4>(__VA_ARGS__)
#define ushort2(...) sim_make<ushort2>(__VA_ARGS__)
#define ushort4(...) sim_make<ushort4>(__VA_ARGS__)
#define int2(...)    sim_make<int2>(__VA_ARGS__)
#define int3(...)    sim_make<int3>(__VA_ARGS__)
#define int4(...)    sim_make<int4>(__VA_ARGS__)
#define uint2(...)   sim_make<uint2>(__VA_ARGS__)
#define uint3(...)   sim_make<uint3>(__VA_ARGS__)
#define uint4(...)   sim_make<uint4>(__VA_ARGS__)
#define ulong2(...)  sim_make<ulong2>(__VA_ARGS__)
#define float2(...)  sim_make<float2>(__VA_ARGS__)
#define float3(...)  sim_make<float3>(__VA_ARGS__)
#define float4(...)  sim_make<float4>(__VA_ARGS__)
#define half2(...)   sim_make<half2>(__VA_ARGS__)
#define half4(...)   sim_make<half4>(__VA_ARGS__)

/* A position or size as the parameter that takes it. */
template <typename V> SIM_PLAIN inline V sim_position(const uint32_t *of) {
    V v;
    if constexpr (sim_vector<V>::COUNT == 1)
        v = (V)of[0];
    else
        for (uint i = 0; i < sim_vector<V>::COUNT; i++) v[i] = (typename sim_vector<V>::element)of[i];
    return v;
}

template <typename To, typename From> inline To as_type(From from) {
    static_assert(sizeof(To) == sizeof(From), "as_type");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

namespace metal {

/* ---- Functions of one element, applied to each of a vector ---- */

template <typename V, typename F> inline V sim_each(V v, F f) {
    if constexpr (sim_vector<V>::COUNT == 1)
        return f(v);
    else
        for (uint i = 0; i < sim_vector<V>::COUNT; i++) v[i] = f(v[i]);
    return v;
}
#define SIM_FUNCTION(name)                                                                                   \
    inline float name(float x) { return __builtin_##name##f(x); }                                            \
    inline half name(half x) { return __builtin_##name##f(x); }                                              \
    template <typename V, typename = typename sim_if<(sim_vector<V>::COUNT > 1)>::type> inline V name(V v) { \
        return sim_each(v, [](auto x) { return name(x); });                                                  \
    }
#define SIM_FUNCTIONS                                                   \
    SIM_FUNCTION(exp)                                                   \
    SIM_FUNCTION(exp2)                                                  \
    SIM_FUNCTION(log)                                                   \
    SIM_FUNCTION(log2)                                                  \
    SIM_FUNCTION(sin)                                                   \
    SIM_FUNCTION(cos)                                                   \
    SIM_FUNCTION(tanh)                                                  \
    SIM_FUNCTION(sqrt)                                                  \
    inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }   \
    inline float pow(float x, float y) { return __builtin_powf(x, y); } \
    inline float divide(float x, float y) { return x / y; }
SIM_FUNCTIONS
SIM_FUNCTION(fabs)
SIM_FUNCTION(floor)
SIM_FUNCTION(ceil)
SIM_FUNCTION(trunc)
SIM_FUNCTION(rint)
SIM_FUNCTION(round)
namespace precise {
SIM_FUNCTIONS
}
namespace fast {
SIM_FUNCTIONS
}

inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
template <typename V> inline typename sim_if<(sim_vector<V>::COUNT > 1), V>::type fma(V a, V b, V c) {
    for (uint i = 0; i < sim_vector<V>::COUNT; i++) a[i] = fma(a[i], b[i], c[i]);
    return a;
}

/* Of two types Metal takes neither: both arguments have one. */
template <typename V> inline V min(V a, V b) {
    if constexpr (sim_vector<V>::COUNT == 1)
        return b < a ? b : a;
    else
        for (uint i = 0; i < sim_vector<V>::COUNT; i++) a[i] = b[i] < a[i] ? b[i] : a[i];
    return a;
}
template <typename V> inline V max(V a, V b) {
    if constexpr (sim_vector<V>::COUNT == 1)
        return a < b ? b : a;
    else
        for (uint i = 0; i < sim_vector<V>::COUNT; i++) a[i] = a[i] < b[i] ? b[i] : a[i];
    return a;
}
/* A NaN gives way to a number. */
inline float fmin(float a, float b) { return __builtin_fminf(a, b); }
inline float fmax(float a, float b) { return __builtin_fmaxf(a, b); }
template <typename V> inline V clamp(V x, V low, V high) { return min(max(x, low), high); }
template <typename V> inline V abs(V x) {
    return sim_each(x, [](auto e) -> decltype(e) { return e < 0 ? -e : e; });
}
template <typename V> inline V select(V a, V b, bool c) { return c ? b : a; }
template <typename V> inline typename sim_vector<V>::element dot(V a, V b) {
    typename sim_vector<V>::element sum = a[0] * b[0];
    for (uint i = 1; i < sim_vector<V>::COUNT; i++) sum += a[i] * b[i];
    return sum;
}
inline bool isnan(float x) { return x != x; }
inline bool isfinite(float x) { return __builtin_isfinite(x); }

/* ---- Synchronisation ---- */

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
inline mem_flags operator|(mem_flags a, mem_flags b) { return (mem_flags)((int)a | (int)b); }

inline void threadgroup_barrier(mem_flags flags, SIM_SITE) {
    sim_threadgroup_barrier(site, (int)flags & (int)mem_flags::mem_threadgroup);
}
inline void simdgroup_barrier(mem_flags flags, SIM_SITE) {
    sim_simdgroup_barrier(site, (int)flags & (int)mem_flags::mem_threadgroup);
}

/* ---- Simdgroups ---- */

template <typename T> SIM_PLAIN inline T &sim_lane(unsigned char *of, uint32_t i) { return *(T *)(of + i * SIM_VALUE); }
template <typename T> SIM_PLAIN inline const T &sim_lane(const unsigned char *of, uint32_t i) {
    return *(const T *)(of + i * SIM_VALUE);
}

struct sim_plus {
    template <typename T> SIM_PLAIN static T of(T a, T b) { return a + b; }
};
struct sim_least {
    template <typename T> SIM_PLAIN static T of(T a, T b) { return b < a ? b : a; }
};
struct sim_most {
    template <typename T> SIM_PLAIN static T of(T a, T b) { return a < b ? b : a; }
};
struct sim_and {
    template <typename T> SIM_PLAIN static T of(T a, T b) { return a & b; }
};
struct sim_or {
    template <typename T> SIM_PLAIN static T of(T a, T b) { return a | b; }
};

/* Metal leaves the order open; this is the one of a butterfly: halves, their halves, and so on. */
template <typename T, typename Op>
SIM_PLAIN inline void sim_reduce(const unsigned char *in, unsigned char *out, uint32_t lanes, uint32_t) {
    T part[SIM_LANES];
    for (uint32_t i = 0; i < lanes; i++) part[i] = sim_lane<T>(in, i);
    for (uint32_t step = SIM_LANES / 2; step; step /= 2)
        for (uint32_t i = 0; i < step && i + step < lanes; i++) part[i] = Op::of(part[i], part[i + step]);
    for (uint32_t i = 0; i < lanes; i++) sim_lane<T>(out, i) = part[0];
}
template <typename T, typename Op, bool INCLUSIVE>
SIM_PLAIN inline void sim_prefix(const unsigned char *in, unsigned char *out, uint32_t lanes, uint32_t) {
    T sum = sim_lane<T>(in, 0);
    if (!INCLUSIVE) sim_lane<T>(out, 0) = T(0);
    for (uint32_t i = !INCLUSIVE; i < lanes; i++) {
        if (INCLUSIVE && i) sum = Op::of(sum, sim_lane<T>(in, i));
        sim_lane<T>(out, i) = sum;
        if (!INCLUSIVE) sum = Op::of(sum, sim_lane<T>(in, i));
    }
}

/* A lane asks for another's value. Of a lane that there is not Metal says nothing; here it is all ones, NaN in a float. */
template <typename T> struct sim_asked {
    T value;
    uint32_t lane;
};
template <typename T>
SIM_PLAIN inline void sim_fetch(const unsigned char *in, unsigned char *out, uint32_t lanes, uint32_t) {
    for (uint32_t i = 0; i < lanes; i++) {
        uint32_t from = sim_lane<sim_asked<T>>(in, i).lane;
        if (from < lanes)
            sim_lane<T>(out, i) = sim_lane<sim_asked<T>>(in, from).value;
        else
            for (size_t b = 0; b < sizeof(T); b++) (out + i * SIM_VALUE)[b] = 0xFF;
    }
}
template <typename T> inline T sim_ask(T value, uint32_t lane, uint32_t site) {
    static_assert(sizeof(sim_asked<T>) <= SIM_VALUE, "a value of this type is too large for a simdgroup function");
    sim_asked<T> asked = {value, lane};
    T got;
    sim_simdgroup(site, &asked, sizeof asked, &got, sizeof got, sim_fetch<T>, 0);
    return got;
}
template <typename T> inline T sim_all(T x, uint32_t site, sim_combine *combine) {
    T result;
    sim_simdgroup(site, &x, sizeof x, &result, sizeof result, combine, 0);
    return result;
}
template <typename T> inline T simd_sum(T x, SIM_SITE) { return sim_all(x, site, sim_reduce<T, sim_plus>); }
template <typename T> inline T simd_min(T x, SIM_SITE) { return sim_all(x, site, sim_reduce<T, sim_least>); }
template <typename T> inline T simd_max(T x, SIM_SITE) { return sim_all(x, site, sim_reduce<T, sim_most>); }
inline bool simd_all(bool x, SIM_SITE) { return sim_all((uint)x, site, sim_reduce<uint, sim_and>); }
inline bool simd_any(bool x, SIM_SITE) { return sim_all((uint)x, site, sim_reduce<uint, sim_or>); }
template <typename T> inline T simd_prefix_inclusive_sum(T x, SIM_SITE) {
    return sim_all(x, site, sim_prefix<T, sim_plus, true>);
}
template <typename T> inline T simd_prefix_exclusive_sum(T x, SIM_SITE) {
    return sim_all(x, site, sim_prefix<T, sim_plus, false>);
}
template <typename T> inline T simd_shuffle(T x, ushort lane, SIM_SITE) { return sim_ask(x, lane, site); }
template <typename T> inline T simd_broadcast(T x, ushort lane, SIM_SITE) { return sim_ask(x, lane, site); }
template <typename T> inline T simd_shuffle_xor(T x, ushort mask, SIM_SITE) {
    return sim_ask(x, sim_lane_index() ^ mask, site);
}
template <typename T> inline T simd_shuffle_down(T x, ushort by, SIM_SITE) {
    return sim_ask(x, sim_lane_index() + by, site);
}

/* ---- Matrices of a simdgroup: each lane has two neighbours of a row. Which, Metal does not say. ---- */

template <typename T, int COLS, int ROWS> struct simdgroup_matrix {
    static_assert(COLS == 8 && ROWS == 8, "Metal has 8 by 8");
    T sim_part[2];
    simdgroup_matrix() = default;
    explicit simdgroup_matrix(T diagonal) {
        uint32_t lane = sim_lane_index();
        for (uint32_t i = 0; i < 2; i++) sim_part[i] = lane / 4 == lane % 4 * 2 + i ? diagonal : T(0);
    }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;

template <typename T, int COLS, int ROWS> inline simdgroup_matrix<T, COLS, ROWS> make_filled_simdgroup_matrix(T x) {
    simdgroup_matrix<T, COLS, ROWS> m;
    m.sim_part[0] = m.sim_part[1] = x;
    return m;
}

/* Element (row, col) stands at (row + origin.y) · stride + col + origin.x; transposed, row and col change places. */
inline ulong sim_element(uint i, ulong stride, ulong2 origin, bool transpose) {
    uint lane = sim_lane_index(), row = lane / 4, col = lane % 4 * 2 + i;
    return transpose ? (col + origin.y) * stride + row + origin.x : (row + origin.y) * stride + col + origin.x;
}
template <typename T, typename P>
inline void simdgroup_load(simdgroup_matrix<T, 8, 8> &m, P from, ulong stride = 8, ulong2 origin = ulong2(0, 0),
                           bool transpose = false) {
    static_assert(sizeof(T) == sizeof *from, "a matrix is loaded from its own type");
    for (uint i = 0; i < 2; i++) m.sim_part[i] = from[sim_element(i, stride, origin, transpose)];
}
template <typename T, typename P>
inline void simdgroup_store(simdgroup_matrix<T, 8, 8> m, P to, ulong stride = 8, ulong2 origin = ulong2(0, 0),
                            bool transpose = false) {
    static_assert(sizeof(T) == sizeof *to, "a matrix is stored as its own type");
    for (uint i = 0; i < 2; i++) to[sim_element(i, stride, origin, transpose)] = m.sim_part[i];
}

template <typename D, typename A, typename B, typename C> struct sim_operands {
    A a[2];
    B b[2];
    C c[2];
};
/* Sums in fp32, then rounded to the result's type. */
template <typename D, typename A, typename B, typename C>
SIM_PLAIN inline void sim_multiply(const unsigned char *in, unsigned char *out, uint32_t, uint32_t) {
    typedef float row __attribute__((ext_vector_type(8)));
    row a[8], b[8], c[8];
    for (uint32_t i = 0; i < SIM_LANES; i++)
        for (uint32_t j = 0; j < 2; j++) {
            const sim_operands<D, A, B, C> &lane = sim_lane<sim_operands<D, A, B, C>>(in, i);
            a[i / 4][i % 4 * 2 + j] = lane.a[j];
            b[i / 4][i % 4 * 2 + j] = lane.b[j];
            c[i / 4][i % 4 * 2 + j] = lane.c[j];
        }
    for (uint32_t r = 0; r < 8; r++)
        for (uint32_t k = 0; k < 8; k++) c[r] += a[r][k] * b[k];
    for (uint32_t i = 0; i < SIM_LANES; i++)
        for (uint32_t j = 0; j < 2; j++) ((D *)(out + i * SIM_VALUE))[j] = c[i / 4][i % 4 * 2 + j];
}
template <typename D, typename A, typename B, typename C>
inline void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8> &d, simdgroup_matrix<A, 8, 8> a,
                                          simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c, SIM_SITE) {
    sim_operands<D, A, B, C> all = {
        {a.sim_part[0], a.sim_part[1]}, {b.sim_part[0], b.sim_part[1]}, {c.sim_part[0], c.sim_part[1]}};
    sim_simdgroup(site, &all, sizeof all, d.sim_part, sizeof d.sim_part, sim_multiply<D, A, B, C>, 0);
}
template <typename D, typename A, typename B>
inline void simdgroup_multiply(simdgroup_matrix<D, 8, 8> &d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
                               SIM_SITE) {
    simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0)), site);
}

} // namespace metal

#endif
