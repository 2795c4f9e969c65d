// Attention within packed sequences, in bfloat16 on Intel's matrix tiles (AMX).
//
// torch's own kernel takes one rectangle at a time and spends most of a short sequence's time on calls, copies and
// allocations. This one takes all sequences of a batch at once, whatever their lengths, reads queries, keys and values
// where the projection left them, and keeps a head's keys and values in the core's cache.
//
// Sums, maxima, exponentials and the output's accumulators are float32; probabilities are rounded to bfloat16 before
// they meet the values, as in torch.
//
// Legend: T tokens, N sequences, L length of one, A heads, D head size (a multiple of 32).

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

using bf16 = std::uint16_t;

constexpr int kRows = 16;   // of a tile
constexpr int kPairs = 32;  // bfloat16 in a row of a tile

struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Whoever used the tiles before in this thread finds them configured as they were.
class Tiles {
 public:
  Tiles() {
    _tile_storeconfig(&before_);
    const TileConfig whole;
    _tile_loadconfig(&whole);
  }
  ~Tiles() {
    if (before_.palette == 0) {
      _tile_release();
    } else {
      _tile_loadconfig(&before_);
    }
  }

 private:
  TileConfig before_;
};

inline __m512 widen(__m256i values) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

inline __m256i narrow(__m512 values) { return (__m256i)_mm512_cvtneps_pbh(values); }

// 2^x for x <= 0, to about 2e-6.
inline __m512 exp2_of(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(x, whole);
  __m512 sum = _mm512_set1_ps(1.33335581e-3f);
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(9.61812911e-3f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(5.55041087e-2f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(2.40226507e-1f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(6.93147181e-1f));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.0f));
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
    _mm512_store_si512(out + kPairs * j, _mm512_shuffle_i32x4(even_top, even_end, 0x88));
    _mm512_store_si512(out + kPairs * (4 + j), _mm512_shuffle_i32x4(odd_top, odd_end, 0x88));
    _mm512_store_si512(out + kPairs * (8 + j), _mm512_shuffle_i32x4(even_top, even_end, 0xdd));
    _mm512_store_si512(out + kPairs * (12 + j), _mm512_shuffle_i32x4(odd_top, odd_end, 0xdd));
  }
}

template <typename T>
class Scratch {
 public:
  // Aligned room for so many; what was there is lost.
  T* of(std::size_t size) {
    if (memory_.size() < size + 64) memory_.resize(size + 64);
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return reinterpret_cast<T*>((address + 63) / 64 * 64);
  }

 private:
  std::vector<T> memory_;
};

// One head of one sequence after another.
class Head {
 public:
  Head(std::int64_t row_stride, std::int64_t head_size)
      : stride_(row_stride), size_(head_size), scale_(1.44269504f / __builtin_sqrtf(float(head_size))) {}

  void attend(const bf16* query, const bf16* key, const bf16* value, std::int64_t length, bool causal, bf16* out,
              std::int64_t out_stride) {
    const std::int64_t width = (length + 31) / 32 * 32;  // keys, padded to whole tiles of probabilities
    const bf16* keys = pack_keys(key, length, width);
    const bf16* values = pack_values(value, length, width);
    float* scores = scores_.of(kRows * width);
    bf16* probabilities = probabilities_.of(kRows * width);
    for (std::int64_t first = 0; first < length; first += kRows) {
      const std::int64_t rows = std::min<std::int64_t>(kRows, length - first);
      score(whole_rows(query + first * stride_, rows), rows == kRows ? stride_ : size_, keys, width, scores);
      float inverse[kRows];
      for (std::int64_t row = 0; row < kRows; ++row) {
        const std::int64_t seen = row < rows ? (causal ? first + row + 1 : length) : 0;
        inverse[row] = softmax(scores + row * width, seen, width, probabilities + row * width);
      }
      weigh(probabilities, values, width, inverse, rows, out + first * out_stride, out_stride);
    }
  }

 private:
  // [L, D] to tiles [width / 16][D / 32] of [16 pairs of features][16 keys].
  const bf16* pack_keys(const bf16* key, std::int64_t length, std::int64_t width) {
    bf16* packed = keys_.of(width * size_);
    bf16* tile = packed;
    for (std::int64_t first = 0; first < width; first += kRows) {
      for (std::int64_t feature = 0; feature < size_; feature += kPairs, tile += kRows * kPairs) {
        __m512i rows[kRows];
        for (int i = 0; i < kRows; ++i) {
          rows[i] = first + i < length ? _mm512_loadu_si512(key + (first + i) * stride_ + feature)
                                       : _mm512_setzero_si512();
        }
        transpose(rows, tile);
      }
    }
    return packed;
  }

  // [L, D] to tiles [width / 32][D / 16] of [16 pairs of keys][16 features].
  const bf16* pack_values(const bf16* value, std::int64_t length, std::int64_t width) {
    bf16* packed = values_.of(width * size_);
    const __m256i zero = _mm256_setzero_si256();
    for (std::int64_t row = 0; row < width; row += 2) {
      bf16* tile = packed + row / 32 * 32 * size_ + row % 32 / 2 * kPairs;
      for (std::int64_t feature = 0; feature < size_; feature += 16, tile += kRows * kPairs) {
        const auto* place = reinterpret_cast<const __m256i*>(value + row * stride_ + feature);
        const auto* below = reinterpret_cast<const __m256i*>(value + (row + 1) * stride_ + feature);
        const __m256i even = row < length ? _mm256_loadu_si256(place) : zero;
        const __m256i odd = row + 1 < length ? _mm256_loadu_si256(below) : zero;
        const __m512i pair = _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                                             _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
        _mm512_store_si512(tile, pair);
      }
    }
    return packed;
  }

  // 16 rows, also where the sequence ends sooner: those of the next one must not be read, there may be none.
  const bf16* whole_rows(const bf16* query, std::int64_t rows) {
    if (rows == kRows) return query;
    bf16* padded = queries_.of(kRows * size_);
    std::memset(padded, 0, sizeof(bf16) * kRows * size_);
    for (std::int64_t row = 0; row < rows; ++row) {
      std::memcpy(padded + row * size_, query + row * stride_, sizeof(bf16) * size_);
    }
    return padded;
  }

  void score(const bf16* query, std::int64_t stride, const bf16* keys, std::int64_t width, float* scores) {
    for (std::int64_t first = 0; first < width; first += 2 * kRows) {
      const bf16* left = keys + first * size_;
      const bf16* right = left + kRows * size_;
      _tile_zero(0);
      _tile_zero(1);
      for (std::int64_t feature = 0; feature < size_; feature += kPairs) {
        _tile_loadd(4, query + feature, stride * sizeof(bf16));
        _tile_loadd(5, left + feature * kRows, 64);
        _tile_loadd(6, right + feature * kRows, 64);
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 6);
      }
      _tile_stored(0, scores + first, width * sizeof(float));
      _tile_stored(1, scores + first + kRows, width * sizeof(float));
    }
  }

  // Gives the inverse of the sum; the probabilities are not divided by it yet.
  float softmax(const float* scores, std::int64_t seen, std::int64_t width, bf16* probabilities) {
    const auto mask = [seen](std::int64_t first) {
      const std::int64_t left = seen - first;
      return left >= 16 ? __mmask16(0xffff) : left <= 0 ? __mmask16(0) : __mmask16((1u << left) - 1);
    };
    const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    __m512 largest = lowest;
    for (std::int64_t i = 0; i < seen; i += 16) {
      largest = _mm512_max_ps(largest, _mm512_mask_loadu_ps(lowest, mask(i), scores + i));
    }
    const __m512 scale = _mm512_set1_ps(scale_);
    const __m512 shift = _mm512_set1_ps(seen ? _mm512_reduce_max_ps(largest) * scale_ : 0.0f);
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t i = 0; i < width; i += 16) {
      __m512 weight = exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(scores + i), scale, shift));
      weight = _mm512_maskz_mov_ps(mask(i), weight);
      sum = _mm512_add_ps(sum, weight);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(probabilities + i), narrow(weight));
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
  }

  // Up to 64 features at a time, a tile for each 16.
  void weigh(const bf16* probabilities, const bf16* values, std::int64_t width, const float* inverse,
             std::int64_t rows, bf16* out, std::int64_t out_stride) {
    alignas(64) float sums[kRows][kPairs];
    for (std::int64_t feature = 0; feature < size_; feature += kPairs) {
      _tile_zero(0);
      _tile_zero(1);
      for (std::int64_t key = 0; key < width; key += kPairs) {
        const bf16* tile = values + key * size_ + feature * kPairs;
        _tile_loadd(4, probabilities + key, width * sizeof(bf16));
        _tile_loadd(5, tile, 64);
        _tile_loadd(6, tile + kRows * kPairs, 64);
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 6);
      }
      _tile_stored(0, &sums[0][0], kPairs * sizeof(float));
      _tile_stored(1, &sums[0][16], kPairs * sizeof(float));
      for (std::int64_t row = 0; row < rows; ++row) {
        for (int half = 0; half < 2; ++half) {
          const __m512 mean = _mm512_mul_ps(_mm512_load_ps(&sums[row][16 * half]), _mm512_set1_ps(inverse[row]));
          bf16* place = out + row * out_stride + feature + 16 * half;
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), narrow(mean));
        }
      }
    }
  }

  std::int64_t stride_;
  std::int64_t size_;
  float scale_;
  Scratch<bf16> keys_, values_, queries_, probabilities_;
  Scratch<float> scores_;
};

}  // namespace

extern "C" {

// query_key_value [T, 3, A, D], contiguous; boundaries [N + 1]; out [T, A, D].
void attend_packed(const bf16* query_key_value, const std::int32_t* boundaries, std::int64_t num_sequences,
                   std::int64_t num_heads, std::int64_t head_size, int causal, int num_threads, bf16* out) {
  const std::int64_t hidden = num_heads * head_size;
#pragma omp parallel num_threads(num_threads)
  {
    const Tiles tiles;
    Head head(3 * hidden, head_size);
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < num_sequences * num_heads; ++i) {
      const std::int64_t start = boundaries[i / num_heads], stop = boundaries[i / num_heads + 1];
      const bf16* query = query_key_value + start * 3 * hidden + i % num_heads * head_size;
      head.attend(query, query + hidden, query + 2 * hidden, stop - start, causal, out + start * hidden +
                  i % num_heads * head_size, hidden);
    }
  }
}

// Turns the first `num_heads` vectors of each token, [T, 3 * A, D], in place; sine and cosine [T, D / 2].
void rotate_packed(bf16* states, std::int64_t num_tokens, std::int64_t row_stride, std::int64_t num_heads,
                   std::int64_t head_size, const float* sine, const float* cosine, int num_threads) {
  const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
#pragma omp parallel for num_threads(num_threads)
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t feature = 0; feature < head_size; feature += 16) {
      const std::int64_t plane = token * head_size / 2 + feature / 2;
      const __m512 c = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(cosine + plane)));
      const __m512 s = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(sine + plane)));
      for (std::int64_t head = 0; head < num_heads; ++head) {
        auto* place = reinterpret_cast<__m256i*>(states + token * row_stride + head * head_size + feature);
        const __m512 pair = widen(_mm256_loadu_si256(place));
        // x cos - y sin, y cos + x sin
        const __m512 turned = _mm512_fmaddsub_ps(pair, c, _mm512_mul_ps(_mm512_permute_ps(pair, 0xb1), s));
        _mm256_storeu_si256(place, narrow(turned));
      }
    }
  }
}
}
