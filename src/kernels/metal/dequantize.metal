/* Weights to half: one thread a block of the type (of floats: 32), equal to the reference's numbers rounded to half. */
template <typename T> static void dequantize_block(device const uchar *w, device half *out, uint block) {
    for (uint v = 0; v < T::UNITS; v++) {
        unit32 u;
        T::unit(w + ulong(block) * T::BYTES, v, u);
        device half *to = out + ulong(block) * T::BLOCK + T::start(v);
        for (uint i = 0; i < 16; i++) {
            to[i] = half(u.scale.x * u.q[i] + u.offset.x);
            to[T::GAP + i] = half(u.scale.y * u.q[16 + i] + u.offset.y);
        }
    }
}

#define DEQUANTIZE(name, T)                                                                                  \
    kernel void dequantize_##name##_f16(constant fe_metal_dequantize &p [[buffer(0)]],                       \
                                        device const uchar *w [[buffer(1)]], device half *out [[buffer(2)]], \
                                        uint block [[thread_position_in_grid]]) {                            \
        if (block < p.blocks) dequantize_block<T>(w, out, block);                                            \
    }
FOR_EACH_TYPE(DEQUANTIZE)
