// A stack of post-norm transformer blocks over packed sequences, in bfloat16 on Intel's matrix tiles (AMX).
//
// Sequences form groups of up to some 512 tokens. A group goes through all blocks in one thread, so that all that it
// needs but the weights stays in the core's cache, and threads never wait for each other before the end. Biases,
// activation, residual, norm and rotation happen where a product leaves its sums, which are float32; what goes into a
// product is bfloat16.
//
// Legend: T tokens, N sequences, R rows of a group (its tokens, up to a multiple of 32), H hidden size, A heads, D head
// size, I intermediate size.

#include <atomic>
#include <limits>
#include <new>

#include "amx.hpp"
#include "attention.hpp"
#include "products.hpp"

// The next three are what models/kernels/__init__.py passes, field by field in this order.

// Weights as in products.hpp, all else float32.
struct Layer {
  const bf16* query_key_value;  // [3 H, H], a head's queries, keys and values side by side
  const float* query_key_value_bias;
  const bf16* attention_output;  // [H, H]
  const float* attention_output_bias;
  const float* attention_norm_weight;
  const float* attention_norm_bias;
  const bf16* widen;  // [I, H]
  const float* widen_bias;
  const bf16* narrow;  // [H, I]
  const float* narrow_bias;
  const float* norm_weight;
  const float* norm_bias;
};

struct Shape {
  std::int64_t num_layers;
  std::int64_t num_heads;
  std::int64_t head_size;
  std::int64_t intermediate_size;
  double epsilon;  // of the norms
};

struct Batch {
  const std::int32_t* boundaries;  // [N + 1]
  std::int64_t num_sequences;
  const float* sine;  // [T, D / 2]
  const float* cosine;
  std::int64_t num_rotated;  // of a head's three vectors: 0, 2 (queries and keys) or 3
  std::int64_t causal;
  std::int64_t only_first;  // whether nothing but the states of each sequence's first token is wanted
};

namespace {

// More rows share a panel of weights while it is near, fewer leave room in the cache: 384 to 640 are alike.
constexpr std::int64_t kGroupRows = 512;
constexpr std::int64_t kWideColumns = 384;  // of the intermediate states at a time: as much as the cache has room for

std::int64_t whole_blocks(std::int64_t rows) { return (rows + 31) / 32 * 32; }

struct Sequence {
  std::int64_t index;
  std::int64_t start;  // first token
  std::int64_t length;
};

struct Group {
  std::vector<Sequence> sequences;
  std::int64_t num_tokens = 0;
  std::int64_t capacity = 0;
};

// Best fit, longest first, into about the same number of groups for each thread; a sequence of more than half a group's
// size may be alone. The groups are in the order of their sizes, so that the last to be taken are small.
std::vector<Group> make_groups(const Batch& batch, std::int64_t num_threads) {
  const std::int64_t num_tokens = batch.boundaries[batch.num_sequences];
  const std::int64_t share = kGroupRows * num_threads;
  const std::int64_t num_groups = (num_tokens + share - 1) / share * num_threads;
  const std::int64_t capacity = whole_blocks((num_tokens + num_groups - 1) / num_groups);
  std::vector<Sequence> sequences;
  for (std::int64_t i = 0; i < batch.num_sequences; ++i) {
    sequences.push_back({i, batch.boundaries[i], batch.boundaries[i + 1] - batch.boundaries[i]});
  }
  std::stable_sort(sequences.begin(), sequences.end(), [](auto& a, auto& b) { return a.length > b.length; });
  std::vector<Group> groups;
  for (const Sequence& sequence : sequences) {
    Group* best = nullptr;
    for (Group& group : groups) {
      const bool fits = group.num_tokens + sequence.length <= group.capacity;
      if (fits && (!best || group.capacity - group.num_tokens < best->capacity - best->num_tokens)) best = &group;
    }
    if (!best) {
      groups.emplace_back();
      best = &groups.back();
      best->capacity = std::max(capacity, whole_blocks(sequence.length));
    }
    best->sequences.push_back(sequence);
    best->num_tokens += sequence.length;
  }
  std::stable_sort(groups.begin(), groups.end(), [](auto& a, auto& b) { return a.num_tokens > b.num_tokens; });
  return groups;
}

// A row for each sequence, where only first tokens are wanted: what the last layer's attention leaves of them. What
// comes after it is done for all sequences together, since a group has too few to be worth a pass over the weights.
struct FirstTokens {
  Blocked states, context;
};

// One thread's memory and work.
class Worker {
 public:
  Worker(const Layer* layers, const Shape& shape, const Batch& batch, FirstTokens first_tokens)
      : layers_(layers), shape_(shape), batch_(batch), hidden_(shape.num_heads * shape.head_size),
        first_tokens_(first_tokens), head_(3 * shape.head_size, shape.head_size) {}

  // The group's states after all layers, to `out`; or its first tokens' after the last attention, to their rows.
  void run(const Group& group, const bf16* states, bf16* out) {
    num_rows_ = whole_blocks(group.num_tokens);
    states_ = {states_memory_.of(num_rows_ * hidden_), hidden_};
    context_ = {context_memory_.of(num_rows_ * hidden_), hidden_};
    // The last block's rows beyond the tokens take part in all products: as zeros, not as what another group left.
    std::memset(states_.base, 0, sizeof(bf16) * num_rows_ * hidden_);
    std::memset(context_.base, 0, sizeof(bf16) * num_rows_ * hidden_);
    for_each_piece(group, [&](std::int64_t token, std::int64_t feature, bf16* place) {
      std::memcpy(place, states + token * hidden_ + feature, sizeof(bf16) * kColumns);
    });
    for (std::int64_t i = 0; i < shape_.num_layers - batch_.only_first; ++i) run_layer(layers_[i], group);
    if (batch_.only_first) {
      attend(layers_[shape_.num_layers - 1], group, 1);
      keep_first_tokens(group);
      return;
    }
    for_each_piece(group, [&](std::int64_t token, std::int64_t feature, const bf16* place) {
      std::memcpy(out + token * hidden_ + feature, place, sizeof(bf16) * kColumns);
    });
  }

  // The last layer's rest for some first tokens, from a whole number of blocks on; their states go to `out`.
  void finish_first_tokens(std::int64_t first, std::int64_t num_rows, bf16* out) {
    after_attention(layers_[shape_.num_layers - 1], first_tokens_.states.from(first), first_tokens_.context.from(first),
                    num_rows);
    for (std::int64_t row = first; row < std::min(first + num_rows, batch_.num_sequences); ++row) {
      for (std::int64_t feature = 0; feature < hidden_; feature += kColumns) {
        std::memcpy(out + row * hidden_ + feature, first_tokens_.states.at(row, feature), sizeof(bf16) * kColumns);
      }
    }
  }

 private:
  // Calls with a token, a feature, and where this feature and the 31 behind it are in the states.
  template <typename Copy>
  void for_each_piece(const Group& group, Copy copy) {
    std::int64_t row = 0;
    for (const Sequence& sequence : group.sequences) {
      for (std::int64_t i = 0; i < sequence.length; ++i, ++row) {
        for (std::int64_t feature = 0; feature < hidden_; feature += kColumns) {
          copy(sequence.start + i, feature, states_.at(row, feature));
        }
      }
    }
  }

  void keep_first_tokens(const Group& group) {
    std::int64_t row = 0;
    for (const Sequence& sequence : group.sequences) {
      for (std::int64_t feature = 0; feature < hidden_; feature += kColumns) {
        std::memcpy(first_tokens_.states.at(sequence.index, feature), states_.at(row, feature),
                    sizeof(bf16) * kColumns);
        std::memcpy(first_tokens_.context.at(sequence.index, feature), context_.at(row, feature),
                    sizeof(bf16) * kColumns);
      }
      row += sequence.length;
    }
  }

  void run_layer(const Layer& layer, const Group& group) {
    attend(layer, group, std::numeric_limits<std::int64_t>::max());
    // Rows in parts of equal size, since a part's sums and states must fit the cache.
    const std::int64_t num_parts = (num_rows_ + kGroupRows - 1) / kGroupRows;
    const std::int64_t part = whole_blocks((num_rows_ + num_parts - 1) / num_parts);
    for (std::int64_t first = 0; first < num_rows_; first += part) {
      after_attention(layer, states_.from(first), context_.from(first), std::min(part, num_rows_ - first));
    }
  }

  // Head by head, so that a head's queries, keys and values are still near when attention takes them. Of each sequence
  // at most so many queries are wanted.
  void attend(const Layer& layer, const Group& group, std::int64_t most_queries) {
    const std::int64_t width = 3 * shape_.head_size;
    bf16* rows = query_key_value_memory_.of(num_rows_ * width);
    for (std::int64_t head = 0; head < shape_.num_heads; ++head) {
      multiply(states_, num_rows_, {layer.query_key_value, hidden_}, head * width / 32, width / 32,
               [&](std::int64_t row, std::int64_t output, __m512 low, __m512 high) {
                 const float* bias = layer.query_key_value_bias + head * width + output;
                 bf16* place = rows + row * width + output;
                 store(place, _mm512_add_ps(low, _mm512_loadu_ps(bias)));
                 store(place + 16, _mm512_add_ps(high, _mm512_loadu_ps(bias + 16)));
               });
      std::int64_t first = 0;
      for (const Sequence& sequence : group.sequences) {
        bf16* query = rows + first * width;
        if (batch_.num_rotated) rotate(query, sequence);
        head_.attend(query, query + shape_.head_size, query + 2 * shape_.head_size, sequence.length,
                     std::min(most_queries, sequence.length), batch_.causal, context_, first, head * shape_.head_size);
        first += sequence.length;
      }
    }
  }

  // Turns a head's queries and keys, and the values if they turn too; neighbouring features are a plane.
  void rotate(bf16* rows, const Sequence& sequence) {
    const std::int64_t size = shape_.head_size;
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for (std::int64_t i = 0; i < sequence.length; ++i) {
      for (std::int64_t feature = 0; feature < size; feature += 16) {
        const std::int64_t plane = ((sequence.start + i) * size + feature) / 2;
        const __m512 c = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(batch_.cosine + plane)));
        const __m512 s = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(batch_.sine + plane)));
        for (std::int64_t vector = 0; vector < batch_.num_rotated; ++vector) {
          bf16* place = rows + i * 3 * size + vector * size + feature;
          const __m512 pair = load(place);
          // x cos - y sin, y cos + x sin
          store(place, _mm512_fmaddsub_ps(pair, c, _mm512_mul_ps(_mm512_permute_ps(pair, 0xb1), s)));
        }
      }
    }
  }

  // Attention's output layer with its norm, and the layers that widen and narrow with theirs.
  void after_attention(const Layer& layer, Blocked states, Blocked context, std::int64_t rows) {
    float* sums = sums_memory_.of(rows * hidden_);
    accumulate(context, rows, {layer.attention_output, hidden_}, 0, hidden_ / 32, true, sums);
    add_norm(sums, layer.attention_output_bias, layer.attention_norm_weight, layer.attention_norm_bias, states, rows);
    for (std::int64_t first = 0; first < shape_.intermediate_size; first += kWideColumns) {
      const std::int64_t columns = std::min(kWideColumns, shape_.intermediate_size - first);
      const Blocked wide{wide_memory_.of(rows * columns), columns};
      multiply(states, rows, {layer.widen, hidden_}, first / 32, columns / 32,
               [&](std::int64_t row, std::int64_t output, __m512 low, __m512 high) {
                 const float* bias = layer.widen_bias + first + output;
                 bf16* place = wide.at(row, output);
                 store(place, gelu(_mm512_add_ps(low, _mm512_loadu_ps(bias))));
                 store(place + 16, gelu(_mm512_add_ps(high, _mm512_loadu_ps(bias + 16))));
               });
      accumulate(wide, rows, {layer.narrow, shape_.intermediate_size}, first, hidden_ / 32, first == 0, sums);
    }
    add_norm(sums, layer.narrow_bias, layer.norm_weight, layer.norm_bias, states, rows);
  }

  // states = norm(sums + bias + states)
  void add_norm(float* sums, const float* bias, const float* norm_weight, const float* norm_bias, Blocked states,
                std::int64_t rows) {
    const float share = 1.0f / float(hidden_);
    for (std::int64_t row = 0; row < rows; ++row) {
      float* block = sums + row / 32 * (hidden_ / 32) * kSums;
      const auto place = [&](std::int64_t feature) {
        return block + place_of(row % 32) + feature / 32 * kSums + feature % 32 / 16 * kTileSums;
      };
      __m512 total = _mm512_setzero_ps();
      for (std::int64_t feature = 0; feature < hidden_; feature += 16) {
        const __m512 added = _mm512_add_ps(_mm512_loadu_ps(bias + feature), load(states.at(row, feature)));
        const __m512 sum = _mm512_add_ps(_mm512_load_ps(place(feature)), added);
        _mm512_store_ps(place(feature), sum);
        total = _mm512_add_ps(total, sum);
      }
      const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) * share);
      __m512 squares = _mm512_setzero_ps();
      for (std::int64_t feature = 0; feature < hidden_; feature += 16) {
        const __m512 centred = _mm512_sub_ps(_mm512_load_ps(place(feature)), mean);
        squares = _mm512_fmadd_ps(centred, centred, squares);
      }
      const float variance = _mm512_reduce_add_ps(squares) * share;
      const __m512 inverse = _mm512_set1_ps(1.0f / __builtin_sqrtf(variance + float(shape_.epsilon)));
      for (std::int64_t feature = 0; feature < hidden_; feature += 16) {
        const __m512 unit = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(place(feature)), mean), inverse);
        store(states.at(row, feature), _mm512_fmadd_ps(unit, _mm512_loadu_ps(norm_weight + feature),
                                                       _mm512_loadu_ps(norm_bias + feature)));
      }
    }
  }

  const Layer* layers_;
  const Shape& shape_;
  const Batch& batch_;
  std::int64_t hidden_;
  FirstTokens first_tokens_;
  Head head_;
  std::int64_t num_rows_ = 0;
  Blocked states_{}, context_{};
  Scratch<bf16> states_memory_, context_memory_, query_key_value_memory_, wide_memory_;
  Scratch<float> sums_memory_;
};

}  // namespace

// The states [T, H] after all blocks, to `out`, which may be the same memory; or those of first tokens, [N, H]. False if
// memory ran out.
extern "C" bool encode_packed(const Layer* layers, const Shape* shape, const Batch* batch, const bf16* states,
                              bf16* out, int num_threads) try {
  const std::vector<Group> groups = make_groups(*batch, num_threads);
  const std::int64_t hidden = shape->num_heads * shape->head_size;
  const std::int64_t num_first = batch->only_first ? whole_blocks(batch->num_sequences) : 0;
  const std::int64_t part = std::min(kGroupRows, whole_blocks(num_first / num_threads + 1));
  Scratch<bf16> first_states, first_context;
  const FirstTokens first_tokens{{first_states.of(num_first * hidden), hidden},
                                 {first_context.of(num_first * hidden), hidden}};
  std::atomic<bool> is_done = true;
#pragma omp parallel num_threads(num_threads)
  {
    const Tiles tiles;
    Worker worker(layers, *shape, *batch, first_tokens);
#pragma omp for schedule(dynamic)
    for (std::size_t i = 0; i < groups.size(); ++i) {
      try {
        worker.run(groups[i], states, out);
      } catch (const std::bad_alloc&) {  // no exception may leave a parallel region
        is_done = false;
      }
    }
#pragma omp for schedule(dynamic)
    for (std::int64_t first = 0; first < num_first; first += part) {
      try {
        worker.finish_first_tokens(first, std::min(part, num_first - first), out);
      } catch (const std::bad_alloc&) {
        is_done = false;
      }
    }
  }
  return is_done;
} catch (const std::bad_alloc&) {
  return false;
}
