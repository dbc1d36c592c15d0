#pragma once

// Makes GGUF files for tests, valid ones and ones that are wrong in a chosen place.

#include <unistd.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/blocks.h"

namespace lapidary::test {

/// A file of its own in the temporary folder, gone with this object.
class TempFile {
 public:
  explicit TempFile(std::string_view content = {}) {
    const char* const folder = std::getenv("TMPDIR");
    path_ = std::string(folder != nullptr && *folder != 0 ? folder : "/tmp") + "/lapidary-XXXXXX";
    const int fd = ::mkstemp(path_.data());
    if (fd < 0) throw std::runtime_error("no temporary file: " + path_);
    ::close(fd);
    write(content);
  }
  ~TempFile() { ::unlink(path_.c_str()); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  void write(std::string_view content) const {
    std::ofstream out(path_, std::ios::binary | std::ios::trunc);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    out.close();
    if (!out) throw std::runtime_error("cannot write " + path_);
  }
  /// Overwrites one byte.
  void patch(std::size_t offset, char byte) const {
    std::fstream out(path_, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(offset));
    out.put(byte);
    out.close();
    if (!out) throw std::runtime_error("cannot write " + path_);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// The bytes of a number as files hold them.
template <class T>
std::string number_bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

/// A GGUF string: length, then text.
inline std::string string_bytes(std::string_view text) {
  return number_bytes<std::uint64_t>(text.size()) + std::string(text);
}

/// Keys, tensors and the fixed fields of one file; public, so that a test can make any of them
/// wrong before build().
class GgufBuilder {
 public:
  struct Key {
    std::string name;
    std::uint32_t type;
    std::string payload;
  };
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> shape;
    std::uint32_t type;
    std::string data;
    std::optional<std::uint64_t>
        offset;  // Of the data section; where nothing: behind the tensor before.
  };

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::optional<std::uint64_t> key_count;     // Nothing: as many as there are.
  std::optional<std::uint64_t> tensor_count;  // Likewise.
  std::uint64_t alignment = 32;  // Of the layout; the key general.alignment is separate.
  std::vector<Key> keys;
  std::vector<Tensor> tensors;

  /// Adds a key, or replaces the first of that name.
  GgufBuilder& set(std::string_view name, std::uint32_t type, std::string payload) {
    for (Key& key : keys) {
      if (key.name == name) {
        key.type = type;
        key.payload = std::move(payload);
        return *this;
      }
    }
    keys.push_back({std::string(name), type, std::move(payload)});
    return *this;
  }
  GgufBuilder& set_u32(std::string_view name, std::uint32_t v) {
    return set(name, 4, number_bytes(v));
  }
  GgufBuilder& set_i32(std::string_view name, std::int32_t v) {
    return set(name, 5, number_bytes(v));
  }
  GgufBuilder& set_f32(std::string_view name, float v) { return set(name, 6, number_bytes(v)); }
  GgufBuilder& set_bool(std::string_view name, bool v) {
    return set(name, 7, std::string(1, v ? 1 : 0));
  }
  GgufBuilder& set_string(std::string_view name, std::string_view v) {
    return set(name, 8, string_bytes(v));
  }
  GgufBuilder& set_array(std::string_view name, std::uint32_t element_type, std::uint64_t count,
                         std::string_view elements) {
    return set(name, 9, number_bytes(element_type) + number_bytes(count) + std::string(elements));
  }
  GgufBuilder& set_strings(std::string_view name, const std::vector<std::string>& strings) {
    std::string elements;
    for (const std::string& text : strings) elements += string_bytes(text);
    return set_array(name, 8, strings.size(), elements);
  }
  template <class T>
  GgufBuilder& set_numbers(std::string_view name, std::uint32_t type,
                           const std::vector<T>& numbers) {
    std::string elements;
    for (const T number : numbers) elements += number_bytes(number);
    return set_array(name, type, numbers.size(), elements);
  }
  GgufBuilder& remove_key(std::string_view name) {
    std::erase_if(keys, [&](const Key& key) { return key.name == name; });
    return *this;
  }

  GgufBuilder& add_tensor(std::string name, std::vector<std::uint64_t> shape, BlockType type,
                          std::string data) {
    tensors.push_back({std::move(name), std::move(shape), static_cast<std::uint32_t>(type),
                       std::move(data), std::nullopt});
    return *this;
  }
  GgufBuilder& remove_tensor(std::string_view name) {
    std::erase_if(tensors, [&](const Tensor& tensor) { return tensor.name == name; });
    return *this;
  }
  Tensor& tensor(std::string_view name) {
    for (Tensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    throw std::runtime_error("the builder has no tensor " + std::string(name));
  }

  /// The bytes before the data section, not padded.
  std::string header() const {
    std::string out = magic + number_bytes(version);
    out += number_bytes<std::uint64_t>(tensor_count.value_or(tensors.size()));
    out += number_bytes<std::uint64_t>(key_count.value_or(keys.size()));
    for (const Key& key : keys)
      out += string_bytes(key.name) + number_bytes(key.type) + key.payload;
    std::uint64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      out += string_bytes(tensor.name);
      out += number_bytes(static_cast<std::uint32_t>(tensor.shape.size()));
      for (const std::uint64_t size : tensor.shape) out += number_bytes(size);
      out += number_bytes(tensor.type) + number_bytes(tensor.offset.value_or(offset));
      offset += padded(tensor.data.size());
    }
    return out;
  }

  std::string build() const {
    std::string out = header();
    out.resize(padded(out.size()));
    for (const Tensor& tensor : tensors) {
      out += tensor.data;
      out.resize(padded(out.size()));
    }
    return out;
  }

 private:
  std::size_t padded(std::size_t size) const {
    return static_cast<std::size_t>((size + alignment - 1) / alignment * alignment);
  }
};

/// Sizes of tiny_model(); the defaults give five local layers and a global one.
struct TinyModel {
  std::uint32_t layers = 6;
  std::uint32_t width = 64;
  std::uint32_t feed_forward = 128;
  std::uint32_t query_heads = 2;
  std::uint32_t kv_heads = 1;
  std::uint32_t head_dim = 32;
  std::uint32_t sliding_window = 16;
  std::uint32_t context = 512;
  BlockType type = BlockType::kF32;  // Of the matrices: kF32, kQ8_0, or kQ6_K where widths allow.
};

/// Numbers that look random and are the same everywhere.
class TinyRandom {
 public:
  explicit TinyRandom(std::uint64_t seed = 1) : state_(seed) {}
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  std::uint64_t below(std::uint64_t limit) {
    return (std::uint64_t{next()} << 31 | next()) % limit;
  }
  /// In [-1, 1).
  float uniform() { return static_cast<float>(next()) / 1073741824.0F - 1.0F; }

 private:
  std::uint64_t state_;
};

/// Ids of tiny_vocabulary() that tests name.
inline constexpr int kTinyBytes = 8;      // First of the 256 byte tokens.
inline constexpr int kTinyLetters = 264;  // "▁", then "a" … "z".

/// Tokens, scores and types of a vocabulary that can spell anything: the named control tokens, all
/// bytes, "▁", letters, the pairs of a consonant with a vowel, and "\n" as a user-defined token.
inline void set_tiny_vocabulary(GgufBuilder& file) {
  std::vector<std::string> tokens = {"<pad>",
                                     "<eos>",
                                     "<bos>",
                                     "<unk>",
                                     "<start_of_turn>",
                                     "<end_of_turn>",
                                     "<start_of_image>",
                                     "<end_of_image>"};
  std::vector<std::int32_t> types = {3, 3, 3, 2, 3, 3, 3, 3};
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (int i = 0; i < 256; ++i) {
    tokens.push_back(std::string("<0x") + kDigits[i >> 4] + kDigits[i & 15] + ">");
    types.push_back(6);
  }
  tokens.push_back("\xE2\x96\x81");
  for (char c = 'a'; c <= 'z'; ++c) tokens.push_back(std::string(1, c));
  for (const char c : std::string_view("bcdfghjklmnpqrstvwxyz")) {
    for (const char v : std::string_view("aeiou")) tokens.push_back({c, v});
  }
  types.resize(tokens.size(), 1);
  tokens.push_back("\n");
  types.push_back(4);
  std::vector<float> scores;
  for (std::size_t i = 0; i < tokens.size(); ++i) scores.push_back(-static_cast<float>(i));
  file.set_string("tokenizer.ggml.model", "llama");
  file.set_strings("tokenizer.ggml.tokens", tokens);
  file.set_numbers("tokenizer.ggml.scores", 6, scores);
  file.set_numbers("tokenizer.ggml.token_type", 5, types);
  file.set_u32("tokenizer.ggml.bos_token_id", 2);
  file.set_u32("tokenizer.ggml.eos_token_id", 1);
  file.set_u32("tokenizer.ggml.unknown_token_id", 3);
  file.set_u32("tokenizer.ggml.padding_token_id", 0);
}
inline constexpr std::uint64_t kTinyVocabulary = 8 + 256 + 1 + 26 + 21 * 5 + 1;

/// `values` random numbers in [center - spread, center + spread) as F32, or as Q8_0 or Q6_K blocks
/// of a spread of 1/16 around 0.
inline std::string random_tensor(TinyRandom& random, BlockType type, std::uint64_t values,
                                 float center, float spread) {
  std::string data;
  if (type == BlockType::kF32) {
    for (std::uint64_t i = 0; i < values; ++i)
      data += number_bytes(center + spread * random.uniform());
    return data;
  }
  if (type == BlockType::kQ6_K) {
    for (std::uint64_t super = 0; super < values / 256; ++super) {
      for (int i = 0; i < 208; ++i) data += static_cast<char>(random.next() % 256);
      data += number_bytes<std::uint16_t>(0x0100);  // 2^-16 as half: 127 · ±32 of it.
    }
    return data;
  }
  if (type != BlockType::kQ8_0)
    throw std::runtime_error("random_tensor makes F32, Q8_0 and Q6_K only");
  for (std::uint64_t block = 0; block < values / 32; ++block) {
    data += number_bytes<std::uint16_t>(0x1000);  // 2^-11 as half: ±127 of it are ±1/16.
    for (int i = 0; i < 32; ++i) {
      data += number_bytes(static_cast<std::int8_t>(static_cast<int>(random.next() % 255) - 127));
    }
  }
  return data;
}

/// A whole Gemma 3 file that loads and computes: every key, a vocabulary of kTinyVocabulary tokens,
/// random weights.
inline GgufBuilder tiny_model(const TinyModel& shape = {}) {
  GgufBuilder file;
  file.set_string("general.architecture", "gemma3").set_string("general.name", "tiny");
  file.set_u32("gemma3.context_length", shape.context);
  file.set_u32("gemma3.embedding_length", shape.width);
  file.set_u32("gemma3.block_count", shape.layers);
  file.set_u32("gemma3.feed_forward_length", shape.feed_forward);
  file.set_u32("gemma3.attention.head_count", shape.query_heads);
  file.set_u32("gemma3.attention.head_count_kv", shape.kv_heads);
  file.set_u32("gemma3.attention.key_length", shape.head_dim);
  file.set_u32("gemma3.attention.value_length", shape.head_dim);
  file.set_f32("gemma3.attention.layer_norm_rms_epsilon", 1e-6F);
  file.set_u32("gemma3.attention.sliding_window", shape.sliding_window);
  file.set_f32("gemma3.rope.freq_base", 1e6F);
  set_tiny_vocabulary(file);

  TinyRandom random;
  const auto matrix = [&](const std::string& name, std::uint64_t columns, std::uint64_t rows) {
    file.add_tensor(name, {columns, rows}, shape.type,
                    random_tensor(random, shape.type, columns * rows, 0.0F, 0.0625F));
  };
  const auto norm = [&](const std::string& name, std::uint64_t size) {
    file.add_tensor(name, {size}, BlockType::kF32,
                    random_tensor(random, BlockType::kF32, size, 1.0F, 0.25F));
  };
  const std::uint64_t query_width = std::uint64_t{shape.query_heads} * shape.head_dim;
  const std::uint64_t kv_width = std::uint64_t{shape.kv_heads} * shape.head_dim;
  matrix("token_embd.weight", shape.width, kTinyVocabulary);
  for (std::uint32_t i = 0; i < shape.layers; ++i) {
    const std::string layer = "blk." + std::to_string(i) + ".";
    norm(layer + "attn_norm.weight", shape.width);
    matrix(layer + "attn_q.weight", shape.width, query_width);
    matrix(layer + "attn_k.weight", shape.width, kv_width);
    matrix(layer + "attn_v.weight", shape.width, kv_width);
    norm(layer + "attn_q_norm.weight", shape.head_dim);
    norm(layer + "attn_k_norm.weight", shape.head_dim);
    matrix(layer + "attn_output.weight", query_width, shape.width);
    norm(layer + "post_attention_norm.weight", shape.width);
    norm(layer + "ffn_norm.weight", shape.width);
    matrix(layer + "ffn_gate.weight", shape.width, shape.feed_forward);
    matrix(layer + "ffn_up.weight", shape.width, shape.feed_forward);
    matrix(layer + "ffn_down.weight", shape.feed_forward, shape.width);
    norm(layer + "post_ffw_norm.weight", shape.width);
  }
  norm("output_norm.weight", shape.width);
  return file;
}

}  // namespace lapidary::test
