// Attention within the sequences of a group, which may be of any lengths.
//
// Sums, maxima, exponentials and the output's accumulators are float32; probabilities are rounded to bfloat16 before
// they meet the values, as in torch.
//
// Legend: L length of a sequence, D head size (a multiple of 32).
#pragma once

#include "amx.hpp"

// Attention of one head within one sequence after another.
class Head {
 public:
  Head(std::int64_t row_stride, std::int64_t head_size)
      : stride_(row_stride), size_(head_size), scale_(1.44269504f / __builtin_sqrtf(float(head_size))) {}

  // Queries, keys and values [L, D] in rows; the contexts go to the rows and features of `out` from these on.
  void attend(const bf16* query, const bf16* key, const bf16* value, std::int64_t length, bool causal, Blocked out,
              std::int64_t out_row, std::int64_t out_feature) {
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
      weigh(probabilities, values, width, inverse, rows, out, out_row + first, out_feature);
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
    finish_writes();
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
      store(probabilities + i, weight);
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
  }

  // Up to 64 features at a time, a tile for each 16.
  void weigh(const bf16* probabilities, const bf16* values, std::int64_t width, const float* inverse,
             std::int64_t rows, Blocked out, std::int64_t out_row, std::int64_t out_feature) {
    alignas(64) float sums[kRows][kPairs];
    finish_writes();
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
          store(out.at(out_row + row, out_feature + feature + 16 * half), mean);
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
