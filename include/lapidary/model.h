#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lapidary/export.h"
#include "lapidary/stats.h"
#include "lapidary/tokenizer.h"

namespace lapidary {

/// How a model is loaded.
struct ModelOptions {
  int threads = 0;  ///< Threads that pack the weights; 0: physical cores within the cgroup's quota.
  std::string isa = {};  ///< "avx512", "avxvnni", "avx2", "sse41", "neon", "scalar"; empty:
                         ///< $LAPIDARY_ISA, else the best one.
  std::uint64_t memory_limit = 0;  ///< Bytes that weights and vocabulary may take; 0: what the
                                   ///< machine has available.
  bool screened_head = true;  ///< Lay the output matrix out so that drawing a token reads about
                              ///< 0.6 of it (0.75 of Q6_K). Changes no bit; false is faster
                              ///< where all logits of every position are asked for, and
                              ///< saves memory.
  Progress progress = {};     ///< Bytes read of the file.
  const std::atomic<bool>* cancel =
      nullptr;  ///< Set from elsewhere (a signal handler) to stop Model::load within some
                ///< milliseconds; looked at during that call only.
  std::string vision =
      {};  ///< The vision half: an mmproj GGUF file, or the folder that has both; empty: a text
           ///< model. Its header is checked at once, its weights are read with the first picture.
  std::uint64_t image_cache_bytes = std::uint64_t{64}
                                    << 20;  ///< Features kept in memory, oldest dropped first.
  std::string image_cache_folder = {};      ///< Features kept on disk as well, shared by processes.
  std::string weights = {};  ///< What the matrices of a text model are made into while they are
                             ///< read: "bf16", "f16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0",
                             ///< "q4_k", "q4_1", "q4_0"; empty: as the files have them. What is
                             ///< quantised in the files stays.
};

/// What a vision file says of itself: a SigLIP encoder and a projector.
struct VisionInfo {
  std::string path;                   ///< As given.
  int layers = 0;                     ///< Of the encoder.
  int width = 0;                      ///< Of the encoder's residual stream.
  int feed_forward = 0;               ///< Width of the layers' inner part.
  int heads = 0;                      ///< Of attention.
  int image_size = 0;                 ///< Pixels on a side.
  int patch_size = 0;                 ///< Pixels on a side.
  int tokens = 0;                     ///< Soft tokens that one view becomes: 256.
  int text_width = 0;                 ///< Of the projector's output.
  std::uint64_t parameters = 0;       ///< Weights of all tensors.
  std::uint64_t file_bytes = 0;       ///< Size of the file.
  std::uint64_t weight_bytes = 0;     ///< Packed in memory.
  std::vector<std::string> warnings;  ///< As those of ModelInfo.
};

/// How keys and values are kept.
enum class KvType {
  kBf16,  ///< 16 bits each.
  kInt8,  ///< 8 bits, and a scale for 16 of a key and for 32 of a value: 55 % of the memory, and
          ///< rounded more (docs/numerics.md).
};

/// How a conversation is written for a model.
enum class ChatTemplate {
  kNone,    ///< Of a file: it has no template. Of a prompt: texts as they are, each message but the
            ///< first on a line of its own.
  kGemma,   ///< Gemma's own, of any release: `<start_of_turn>user`.
  kChatML,  ///< `<|im_start|>user`, which many fine-tunes are made with.
  kOther,   ///< One that is not known here. Of a prompt: Gemma's.
};

/// What a model file says of itself. Everything comes from metadata; nothing is decided by a name.
struct ModelInfo {
  std::string name;                ///< general.name, or a folder's; may be empty.
  std::string architecture;        ///< "gemma3".
  int layers = 0;                  ///< Of the decoder.
  int width = 0;                   ///< d, the residual stream.
  int feed_forward = 0;            ///< ff.
  int query_heads = 0;             ///< Of attention.
  int kv_heads = 0;                ///< Each shared by query_heads / kv_heads of these.
  int head_dim = 0;                ///< Width of a head.
  int sliding_window = 0;          ///< Tokens; 0: every layer is global.
  int global_layers = 0;           ///< Layers that see the whole context.
  int trained_context = 0;         ///< Tokens.
  int vocabulary = 0;              ///< Tokens: rows of the output matrix, logits of a position.
  bool instruction_tuned = false;  ///< The file has a chat template.
  ChatTemplate chat_template = ChatTemplate::kNone;  ///< By what its template writes.
  std::vector<std::string> warnings;   ///< One line for everything in the file that is not used or
                                       ///< not understood; usually empty.
  std::uint64_t parameters = 0;        ///< Weights of all tensors.
  std::uint64_t file_bytes = 0;        ///< Size of the file.
  std::uint64_t weight_bytes = 0;      ///< Packed in memory, as the kernels read them.
  std::uint64_t vocabulary_bytes = 0;  ///< The tokenizer in memory.
  std::uint64_t bytes_per_token = 0;   ///< Weight bytes that decoding one token reads.
  std::uint64_t multiplications_per_token =
      0;  ///< Multiply-adds of one token's matrices in the layers, head not counted.

  /// The tensors of one type.
  struct TypeCount {
    std::string type;         ///< "Q4_K", "F32", …
    int tensors = 0;          ///< How many.
    std::uint64_t bytes = 0;  ///< In the file, all together.
  };
  std::vector<TypeCount> types;  ///< Largest first.

  /// What turns are written in unless told otherwise: ChatML for a file of that, else Gemma's own.
  ChatTemplate turns() const {
    return chat_template == ChatTemplate::kChatML ? chat_template : ChatTemplate::kGemma;
  }

  /// Bytes of keys and values at `tokens` tokens of context: with the 5:1 windows, or as if every
  /// layer were global.
  LAPIDARY_API std::uint64_t kv_bytes(int tokens, bool global_only = false,
                                      KvType kv = KvType::kBf16) const;
};

/// Weights and vocabulary of one model. Immutable, cheap to copy; shared by any number of sessions
/// on any number of threads. An empty one, as made without arguments or moved from, can be assigned
/// to and tested; every other use throws Error(kUsage).
class LAPIDARY_API Model {
 public:
  class LAPIDARY_NO_EXPORT Impl;  ///< Of the library's own.

  Model() noexcept = default;  ///< An empty one.

  /// Whether this is a model, not an empty one.
  explicit operator bool() const noexcept { return impl_ != nullptr; }

  /// Reads and packs `path`, a GGUF file or a folder as Hugging Face publishes models in; may be
  /// called by several threads at once. Throws Error(kFile) with the offending key or tensor,
  /// Error(kMemory) when the weights exceed the budget, Error(kUsage) for an unknown ISA or type or
  /// a number of threads out of range. A vision file whose width is not the model's is an
  /// Error(kFile). Error(kInterrupted) once `options.cancel` is set; what `options.progress` throws
  /// ends the load and passes unchanged. Error(kFailed) when not as many threads can be made as
  /// asked.
  static Model load(const std::string& path, const ModelOptions& options = {});

  // What these return is valid as long as a copy of the model is there. All throw Error(kUsage)
  // when it is empty, and nothing else; any thread may call them.
  const ModelInfo& info() const;       ///< What the file says of itself.
  const Tokenizer& tokenizer() const;  ///< Its vocabulary; copy it to keep it longer.
  const VisionInfo* vision() const;    ///< nullptr: loaded without a vision file.
  const std::string& isa() const;      ///< The instruction set that the weights' kernels run on.

  const Impl& impl() const;  ///< Of the library's own.

 private:
  explicit Model(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Reads the header of `path` only. Throws Error(kFile) with the offending key or tensor. This and
/// the functions below may be called from any thread.
LAPIDARY_API ModelInfo inspect(const std::string& path);

/// The same of a vision file (mmproj). Throws as inspect() does.
LAPIDARY_API VisionInfo inspect_vision(const std::string& path);

/// What is in a model file of any kind, for people.
struct FileInfo {
  std::string architecture;                                   ///< "gemma3"; "clip": a vision file.
  std::vector<std::pair<std::string, std::string>> metadata;  ///< Keys, and values on one printable
                                                              ///< line, cut where they are long.
  /// One tensor.
  struct Tensor {
    std::string name;                  ///< As in the file.
    std::string type;                  ///< "Q4_K", "F32", …
    std::vector<std::uint64_t> shape;  ///< The contiguous dimension first.
    std::uint64_t offset = 0;          ///< From the start of the file, of parts of its own.
    std::uint64_t bytes = 0;           ///< In the file.
  };
  std::vector<Tensor> tensors;  ///< In the order of the file.
};

/// Reads the header of `path` only. Throws Error(kFile) for what is no model file or folder.
LAPIDARY_API FileInfo inspect_file(const std::string& path);

/// The vocabulary of a model file, without its weights. Throws Error(kFile) with the offending key.
LAPIDARY_API Tokenizer load_tokenizer(const std::string& path);

}  // namespace lapidary
