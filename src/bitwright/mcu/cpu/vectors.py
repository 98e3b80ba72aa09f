"""C text of the inner loops for processors with vectors, with every accumulator named, so that compilers have no choice.

Sources: Intel Intrinsics Guide (VPMADDWD, VPDPBUSD), Arm Neon Intrinsics Reference (SMLAL, SADALP, SDOT, SQRDMULH, SRSHL).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bitwright.mcu.cpu.cores import Family

Kind = Literal["shift", "single", "double", "float32_even", "float32_away"]


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """What kernels of one family are made of.

    Attributes:
        guard: When compilers take them.
        include: Where their functions are declared.
        lanes: 32-bit numbers in a vector.
        group: Inputs that one multiplication takes for each channel.
        step: Bytes of a row that one turn of a tile's loop reads.
        row: C type of the inputs in a row.
        offsets: C suffix of the source → what is added to an input on its way to a row.
        tiles: Vectors of channels in a block → pixels of a tile.
        depthwise: Channels that a depthwise kernel does at once.
    """

    guard: str
    include: str
    lanes: int
    group: int
    step: int
    row: str
    offsets: Mapping[str, int]
    tiles: Mapping[int, int]
    depthwise: int


FAMILIES: Mapping[Family, Vectors] = {
    "neon": Vectors(
        guard="defined(__aarch64__) && defined(__ARM_NEON)", include="arm_neon.h", lanes=4, group=16, step=16,
        row="int8_t", offsets={"s8": 0, "u8": -128}, tiles={1: 4}, depthwise=8,
    ),
    "neon-dot": Vectors(
        guard="defined(__aarch64__) && defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)", include="arm_neon.h",
        lanes=4, group=4, step=16, row="int8_t", offsets={"s8": 0, "u8": -128}, tiles={1: 8, 2: 8, 3: 6, 4: 4},
        depthwise=8,
    ),
    "avx2": Vectors(
        guard="defined(__AVX2__)", include="immintrin.h", lanes=8, group=2, step=4, row="int16_t",
        offsets={"s8": 0, "u8": 0}, tiles={1: 8, 2: 6, 3: 4}, depthwise=8,
    ),
    "vnni": Vectors(
        guard="defined(__AVX2__) && (defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__)))",
        include="immintrin.h", lanes=8, group=4, step=4, row="uint8_t", offsets={"s8": 128, "u8": 0},
        tiles={1: 8, 2: 6, 3: 4}, depthwise=8,
    ),
    "avx512-vnni": Vectors(
        guard="defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)", include="immintrin.h",
        lanes=16, group=4, step=4, row="uint8_t", offsets={"s8": 128, "u8": 0}, tiles={1: 12, 2: 8, 3: 6, 4: 5},
        depthwise=16,
    ),
}  # fmt: skip
"""Tiles use as many accumulators as leave room for weights and inputs in 16 (AVX2) or 32 registers."""

X86 = """\
static inline @V@ @PREFIX@_load(const void *p) { return @M@_loadu_@S@((const @V@ *)p); }

static inline @V@ @PREFIX@_four(const unsigned char *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return @M@_set1_epi32(four);
}
"""
X86_STORE = {
    8: """\
static inline void @PREFIX@_store(unsigned char *p, __m256i x)
{
    const __m256i low = _mm256_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 12, 8, 4, 0,
                                        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 12, 8, 4, 0);
    const __m256i bytes = _mm256_shuffle_epi8(x, low);
    _mm_storel_epi64((__m128i *)(void *)p, _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)));
}
""",
    16: """\
static inline void @PREFIX@_store(unsigned char *p, __m512i x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(x));
}
""",
}
X86_BLEND = {8: "_mm256_blend_epi32({0}, {1}, 0xAA)", 16: "_mm512_mask_blend_epi32(0xAAAA, {0}, {1})"}
# The rounded product's low 32 bits come from logical shifts: after adding 2^63 it is not negative, and 2^63 >> s comes off.
X86_SCALES: Mapping[Kind, str] = {
    "shift": """\
    (void)m;
    x = @M@_srav_epi32(@M@_add_epi32(x, @M@_srli_epi32(@M@_sllv_epi32(@M@_set1_epi32(1), s), 1)), s);
""",
    "double": """\
    const @V@ half = @M@_set1_epi64@X@(1 << 30);
    const @V@ even = @M@_srli_epi64(@M@_add_epi64(@M@_mul_epi32(x, m), half), 31);
    const @V@ odd = @M@_slli_epi64(@M@_add_epi64(@M@_mul_epi32(@M@_srli_epi64(x, 32), @M@_srli_epi64(m, 32)), half), 1);
    const @V@ one = @M@_set1_epi32(1), any = @M@_sub_epi32(@M@_setzero_@S@(), @M@_min_epi32(s, one));
    x = @BLEND@;
    x = @M@_add_epi32(x, @M@_and_@S@(@M@_srai_epi32(x, 31), any));
    x = @M@_srav_epi32(@M@_add_epi32(x, @M@_srli_epi32(@M@_sllv_epi32(one, s), 1)), s);
""",
    "single": """\
    const @V@ one = @M@_set1_epi64@X@(1), top = @M@_slli_epi64(one, 63);
    const @V@ se = @M@_srli_epi64(@M@_slli_epi64(s, 32), 32), so = @M@_srli_epi64(s, 32);
    const @V@ he = @M@_or_@S@(top, @M@_sllv_epi64(one, @M@_sub_epi64(se, one)));
    const @V@ ho = @M@_or_@S@(top, @M@_sllv_epi64(one, @M@_sub_epi64(so, one)));
    const @V@ even = @M@_sub_epi64(@M@_srlv_epi64(@M@_add_epi64(@M@_mul_epi32(x, m), he), se), @M@_srlv_epi64(top, se));
    const @V@ right = @M@_mul_epi32(@M@_srli_epi64(x, 32), @M@_srli_epi64(m, 32));
    const @V@ odd = @M@_slli_epi64(@M@_sub_epi64(@M@_srlv_epi64(@M@_add_epi64(right, ho), so), @M@_srlv_epi64(top, so)), 32);
    x = @BLEND@;
""",
    "float32_even": """\
    (void)s;
    x = @M@_cvtps_epi32(@M@_mul_ps(@M@_cvtepi32_ps(x), @M@_cast@S@_ps(m)));
""",
    # Adding the largest float below one half, with the sign, and cutting off is rounding half away.
    "float32_away": """\
    (void)s;
    const @F@ y = @M@_mul_ps(@M@_cvtepi32_ps(x), @M@_cast@S@_ps(m));
    const @V@ sign = @M@_and_@S@(@M@_castps_@S@(y), @M@_set1_epi32(INT32_MIN));
    const @F@ half = @M@_cast@S@_ps(@M@_or_@S@(sign, @M@_set1_epi32(0x3EFFFFFF)));
    x = @M@_cvttps_epi32(@M@_add_ps(y, half));
""",
}
X86_FINISH = """\
static inline @V@ @PREFIX@_scale_@KIND@(@V@ x, @V@ m, @V@ s, const bw_cpu_t *t)
{
@SCALE@    x = @M@_add_epi32(x, @M@_set1_epi32(t->zero));
    return @M@_min_epi32(@M@_max_epi32(x, @M@_set1_epi32(t->lo)), @M@_set1_epi32(t->hi));
}
"""
NEON = """\
static inline void @PREFIX@_store(unsigned char *p, int32x4_t x)
{
    const uint16x4_t half = vmovn_u32(vreinterpretq_u32_s32(x));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(half, half));
    memcpy(p, &bytes, 4);
}
"""
NEON_SCALES: Mapping[Kind, str] = {
    "shift": "    (void)m;\n    x = vrshlq_s32(x, vnegq_s32(s));\n",
    "double": """\
    x = vqrdmulhq_s32(x, m);
    x = vaddq_s32(x, vandq_s32(vshrq_n_s32(x, 31), vnegq_s32(vminq_s32(s, vdupq_n_s32(1)))));
    x = vrshlq_s32(x, vnegq_s32(s));
""",
    "single": """\
    const int32x4_t left = vnegq_s32(s);
    const int64x2_t low = vrshlq_s64(vmull_s32(vget_low_s32(x), vget_low_s32(m)), vmovl_s32(vget_low_s32(left)));
    const int64x2_t high = vrshlq_s64(vmull_high_s32(x, m), vmovl_high_s32(left));
    x = vcombine_s32(vmovn_s64(low), vmovn_s64(high));
""",
    "float32_even": "    (void)s;\n    x = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(x), vreinterpretq_f32_s32(m)));\n",
    "float32_away": "    (void)s;\n    x = vcvtaq_s32_f32(vmulq_f32(vcvtq_f32_s32(x), vreinterpretq_f32_s32(m)));\n",
}
NEON_FINISH = """\
static inline int32x4_t @PREFIX@_scale_@KIND@(int32x4_t x, int32x4_t m, int32x4_t s, const bw_cpu_t *t)
{
@SCALE@    x = vaddq_s32(x, vdupq_n_s32(t->zero));
    return vminq_s32(vmaxq_s32(x, vdupq_n_s32(t->lo)), vdupq_n_s32(t->hi));
}
"""
DOT = {
    8: """\
#if defined(__AVXVNNI__)
#define @UPPER@_DOT _mm256_dpbusd_avx_epi32
#else
#define @UPPER@_DOT _mm256_dpbusd_epi32
#endif
""",
    16: "#define @UPPER@_DOT _mm512_dpbusd_epi32\n",
}


def is_neon(family: Family) -> bool:
    """Whether a family is one of Arm's."""
    return family.startswith("neon")


def vector_type(family: Family) -> str:
    """The C type of a vector of 32-bit numbers."""
    return "int32x4_t" if is_neon(family) else "__m512i" if FAMILIES[family].lanes == 16 else "__m256i"


def helpers(family: Family, prefix: str, kinds: list[Kind], *, dot: bool) -> str:
    """Loads, stores and requantizers, filled in."""
    lanes = FAMILIES[family].lanes
    if is_neon(family):
        parts = [NEON, *(NEON_FINISH.replace("@SCALE@", NEON_SCALES[kind]).replace("@KIND@", kind) for kind in kinds)]
    else:
        wide = lanes == 16
        blend = X86_BLEND[lanes].format("even", "odd")
        parts = [X86, X86_STORE[lanes], DOT[lanes] if dot else ""]
        parts += [X86_FINISH.replace("@SCALE@", X86_SCALES[kind]).replace("@KIND@", kind) for kind in kinds]
        names = {"@V@": vector_type(family), "@F@": "__m512" if wide else "__m256", "@M@": "_mm512" if wide else "_mm256",
                 "@S@": "si512" if wide else "si256", "@X@": "" if wide else "x", "@BLEND@": blend}  # fmt: skip
        for key, value in names.items():
            parts = [part.replace(key, value) for part in parts]
    return "\n".join(part.replace("@PREFIX@", prefix).replace("@UPPER@", prefix.upper()) for part in parts)


def loads(family: Family, prefix: str, at: str) -> str:
    """A vector of 32-bit numbers at an address."""
    return f"vld1q_s32({at})" if is_neon(family) else f"{prefix}_load({at})"


def tile(name: str, family: Family, prefix: str, kind: Kind, pixels: int, vectors: int, *, careful: bool) -> str:
    """All channels of some pixels: the block's accumulators, its turns, its outputs.

    Args:
        name: Of the function.
        family: Whose instructions.
        prefix: Of the network.
        kind: The requantizer.
        pixels: Of the tile.
        vectors: Of channels in a block.
        careful: Weights of -128 occur, so that NEON's sums of two products need more than 16 bits.
    """
    item, vector = FAMILIES[family], vector_type(family)
    block = item.lanes * vectors
    rows = [f"        *const r{p} = (const unsigned char *)rows[{p}]" for p in range(pixels)]
    lines = [
        f"void {name}(const void *const *rows, const void *stream, unsigned char *const *out, const bw_cpu_t *t)",
        "{",
    ]
    lines += ["    const unsigned char", ",\n".join(rows) + ";"]
    lines += ["    const signed char *at = (const signed char *)stream;"]
    lines += [f"    for (int32_t o = 0; o < t->out_c; o += {block}) {{"]
    lines += ["        const int32_t *numbers = (const int32_t *)(const void *)at;"]
    lines += [f"        const signed char *w = at + {12 * block};"]
    body = _neon_turns if family == "neon" else _dot_turns if family == "neon-dot" else _x86_turns
    lines += body(family, prefix, pixels, vectors, careful)
    lines += [f"        const {vector} m{v} = {loads(family, prefix, f'numbers + {block + item.lanes * v}')}, "
              f"s{v} = {loads(family, prefix, f'numbers + {2 * block + item.lanes * v}')};" for v in range(vectors)]  # fmt: skip
    lines += [f"        const int whole = t->out_c - o >= {block};", f"        unsigned char part[{block}];"]
    for p in range(pixels):
        lines.append(f"        {'unsigned char *' if p == 0 else ''}to = whole ? out[{p}] + o : part;")
        for v in range(vectors):
            value = f"{prefix}_scale_{kind}(a{p}_{v}, m{v}, s{v}, t)"
            lines.append(f"        {prefix}_store(to + {v * item.lanes}, {value});")
        lines += [
            "        if (!whole) {",
            f"            memcpy(out[{p}] + o, part, (size_t)(t->out_c - o));",
            "        }",
        ]
    return "\n".join([*lines, "        at = w;", "    }", "}", ""])


def _accumulators(family: Family, prefix: str, pixels: int, vectors: int) -> list[str]:
    kind, lanes = vector_type(family), FAMILIES[family].lanes
    lines = [f"        {kind} a0_{v} = {loads(family, prefix, f'numbers + {lanes * v}')};" for v in range(vectors)]
    return lines + [f"        {kind} a{p}_{v} = a0_{v};" for p in range(1, pixels) for v in range(vectors)]


def _x86_turns(family: Family, prefix: str, pixels: int, vectors: int, _: bool) -> list[str]:
    item, kind = FAMILIES[family], vector_type(family)
    stride = item.lanes * item.group
    lines = _accumulators(family, prefix, pixels, vectors)
    lines.append(f"        for (int32_t g = 0; g < 4 * t->groups; g += 4, w += {stride * vectors}) {{")
    for v in range(vectors):
        load = f"{prefix}_load(w + {stride * v})"
        if family == "avx2":
            load = f"_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w + {stride * v})))"
        lines.append(f"            const {kind} w{v} = {load};")
    for p in range(pixels):
        lines.append(f"            const {kind} x{p} = {prefix}_four(r{p} + g);")
        for v in range(vectors):
            sum_ = f"a{p}_{v}"
            step = f"_mm256_add_epi32({sum_}, _mm256_madd_epi16(x{p}, w{v}))"
            if family != "avx2":
                step = f"{prefix.upper()}_DOT({sum_}, x{p}, w{v})"
            lines.append(f"            {sum_} = {step};")
    return [*lines, "        }"]


def _dot_turns(family: Family, prefix: str, pixels: int, vectors: int, _: bool) -> list[str]:
    lines = _accumulators(family, prefix, pixels, vectors)
    lines.append(f"        for (int32_t g = 0; g < 16 * t->groups; g += 16, w += {64 * vectors}) {{")
    lines += [f"            const int8x16_t x{p} = vld1q_s8((const int8_t *)r{p} + g);" for p in range(pixels)]
    lines.append("            int8x16_t k;")
    for lane in range(4):
        for v in range(vectors):
            lines.append(f"            k = vld1q_s8(w + {16 * (lane * vectors + v)});")
            for p in range(pixels):
                lines.append(f"            a{p}_{v} = vdotq_laneq_s32(a{p}_{v}, k, x{p}, {lane});")
    return [*lines, "        }"]


def _neon_turns(_: Family, __: str, pixels: int, vectors: int, careful: bool) -> list[str]:
    assert vectors == 1
    lines = [f"        int32x4_t b{p}_{c} = vdupq_n_s32(0);" for p in range(pixels) for c in range(4)]
    lines.append("        for (int32_t g = 0; g < 16 * t->groups; g += 16, w += 64) {")
    lines += [f"            const int8x16_t k{c} = vld1q_s8(w + {16 * c});" for c in range(4)]
    for p in range(pixels):
        lines.append(f"            const int8x16_t x{p} = vld1q_s8((const int8_t *)r{p} + g);")
        for c in range(4):
            name, low = f"b{p}_{c}", f"vmull_s8(vget_low_s8(x{p}), vget_low_s8(k{c}))"
            if careful:
                lines.append(
                    f"            {name} = vpadalq_s16(vpadalq_s16({name}, {low}), vmull_high_s8(x{p}, k{c}));"
                )
            else:
                lines.append(f"            {name} = vpadalq_s16({name}, vmlal_high_s8({low}, x{p}, k{c}));")
    lines.append("        }")
    for p in range(pixels):
        total = f"vpaddq_s32(vpaddq_s32(b{p}_0, b{p}_1), vpaddq_s32(b{p}_2, b{p}_3))"
        lines.append(f"        const int32x4_t a{p}_0 = vaddq_s32(vld1q_s32(numbers), {total});")
    return lines


def depthwise(name: str, family: Family, prefix: str, kind: Kind, source: str) -> str:
    """One filter per channel, one pixel; the last block goes back so that it ends with the last channel."""
    item = FAMILIES[family]
    many = item.depthwise
    parts = many // item.lanes
    lines = [
        f"void {name}(const void *const *rows, const void *stream, unsigned char *const *out, const bw_cpu_t *t)",
        "{",
        "    const int32_t *numbers = (const int32_t *)stream;",
        "    const int16_t *weights = (const int16_t *)(const void *)(numbers + 3 * t->out_c);",
        f"    for (int32_t c = 0; c < t->out_c; c += {many}) {{",
        f"        const int32_t at = t->out_c - c < {many} ? t->out_c - {many} : c;",
        "        const int16_t *w = weights + at;",
    ]
    for v in range(parts):
        lines.append(
            f"        {vector_type(family)} a{v} = {loads(family, prefix, f'numbers + at + {v * item.lanes}')};"
        )
    lines.append("        for (int32_t tap = 0; tap < t->groups; tap++, w += t->out_c) {")
    if is_neon(family):
        load, widen = ("vld1_s8((const int8_t *)", "vmovl_s8({})") if source == "s8" else (
            "vld1_u8((const uint8_t *)", "vreinterpretq_s16_u16(vmovl_u8({}))")  # fmt: skip
        lines += [
            f"            const int16x8_t x = {widen.format(f'{load}rows[tap] + at)')}, k = vld1q_s16(w);",
            "            a0 = vmlal_s16(a0, vget_low_s16(x), vget_low_s16(k));",
            "            a1 = vmlal_high_s16(a1, x, k);",
        ]
    else:
        mm, wide = ("_mm512", item.lanes == 16) if item.lanes == 16 else ("_mm256", False)
        sign = "epi8" if source == "s8" else "epu8"
        read = "_mm_loadu_si128" if wide else "_mm_loadl_epi64"
        weight = "_mm256_loadu_si256((const __m256i *)" if wide else "_mm_loadu_si128((const __m128i *)"
        lines += [
            "            const unsigned char *from = (const unsigned char *)rows[tap] + at;",
            f"            const {vector_type(family)} x = {mm}_cvt{sign}_epi32({read}((const __m128i *)(const void *)from));",
            f"            const {vector_type(family)} k = {mm}_cvtepu16_epi32({weight}(const void *)w));",
            f"            a0 = {mm}_add_epi32(a0, {mm}_madd_epi16(x, k));",
        ]
    lines.append("        }")
    for v in range(parts):
        at = item.lanes * v
        m, s = (loads(family, prefix, f"numbers + {n}t->out_c + at + {at}") for n in ("", "2 * "))
        lines.append(f"        {prefix}_store(out[0] + at + {at}, {prefix}_scale_{kind}(a{v}, {m}, {s}, t));")
    return "\n".join([*lines, "    }", "}", ""])
