#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "batch_answer.h"
#include "chat_flag.h"
#include "request_file.h"
#include "speculation_flags.h"

namespace cli {

struct BatchOptions {
  ModelFlags model;
  SamplingFlags sampling;
  ChatFlag chat;
  SpeculationFlags speculation;
  ImageFlags images;
  std::string in;
  std::string out;
  std::string image_root;
  bool retry_failed = false;
  std::string shard;            ///< --shard, as it was given; empty: not at all.
  RequestShare share;           ///< Its meaning, and --numbered.
  int parallel = 0;             ///< 0: the scheduler's choice.
  std::string order = "input";  ///< "input" or "done".

  bool as_done() const { return order == "done"; }
};

/// A line of a file of requests, read and not answered.
struct BatchItem {
  BatchRequest request;
  std::uint64_t place = 0;  ///< Among the requests of all shards, from 0: its seed follows.
  std::optional<RequestError> wrong;  ///< Why it cannot be answered.
  std::string digest;  ///< Of what decides its answer, the seed of the batch left out.
};

/// Reads requests, and makes of them what a scheduler answers.
class Answerer {
 public:
  /// `options` and `model` must outlive it. Makes the engine.
  Answerer(const BatchOptions& options, const lapidary::Model& model);

  /// Bytes that a request may have.
  std::uint64_t most_line_bytes() const;

  /// Bytes that the requests under way may take together, as prompt_bytes() counts them.
  std::uint64_t most_prompt_bytes() const;

  /// The request that `requests` gave last, whose text is `line`.
  BatchItem read(const RequestFile& requests, const std::string& line) const;

  /// With its pictures encoded. Throws RequestError for what cannot be answered,
  /// Error(kInterrupted) and std::bad_alloc.
  lapidary::Request prepare(const BatchItem& item, std::uint64_t seed);

  const lapidary::Engine& engine() const { return engine_; }

  /// Says, once, what went wrong with the prefix cache on disk.
  void tell_prefix_cache() { prefix_warning_.tell(options_.model.quiet, engine_.prefix_cache()); }
  const std::string& name() const { return name_; }  ///< Of the model.
  const lapidary::Tokenizer& tokenizer() const { return model_.tokenizer(); }

 private:
  std::vector<lapidary::ContentPart> read_parts(const std::vector<RequestPart>& parts,
                                                std::vector<Picture>& pictures) const;
  bool in_turns(const BatchRequest& request) const;
  std::string digest(const BatchRequest& request) const;
  lapidary::Prompt make_prompt(const BatchRequest& request, std::vector<Picture>& pictures) const;
  lapidary::Request make_request(const BatchRequest& request, std::uint64_t seed);

  const BatchOptions& options_;
  const lapidary::Model& model_;
  lapidary::Engine engine_;
  PrefixWarning prefix_warning_;
  int context_;
  PictureEncoder encoder_;
  std::uint64_t memory_;  // For requests and their pictures; 0: no limit.
  std::string folder_;    // Of the requests, from which names of pictures go out.
  bool chat_;
  std::string weights_;  // What decides answers beside the requests: of all,
  std::string turns_;    // of those in turns,
  std::string views_;    // of those with pictures.
  std::string name_;
};

/// What a line of answers says of `error`.
RequestError request_error(const lapidary::Error& error);

/// What the prompt of `request` takes.
std::uint64_t prompt_bytes(const lapidary::Request& request);

}  // namespace cli
