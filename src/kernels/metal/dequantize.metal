/* Weights to half: one thread a block of the type (of floats: 32), equal to the reference's numbers rounded to half. */
template <typename T> static void dequantize_block(device const uchar *w, device half *out, uint block) {
    for (uint v = 0; v < T::UNITS; v++) {
        unit32 u;
        T::unit(w + ulong(block) * T::BYTES, v, u);
        uint first = block * T::BLOCK + T::start(v);
        for (uint i = 0; i < 16; i++) {
            out[first + i] = half(u.scale.x * u.q[i] + u.offset.x);
            out[first + T::GAP + i] = half(u.scale.y * u.q[16 + i] + u.offset.y);
        }
    }
}

/* The part of a block that is left at a row's end, and a block at an odd byte. */
template <typename T> static void dequantize_plain(device const uchar *w, device half *out, uint first, uint end) {
    for (uint i = first; i < end; i++) out[i] = half(T::weight(w, i));
}

#define DEQUANTIZE(name, T)                                                                                  \
    kernel void dequantize_##name##_f16(constant fe_metal_dequantize &p [[buffer(0)]],                       \
                                        device const uchar *w [[buffer(1)]], device half *out [[buffer(2)]], \
                                        uint3 at [[thread_position_in_grid]]) {                              \
        if (at.x >= p.blocks) return;                                                                        \
        w += at.y * p.w_stride;                                                                              \
        out += ulong(at.y) * p.out_stride;                                                                   \
        uint first = at.x * T::BLOCK, end = first + T::BLOCK;                                                \
        if (p.plain || end > p.cols)                                                                         \
            dequantize_plain<T>(w, out, first, min(end, p.cols));                                            \
        else                                                                                                 \
            dequantize_block<T>(w, out, at.x);                                                               \
    }
FOR_EACH_TYPE(DEQUANTIZE)
