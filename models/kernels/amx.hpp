// What the kernels share: bfloat16, Intel's matrix tiles (AMX), and a few functions of 16 floats at a time.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <type_traits>
#include <vector>

using bf16 = std::uint16_t;

constexpr std::int64_t kRows = 16;     // of a tile
constexpr std::int64_t kColumns = 32;  // bfloat16 in a row of a tile
constexpr std::int64_t kTile = kRows * kColumns;
constexpr std::int64_t kTileSums = kRows * 16;  // float32 in a tile of sums

// All eight tiles whole, 16 rows of 64 bytes, in the layout that the instruction reads.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// In memory that outlives any function: compilers believe that only eight bytes of it are read.
inline constexpr TileConfig kWholeTiles;

// Loads of tiles do not tell the compiler that they read memory: what was written must be there before.
inline void finish_writes() { asm volatile("" ::: "memory"); }

// Whoever used the tiles before in this thread finds them configured as they were.
class Tiles {
 public:
  Tiles() {
    _tile_storeconfig(before_);
    finish_writes();
    _tile_loadconfig(&kWholeTiles);
  }
  ~Tiles() {
    finish_writes();
    if (before_[0] == 0) {  // its palette
      _tile_release();
    } else {
      _tile_loadconfig(before_);
    }
  }

 private:
  alignas(64) std::uint8_t before_[64];
};

// Sums grow in the tiles 0 to 3, or in 0 and 1; in memory a tile of them follows the other.
template <int num_tiles = 4>
inline void zero_tiles() {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (num_tiles == 4) {
    _tile_zero(2);
    _tile_zero(3);
  }
}

template <int num_tiles = 4>
inline void store_tiles(float* sums) {
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + kTileSums, 64);
  if constexpr (num_tiles == 4) {
    _tile_stored(2, sums + 2 * kTileSums, 64);
    _tile_stored(3, sums + 3 * kTileSums, 64);
  }
}

inline void load_tiles(const float* sums) {
  _tile_loadd(0, sums, 64);
  _tile_loadd(1, sums + kTileSums, 64);
  _tile_loadd(2, sums + 2 * kTileSums, 64);
  _tile_loadd(3, sums + 3 * kTileSums, 64);
}

inline __m512 load(const bf16* place) {
  const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

inline void store(bf16* place, __m512 values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), (__m256i)_mm512_cvtneps_pbh(values));
}

// Two numbers in each 32 bits, the first in the lower half: the instruction for two registers puts them one behind the
// other. Halves are rounded away from zero, which takes fewer steps than to even.
inline __m512i pair_of(__m512 first, __m512 second) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(first), half), 16);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(second), half);
  return _mm512_mask_blend_epi16(0xaaaaaaaa, low, high);
}

// 2^x for x <= 0, to 4e-6 of it.
inline __m512 exp2_of(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(x, whole);
  __m512 sum = _mm512_set1_ps(0.009570099f);
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0.05591786f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0.24024744f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0.6931218f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(0.9999993f));
  return _mm512_scalef_ps(sum, whole);
}

// Transposes 16 x 16 pairs of bfloat16.
inline void transpose(const __m512i in[16], bf16* out) {
  __m512i a[16], b[16];
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm512_unpacklo_epi32(in[2 * i], in[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi32(in[2 * i], in[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
    b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
    b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
    b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
  }
  for (int j = 0; j < 4; ++j) {
    const __m512i even_top = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88);
    const __m512i odd_top = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
    const __m512i even_end = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88);
    const __m512i odd_end = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
    _mm512_store_si512(out + kColumns * j, _mm512_shuffle_i32x4(even_top, even_end, 0x88));
    _mm512_store_si512(out + kColumns * (4 + j), _mm512_shuffle_i32x4(odd_top, odd_end, 0x88));
    _mm512_store_si512(out + kColumns * (8 + j), _mm512_shuffle_i32x4(even_top, even_end, 0xdd));
    _mm512_store_si512(out + kColumns * (12 + j), _mm512_shuffle_i32x4(odd_top, odd_end, 0xdd));
  }
}

template <typename T>
class Scratch {
 public:
  // Aligned room for so many; what was there is lost.
  T* of(std::size_t size) {
    if (memory_.size() < size + 64) memory_.assign(size + 64, T());
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return reinterpret_cast<T*>((address + 63) / 64 * 64);
  }

 private:
  std::vector<T> memory_;
};

// x times the normal distribution's share below it (GELU, arXiv 1606.08415), to 1e-5 for |x| < 16: the share less a
// half is x times a polynomial in x^2, fitted on [-5, 5]; beyond, it is at its end.
inline __m512 gelu(__m512 x) {
  constexpr float kCoefficients[] = {-0.0011018709f, 0.0032014311f, -0.0038777853f, 0.005100306f, -0.010169911f,
                                     0.01691829f,    -0.023624465f, 0.031354718f,   -0.040391896f, 0.05152556f,
                                     -0.07029824f,   0.14136374f};
  const __m512 inside = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(5.0f)), _mm512_set1_ps(-5.0f));
  const __m512 square = _mm512_fmsub_ps(_mm512_mul_ps(inside, inside), _mm512_set1_ps(0.08f), _mm512_set1_ps(1.0f));
  __m512 sum = _mm512_set1_ps(kCoefficients[0]);
  for (std::size_t i = 1; i < std::size(kCoefficients); ++i) {
    sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(kCoefficients[i]));
  }
  return _mm512_mul_ps(x, _mm512_fmadd_ps(inside, sum, _mm512_set1_ps(0.5f)));
}

// Rows of bfloat16 in the order in which tiles read them: [R / 32][width / 32][32 rows][32 features].
struct Blocked {
  static constexpr std::int64_t kBlock = 2 * kRows;  // rows
  bf16* base;
  std::int64_t width;

  bf16* at(std::int64_t row, std::int64_t feature) const {
    return base + row / kBlock * kBlock * width + feature / kColumns * kBlock * kColumns + row % kBlock * kColumns +
           feature % kColumns;
  }
  Blocked from(std::int64_t row) const { return {base + row * width, width}; }  // a whole number of blocks on
};
