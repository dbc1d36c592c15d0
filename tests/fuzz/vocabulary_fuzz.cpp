// libFuzzer entry of vocabularies: whatever tokens a file has, they are a tokenizer or an Error. A
// line is a token behind the digit of its type; an empty line ends them, and a text to encode
// follows. The tokens that every vocabulary must have stand in front. The parts of a tokenizer are
// tried here and now, its thread with every eighth input.

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "../unit/memory_source.h"
#include "base/boundary.h"
#include "base/printable.h"
#include "lapidary/error.h"
#include "lapidary/utf8.h"
#include "text/cuts.h"
#include "text/tokenizer_impl.h"
#include "text/vocabulary.h"

namespace {

using lapidary::TokenId;
using lapidary::Tokenizer;

std::string_view take_line(std::string_view& input) {
  const std::string_view line = input.substr(0, input.find('\n'));
  input.remove_prefix(std::min(line.size() + 1, input.size()));
  return line;
}

void check(bool holds) {
  if (!holds) std::abort();
}

/// A text has the same ids in parts as in one.
void try_parts(const lapidary::WeightSource& source, std::string_view input) {
  lapidary::Pieces pieces;
  const lapidary::Vocabulary vocabulary = lapidary::read_vocabulary(source, pieces);
  const lapidary::Cuts cuts = lapidary::make_cuts(pieces, vocabulary.newlines_cut);
  sentencepiece::SentencePieceProcessor processor;
  const lapidary::PagedString proto = lapidary::serialize_model_proto(pieces);
  if (!processor.LoadFromSerializedProto(std::string_view(proto)).ok()) return;
  const std::string text = lapidary::replace_invalid_utf8(input);
  std::vector<int> whole, parts, part;
  check(processor.Encode(text, &whole).ok());
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t cut = cuts.find(rest, 3);
    check(processor.Encode(rest.substr(0, cut), &part).ok());
    parts.insert(parts.end(), part.begin(), part.end());
    rest.remove_prefix(cut);
  }
  check(parts == whole);
}

void try_text(const Tokenizer& tokenizer, std::string_view text, bool parse_control) {
  const std::vector<TokenId> ids = tokenizer.encode(text, parse_control);
  lapidary::Detokenizer detokenizer(tokenizer);
  std::string streamed;
  for (const TokenId id : ids) {
    check(id >= 0 && id < tokenizer.vocabulary_size());
    check(parse_control || !tokenizer.is_control(id));  // A text cannot forge one.
    check(tokenizer.piece(id).size() <= tokenizer.longest_piece());
    streamed += detokenizer.push(id);
  }
  streamed += detokenizer.finish();
  check(streamed == tokenizer.decode(ids));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  lapidary::MemorySource source = lapidary::small_vocabulary();
  for (std::string_view line = take_line(input); !line.empty(); line = take_line(input)) {
    const double score = -static_cast<double>(source.tokens().size());
    source.add_token(std::string(line.substr(1)), line.front() - '0', score);
  }
  try {
    lapidary::at_boundary([&] {
      try_parts(source, input);
      if (size % 8 != 0) return;
      const Tokenizer tokenizer = lapidary::load_tokenizer(source);
      lapidary::finish_loading(tokenizer);
      try_text(tokenizer, input, false);
      try_text(tokenizer, input, true);
    });
  } catch (const lapidary::Error& error) {
    check(error.code() == lapidary::ErrorCode::kFile);
    check(lapidary::is_printable(error.what(), lapidary::kMostOfALine));
  }
  return 0;
}
