// Attention within the sequences of a group, which may be of any lengths.
//
// Sums, maxima, exponentials and the output's accumulators are float32; probabilities are rounded to bfloat16 before
// they meet the values, as in torch.
//
// Legend: L length of a sequence, D head size (a multiple of 32).
#pragma once

#include "amx.hpp"

// The tiles that a shared one meets in a step; to the next row, tile or step it is so many bfloat16.
struct Strip {
  const bf16* tiles;
  std::int64_t next_row;
  std::int64_t next_tile;
  std::int64_t next_step;
};

// Sums over the steps of a shared tile times two or four others, or of those times it. A step's shared tile is read
// once for all of them; those of the steps lie end to end.
template <int num_tiles, bool shared_first>
void multiply_shared(const bf16* shared, Strip others, std::int64_t num_steps, float* sums) {
  const std::int64_t row_bytes = others.next_row * sizeof(bf16);
  zero_tiles<num_tiles>();
  for (std::int64_t step = 0; step < num_steps; ++step, shared += kTile, others.tiles += others.next_step) {
    _tile_loadd(4, shared, 64);
    _tile_loadd(5, others.tiles, row_bytes);
    _tile_loadd(6, others.tiles + others.next_tile, row_bytes);
    if constexpr (shared_first) {
      _tile_dpbf16ps(0, 4, 5);
      _tile_dpbf16ps(1, 4, 6);
    } else {
      _tile_dpbf16ps(0, 5, 4);
      _tile_dpbf16ps(1, 6, 4);
    }
    if constexpr (num_tiles == 4) {
      _tile_loadd(5, others.tiles + 2 * others.next_tile, row_bytes);
      _tile_loadd(6, others.tiles + 3 * others.next_tile, row_bytes);
      if constexpr (shared_first) {
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 6);
      } else {
        _tile_dpbf16ps(2, 5, 4);
        _tile_dpbf16ps(3, 6, 4);
      }
    }
  }
  store_tiles<num_tiles>(sums);
}

// Attention of one head within one sequence after another.
//
// Scores lie with the 16 queries of a tile side by side, [keys][16]: so the softmax of all of them takes neither sums
// across a register nor masks, and of a sequence's last tile only the keys that there are.
class Head {
 public:
  Head(std::int64_t row_stride, std::int64_t head_size)
      : stride_(row_stride), size_(head_size), scale_(kLog2OfE / __builtin_sqrtf(float(head_size))) {}

  // Queries, keys and values [L, D] in rows; the contexts go to `out`, from this row and this feature on: those of the
  // first `num_queries` at least.
  void attend(const bf16* query, const bf16* key, const bf16* value, std::int64_t length, std::int64_t num_queries,
              bool causal, Blocked out, std::int64_t out_row, std::int64_t out_feature) {
    const std::int64_t width = (length + 31) / 32 * 32;  // keys, padded to whole tiles of probabilities
    const bf16* keys = copy_keys(key, length, width);
    const bf16* values = pack_values(value, length, width);
    float* scores = scores_.of(kRows * width);
    bf16* probabilities = probabilities_.of(kRows * width);
    for (std::int64_t first = 0; first < num_queries; first += kRows) {
      const std::int64_t rows = std::min<std::int64_t>(kRows, length - first);
      score(pack_queries(query + first * stride_, rows), keys, width, scores);
      const __m512 inverse = causal ? softmax<true>(scores, length, width, first + 1, probabilities)
                                    : softmax<false>(scores, length, width, length, probabilities);
      weigh(probabilities, values, width, inverse, rows, out, out_row + first, out_feature);
    }
  }

 private:
  static constexpr float kLog2OfE = 1.44269504f;  // the softmax takes powers of two

  // Near each other, since each tile of queries reads all of them, and zero beyond the end, since whole tiles are read.
  const bf16* copy_keys(const bf16* key, std::int64_t length, std::int64_t width) {
    bf16* copied = keys_.of(width * size_);
    for (std::int64_t row = 0; row < length; ++row) {
      std::memcpy(copied + row * size_, key + row * stride_, sizeof(bf16) * size_);
    }
    std::memset(copied + length * size_, 0, sizeof(bf16) * (width - length) * size_);
    return copied;
  }

  // [16, D] to tiles [D / 32] of [16 pairs of features][16 queries].
  const bf16* pack_queries(const bf16* query, std::int64_t rows) {
    bf16* packed = queries_.of(kRows * size_);
    for (std::int64_t feature = 0; feature < size_; feature += kColumns) {
      __m512i pairs[kRows];
      for (std::int64_t row = 0; row < kRows; ++row) {
        pairs[row] = row < rows ? _mm512_loadu_si512(query + row * stride_ + feature) : _mm512_setzero_si512();
      }
      transpose(pairs, packed + feature * kRows);
    }
    return packed;
  }

  // [L, D] to tiles [width / 32][D / 16] of [16 pairs of keys][16 features].
  const bf16* pack_values(const bf16* value, std::int64_t length, std::int64_t width) {
    bf16* packed = values_.of(width * size_);
    const __m256i zero = _mm256_setzero_si256();
    for (std::int64_t row = 0; row < width; row += 2) {
      bf16* tile = packed + row / 32 * 32 * size_ + row % 32 / 2 * kColumns;
      for (std::int64_t feature = 0; feature < size_; feature += 16, tile += kTile) {
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

  // To [keys][16], those beyond the end too, which nobody reads.
  void score(const bf16* queries, const bf16* keys, std::int64_t width, float* scores) {
    finish_writes();
    std::int64_t first = 0;
    const auto score_next = [&](auto num_tiles) {
      const Strip strip{keys + first * size_, size_, kRows * size_, kColumns};
      multiply_shared<num_tiles, false>(queries, strip, size_ / kColumns, scores + first * kRows);
      first += kRows * num_tiles;
    };
    while (first + 4 * kRows <= width) score_next(std::integral_constant<int, 4>());
    if (first < width) score_next(std::integral_constant<int, 2>());
  }

  // Probabilities in tiles [width / 32] of [16 queries][32 keys], and the inverse of their sums, by which they are not
  // divided yet. If causal, query i of the tile sees the first `seen` + i keys.
  template <bool causal>
  __m512 softmax(const float* scores, std::int64_t length, std::int64_t width, std::int64_t seen, bf16* probabilities) {
    const auto sees = [seen](std::int64_t key) {  // the queries that see a key
      const std::int64_t unseeing = std::max<std::int64_t>(key - seen + 1, 0);
      return unseeing < kRows ? __mmask16(0xffff << unseeing) : __mmask16(0);
    };
    // Four maxima and two sums: one alone would wait for its last addition, key after key.
    const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    __m512 largest[4] = {lowest, lowest, lowest, lowest};
    for (std::int64_t key = 0; key < length; ++key) {
      const __m512 score = _mm512_load_ps(scores + key * kRows);
      largest[key % 4] = _mm512_max_ps(largest[key % 4], causal ? _mm512_mask_mov_ps(lowest, sees(key), score) : score);
    }
    const __m512 maximum = _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3]));
    const __m512 scale = _mm512_set1_ps(scale_);
    const __m512 shift = _mm512_mul_ps(maximum, scale);
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    const auto weight_of = [&](std::int64_t key) {
      __m512 weight = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(scores + key * kRows), scale, shift));
      if constexpr (causal) weight = _mm512_maskz_mov_ps(sees(key), weight);
      sums[key % 2] = _mm512_add_ps(sums[key % 2], weight);
      return weight;
    };
    for (std::int64_t first = 0; first < width; first += kColumns) {
      __m512i pairs[kRows];
      for (std::int64_t i = 0; i < kRows; ++i) {
        const std::int64_t key = first + 2 * i;
        const __m512 even = key < length ? weight_of(key) : _mm512_setzero_ps();
        const __m512 odd = key + 1 < length ? weight_of(key + 1) : _mm512_setzero_ps();
        pairs[i] = pair_of(even, odd);
      }
      transpose(pairs, probabilities + first * kRows);
    }
    return _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_add_ps(sums[0], sums[1]));
  }

  // The values' sums by probability, divided by the sums of the probabilities.
  void weigh(const bf16* probabilities, const bf16* values, std::int64_t width, __m512 inverse, std::int64_t rows,
             Blocked out, std::int64_t out_row, std::int64_t out_feature) {
    alignas(64) float inverses[kRows];
    _mm512_store_ps(inverses, inverse);
    finish_writes();
    std::int64_t feature = 0;
    const auto weigh_next = [&](auto num_tiles) {
      const Strip strip{values + feature / kRows * kTile, kColumns, kTile, kColumns * size_};
      multiply_shared<num_tiles, true>(probabilities, strip, width / kColumns, sums_[0][0]);
      for (std::int64_t row = 0; row < rows; ++row) {
        const __m512 factor = _mm512_set1_ps(inverses[row]);
        for (int tile = 0; tile < num_tiles; ++tile) {
          const __m512 context = _mm512_mul_ps(_mm512_load_ps(sums_[tile][row]), factor);
          store(out.at(out_row + row, out_feature + feature + kRows * tile), context);
        }
      }
      feature += kRows * num_tiles;
    };
    while (feature + 4 * kRows <= size_) weigh_next(std::integral_constant<int, 4>());
    if (feature < size_) weigh_next(std::integral_constant<int, 2>());
  }

  std::int64_t stride_;
  std::int64_t size_;
  float scale_;
  alignas(64) float sums_[4][kRows][16];
  Scratch<bf16> keys_, values_, queries_, probabilities_;
  Scratch<float> scores_;
};
