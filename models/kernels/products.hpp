// Products of blocked rows and weights on matrix tiles.
//
// Weights [N, K] lie in panels of 32 outputs, each in the order in which tiles read it:
// [N / 32][K / 32][2 halves of the outputs][16 pairs of inputs][16 outputs][2 of the pair].
//
// Legend: R rows, N outputs, K inputs; a block is 32 rows, a panel 32 outputs, a step 32 inputs.
#pragma once

#include "amx.hpp"

constexpr std::int64_t kStep = 2 * kTile;      // bfloat16 that a step reads of a block or panel
constexpr std::int64_t kSums = 4 * kTileSums;  // of a block's product with a panel, [2][2][16 rows][16 outputs]
constexpr std::int64_t kLine = 32;             // bfloat16 in a line of the cache

struct Weights {
  const bf16* panels;
  std::int64_t num_inputs;

  const bf16* at(std::int64_t panel, std::int64_t step) const {
    return panels + (panel * num_inputs / 32 + step) * kStep;
  }
};

// Adds a block's product with a panel to the tiles 0 to 3; `meanwhile(step)` runs while the tiles are at work.
template <typename Meanwhile>
inline void multiply_tiles(const bf16* left, const bf16* right, std::int64_t num_steps, Meanwhile meanwhile) {
  finish_writes();
  for (std::int64_t step = 0; step < num_steps; ++step, left += kStep, right += kStep) {
    _tile_loadd(4, left, 64);
    _tile_loadd(6, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + kTile, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, left + kTile, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    meanwhile(step);
  }
}

// Where the first 16 of a row's 32 sums are; the others are in the next tile.
inline std::int64_t place_of(std::int64_t row) { return row / kRows * 2 * kTileSums + row % kRows * 16; }

// Asks for the next panel piece by piece, so that it is in the core's cache when its turn comes. After the last one
// there may be none: to ask for what is not there does no harm.
class Prefetch {
 public:
  Prefetch(const bf16* next, std::int64_t num_blocks, std::int64_t num_steps)
      : next_(next), end_(next + num_steps * kStep), share_((kStep / kLine + num_blocks - 1) / num_blocks) {}

  void operator()() {
    for (std::int64_t i = 0; i < share_ && next_ < end_; ++i, next_ += kLine) {
      _mm_prefetch(reinterpret_cast<const char*>(next_), _MM_HINT_T1);
    }
  }

 private:
  const bf16* next_;
  const bf16* end_;
  std::int64_t share_;
};

// A block's product with a panel of which no row is finished yet.
struct Unfinished {
  const float* sums = nullptr;  // none: there was no product so far
  std::int64_t row = 0;         // the first ones
  std::int64_t output = 0;
};

// Rows times weights; `finish(row, output, low, high)` gets 32 outputs of a row, 16 in each.
//
// The rows of one product are finished while the next is under way.
template <typename Finish>
void multiply(Blocked rows, std::int64_t num_rows, Weights weights, std::int64_t first_panel, std::int64_t num_panels,
              Finish finish) {
  const std::int64_t num_steps = rows.width / 32, num_blocks = num_rows / 32;
  const std::int64_t rows_a_step = (32 + num_steps - 1) / num_steps;
  alignas(64) float sums[2][kSums];
  Unfinished last;
  const auto finish_rows = [&](std::int64_t first, std::int64_t stop) {
    if (!last.sums) return;
    for (std::int64_t row = first; row < stop; ++row) {
      const float* place = last.sums + place_of(row);
      finish(last.row + row, last.output, _mm512_load_ps(place), _mm512_load_ps(place + kTileSums));
    }
  };
  for (std::int64_t panel = 0; panel < num_panels; ++panel) {
    Prefetch prefetch(weights.at(first_panel + panel + 1, 0), num_blocks, num_steps);
    for (std::int64_t block = 0; block < num_blocks; ++block) {
      zero_tiles();
      multiply_tiles(rows.from(32 * block).base, weights.at(first_panel + panel, 0), num_steps, [&](std::int64_t step) {
        prefetch();
        const std::int64_t first = step * rows_a_step;
        finish_rows(std::min<std::int64_t>(first, 32), std::min<std::int64_t>(first + rows_a_step, 32));
      });
      float* place = last.sums == sums[0] ? sums[1] : sums[0];
      store_tiles(place);
      last = {place, 32 * block, 32 * panel};
    }
  }
  finish_rows(0, 32);
}

// Adds rows times weights to sums [R / 32][N / 32][kSums], or begins them; the inputs are those from `first_input` on.
inline void accumulate(Blocked rows, std::int64_t num_rows, Weights weights, std::int64_t first_input,
                       std::int64_t num_panels, bool begin, float* sums) {
  const std::int64_t num_steps = rows.width / 32, num_blocks = num_rows / 32;
  for (std::int64_t panel = 0; panel < num_panels; ++panel) {
    Prefetch prefetch(weights.at(panel + 1, first_input / 32), num_blocks, num_steps);
    for (std::int64_t block = 0; block < num_blocks; ++block) {
      float* place = sums + (block * num_panels + panel) * kSums;
      if (begin) {
        zero_tiles();
      } else {
        load_tiles(place);
      }
      multiply_tiles(rows.from(32 * block).base, weights.at(panel, first_input / 32), num_steps,
                     [&](std::int64_t) { prefetch(); });
      store_tiles(place);
    }
  }
}
