#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/paged.h"
#include "formats/blocks.h"
#include "lapidary/model.h"

namespace lapidary {

/// What a source is opened for. A vision tower may lie in the same files as the text model: then
/// they are opened twice, and each source has the tensors and keys of its own part alone.
enum class Content {
  kText,        ///< A Gemma 3 text model with its vocabulary.
  kVision,      ///< A SigLIP encoder with Gemma 3's projector.
  kVocabulary,  ///< The vocabulary alone, of whatever model.
};

/// What the engine asks of a model beside its tensors, in no file's words. A key that a
/// source never has is absent: whoever asks knows a default, or refuses the model.
enum class Key {
  // Of text and vision.
  kLayers,
  kWidth,
  kFeedForward,
  kHeads,
  kNormEpsilon,
  // Of text.
  kName,
  kKvHeads,
  kHeadDim,
  kValueDim,  // Where a file gives values another dimension than keys, which is refused.
  kTrainedContext,
  kSlidingWindow,   // Tokens; 0: none.
  kSlidingPattern,  // Every so manyth layer is global; or an integer a layer, not 0: local.
  kQueryScalar,     // Queries are divided by its square root.
  kRopeBase,
  kLocalRopeBase,
  kRopeScaling,  // A string: "linear" or "none".
  kRopeFactor,
  kLogitSoftcap,  // 0: none.
  // Of vision.
  kImageSize,
  kPatchSize,
  kTextWidth,
  kPool,
  kImageMean,       // Three floats.
  kImageDeviation,  // Three floats.
  // Of a vocabulary: SentencePiece's pieces, one entry a token in each array.
  kTokens,
  kTokenScores,
  kTokenTypes,  // Integers: TokenType in text/vocabulary.h.
  kBos,
  kEos,  // Or all ids that end a text.
  kEot,
  kEom,
  kChatTemplate,
};

/// What a tensor is to the engine; docs/gemma3.md has the formulas. A matrix's first dimension is
/// the contiguous one, its columns.
enum class Part {
  // Of text.
  kEmbedding,
  kHead,  // Absent: the embedding.
  kOutputNorm,
  kQueryNorm,
  kKeyNorm,
  kPostAttentionNorm,
  kGate,
  kPostFeedForwardNorm,
  // Of text and vision, in each layer.
  kAttentionNorm,
  kQuery,
  kKey,
  kValue,
  kOutput,
  kFeedForwardNorm,
  kUp,
  kDown,
  // Of vision.
  kPatches,  // patch × patch × 3 × width.
  kPositions,
  kPostNorm,
  kSoftNorm,
  kProjection,  // text_width × width: transposed against every other matrix.
};

struct TensorName {
  Part part;
  int layer = -1;     // Of those that every layer has.
  bool bias = false;  // The bias of this part, not its weights.
};

/// One tensor as a source gives it: in the engine's form, whatever lies in the file. The weights of
/// an RMSNorm are what values are multiplied by.
struct TensorInfo {
  std::string name;  // The file's own.
  BlockType type;
  std::vector<std::uint64_t> shape;  // The contiguous dimension (columns) first, then rows.
  std::uint64_t bytes = 0;
  bool of_layer = false;   // Its name says that a layer cannot be computed without it.
  bool ends_file = false;  // No other tensor lies behind it in its file.

  std::uint64_t columns() const { return shape.empty() ? 1 : shape[0]; }
  std::uint64_t rows() const;  // Product of all dimensions but the first.
};

struct ArraySize {
  std::uint64_t count = 0;  // Elements.
  std::uint64_t bytes = 0;  // Of all elements, as the file has them; of strings, their texts.
};

/// One part of a model, whatever files it lies in and whatever they call its tensors and keys: the
/// source translates. Immutable; safe to read from several threads.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// The tensor that is `name`, or nullptr.
  virtual const TensorInfo* find(const TensorName& name) const = 0;
  /// All tensors of the files that may belong to this part of the model, also those without a Part.
  virtual std::span<const TensorInfo> tensors() const = 0;

  /// Copies bytes [offset, offset + out.size()) of `tensor` into `out`. Throws Error(kFile), naming
  /// the tensor, when its file has become shorter or cannot be read.
  virtual void read(const TensorInfo& tensor, std::uint64_t offset,
                    std::span<std::byte> out) const = 0;

  // Metadata. Absent: nullopt. Present with another type, or out of the type's range: Error(kFile)
  // naming the key.
  virtual std::optional<std::uint64_t> find_uint(Key key) const = 0;
  virtual std::optional<double> find_float(Key key) const = 0;
  virtual std::optional<std::string> find_string(Key key) const = 0;  // Up to 1 MiB.
  virtual std::optional<PagedVector<std::string>> find_strings(Key key) const = 0;
  virtual std::optional<PagedVector<double>> find_floats(Key key) const = 0;
  virtual std::optional<PagedVector<std::int64_t>> find_ints(Key key) const = 0;  // Or bools.

  /// What the array at `key` has in its file, as many entries as are then read; nothing where there
  /// is no array. To be looked at before the array is read: one byte of a file may become eight in
  /// memory.
  virtual std::optional<ArraySize> array_size(Key key) const = 0;

  /// For messages: what the file calls `key`; and the file that has it, or should have it, with
  /// what it calls the thing, as in "FILE: key NAME" and "FILE: tensor NAME".
  virtual std::string name(Key key) const = 0;
  virtual std::string where(Key key) const = 0;
  virtual std::string where(const TensorName& name) const = 0;
  virtual std::string where(const TensorInfo& tensor) const = 0;

  /// The paths of all its files, and their bytes.
  virtual std::vector<std::string> files() const = 0;
  virtual std::uint64_t file_bytes() const = 0;
};

/// Opens what lies at `path`: a GGUF file, the first of several, or a folder as Hugging Face
/// publishes models in. Throws Error(kFile) with one line that names the file and the key or
/// tensor, also when it holds no `content`.
std::unique_ptr<WeightSource> open_source(const std::string& path, Content content);

/// Where the vision part of the model at `path` may lie, by the names of files: none that has been
/// opened. A folder may hold both parts.
std::vector<std::string> vision_paths(const std::string& path);

/// All that lies at `path`, in its own words.
FileInfo list_file(const std::string& path);

/// The exact fp32 values of `rows` × `columns` values of `type` in `bytes` (row after row as in a
/// file); `out` holds rows × columns. The plain reference: one block at a time, scalar. `bytes`
/// must have the right size.
void dequantize(BlockType type, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace lapidary
